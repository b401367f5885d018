/**
 * The way out of virtual routers and the way in to published ports, on this host.
 *
 *    router ─ port ═ mn… ════ mu… ═ host: routes, nftables (masquerade, publish, isolate)
 *
 * What should be there follows from the store; what is there is compared with it at every change
 * and every few seconds, and repaired.
 */
import type { Links } from '../datapath/link.ts'
import type { Revision, Store } from '../topology/store.ts'
import type { Run, Settings } from './host.ts'

export interface GatewaySettings {
  readonly store: Store
  readonly links: Links
  readonly hostId: string
  /** How commands are run; for tests. */
  readonly run?: Run
  /** Where kernel settings are; for tests. */
  readonly settings?: Settings
}

/** Something that was not as it should be and was put right. */
export interface Repair {
  /** Milliseconds since 1970. */
  readonly time: number
  readonly what: string
}

export interface GatewayStatus {
  readonly uplinks: readonly {
    readonly router: string
    readonly interface: string
    readonly hostAddress: string
    readonly subnets: readonly string[]
  }[]
  readonly publications: number
  /** What does not work now, in sentences; empty when all is well. */
  readonly problems: readonly string[]
}

export interface Gateway {
  /** Resolves when the host reflects every change up to `revision`. @throws GatewayError */
  settled(revision: Revision): Promise<void>
  /** The latest repairs, oldest first. */
  readonly repairs: readonly Repair[]
  status(): GatewayStatus
  /** Stops watching and repairing; links and rules stay and go on working. */
  close(): Promise<void>
}

/** Makes and keeps the uplinks of this host's virtual routers. Returns at once; `settled` tells when they stand. */
export declare function startGateway(settings: GatewaySettings): Gateway

/** Removes links, rules and the nftables table from the kernel; the store keeps its objects. */
export declare function removeAll(
  settings: Pick<GatewaySettings, 'links' | 'run'>,
): Promise<void>
