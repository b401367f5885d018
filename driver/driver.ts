/**
 * Docker's side of the agent: both sockets, the network and IPAM drivers, and the reconciler.
 * What `main.ts` starts; everything else in this folder hangs below it.
 */
import type { Links } from '../datapath/link.ts'
import type { Revision, Store } from '../topology/store.ts'
import type { DockerView } from './docker.ts'
import { DriverError } from './error.ts'
import type { Reconciler } from './reconciler.ts'

export interface DriverSettings {
  /** Where Docker finds the driver; the file's name without `.sock` is the driver's name. */
  readonly socketPath: string
  /** The agent's own API, for `midonet status` and `midonet trace`. */
  readonly apiSocketPath: string
  /** Calls that come before it resolves wait for it, up to 5 s; its rejection is told to Docker. */
  readonly store: Promise<Store>
  readonly links: Links
  readonly hostId: string | Promise<string>
  /** Resolves when datapath and gateway reflect a revision; Join and published ports wait for it. */
  readonly settled: (revision: Revision) => Promise<void>
  /** Answers `GET /status` of the API, as JSON. */
  readonly status: () => Promise<unknown>
  /** Answers `POST /trace` of the API, as JSON; its rejection becomes a 400 with the message. */
  readonly trace: (port: string, packet: string) => Promise<unknown>
  /** `openDocker(path)` of docker.ts. Without it nothing is compared with Docker. */
  readonly docker?: DockerView | undefined
}

export interface Driver {
  readonly reconciler: Reconciler
  /** Stops answering; links and the store stay as they are. The store is not closed. */
  close(): Promise<void>
}

/**
 * Opens both sockets at once and resolves when they listen; the store may come later.
 * @throws SocketError code `IN_USE` when another agent listens there
 */
export async function startDriver(settings: DriverSettings): Promise<Driver> {
  throw new DriverError('NOT_READY', `not listening at ${settings.socketPath}`)
}
