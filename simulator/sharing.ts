/**
 * What this host has learned and others should know: where MAC addresses are, who a router's
 * neighbours are, which ports have their interface. It goes to the store, and from there to the
 * other hosts (foreign.ts).
 *
 * Only hosts that can reach others share. What is no longer so is taken back by who said it.
 */
import { formatIp, formatMac } from '../packet/address.ts'
import { formatWords6 } from '../packet/address6.ts'
import { learnedMacId, learnedNeighborId } from '../topology/host-schema.ts'
import type { ObjectOf } from '../topology/model.ts'
import type { MacEntry } from './bridge.ts'
import type { VirtualRouterPort } from './router.ts'
import type { AnyAddress } from './tag.ts'

export const limits = {
  /** Facts that wait to be written; beyond it new ones stay this host's own. */
  pending: 20_000,
} as const

/** A fact to be written to the store, or to be taken out of it if it is this host's. */
export type SharedFact =
  | {
      readonly kind: 'learnedMac'
      readonly id: string
      readonly value: ObjectOf<'learnedMac'> | undefined
    }
  | {
      readonly kind: 'learnedNeighbor'
      readonly id: string
      readonly value: ObjectOf<'learnedNeighbor'> | undefined
    }
  | {
      readonly kind: 'portActive'
      readonly id: string
      readonly value: ObjectOf<'portActive'> | undefined
    }

export class Sharing {
  readonly #host: string
  readonly #isOn: () => boolean
  readonly #pending = new Map<string, SharedFact>()

  constructor(host: string, isOn: () => boolean) {
    this.#host = host
    this.#isOn = isOn
  }

  get isOn(): boolean {
    return this.#isOn()
  }

  /** What is to be written, since the last time. */
  take(): readonly SharedFact[] {
    if (this.#pending.size === 0) return nothing
    const facts = [...this.#pending.values()]
    this.#pending.clear()
    return facts
  }

  putMac({ mac, vlan, port }: MacEntry): void {
    const bridge = port.bridge.id
    const id = learnedMacId(bridge, vlan, formatMac(mac))
    const value = { id, bridge, vlan, mac: formatMac(mac), port: port.id, host: this.#host }
    this.#add({ kind: 'learnedMac', id, value })
  }

  dropMac({ mac, vlan, port }: MacEntry): void {
    const id = learnedMacId(port.bridge.id, vlan, formatMac(mac))
    this.#add({ kind: 'learnedMac', id, value: undefined })
  }

  putNeighbor(port: VirtualRouterPort, address: AnyAddress, mac: number): void {
    const [text, router] = [format(address), port.router.id]
    const id = learnedNeighborId(router, text)
    const value = { id, router, port: port.id, address: text, mac: formatMac(mac) }
    this.#add({ kind: 'learnedNeighbor', id, value: { ...value, host: this.#host } })
  }

  dropNeighbor(port: VirtualRouterPort, address: AnyAddress): void {
    const id = learnedNeighborId(port.router.id, format(address))
    this.#add({ kind: 'learnedNeighbor', id, value: undefined })
  }

  /** Takes back what is known only as it stands in the store. */
  drop(kind: 'learnedMac' | 'learnedNeighbor', id: string): void {
    this.#add({ kind, id, value: undefined })
  }

  /** The interface of a port of this host is in the datapath, or is no more. */
  putActive(port: string, isActive: boolean): void {
    const value = isActive ? { id: port, host: this.#host } : undefined
    this.#add({ kind: 'portActive', id: port, value })
  }

  #add(fact: SharedFact): void {
    if (!this.isOn) return
    const name = `${fact.kind} ${fact.id}`
    if (this.#pending.has(name) || this.#pending.size < limits.pending)
      this.#pending.set(name, fact)
  }
}

const nothing: readonly SharedFact[] = []

function format(address: AnyAddress): string {
  return typeof address === 'number' ? formatIp(address) : formatWords6(address)
}
