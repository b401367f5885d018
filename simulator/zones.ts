/** Numbers for zones: one for each port, bridge and router that has filters or might get some. */
import type { FlowState } from './flow-state.ts'
import type { Memberships } from './policy.ts'
import { zoneIpv6 } from './state-entry.ts'
import type { ZoneKind } from './state-message.ts'

/** Where connections are told apart: one for each port, bridge and router. */
export interface Zone {
  readonly number: number
  readonly kind: ZoneKind
  /** Of the port or device. */
  readonly id: string
  readonly state: FlowState
  readonly memberships: Memberships
}

export class Zones {
  readonly #state: FlowState
  readonly #memberships: Memberships
  readonly #byName = new Map<string, Zone>()
  readonly #byNumber = new Map<number, Zone>()
  #count = 0

  constructor(state: FlowState, memberships: Memberships) {
    this.#state = state
    this.#memberships = memberships
  }

  /** The zone of a port or device; it keeps its connections when it is made anew. */
  of(kind: ZoneKind, id: string): Zone {
    const known = this.find(kind, id)
    if (known !== undefined) return known
    const number = ++this.#count
    const zone = { number, kind, id, state: this.#state, memberships: this.#memberships }
    this.#byName.set(`${kind} ${id}`, zone)
    this.#byNumber.set(number, zone)
    return zone
  }

  find(kind: ZoneKind, id: string): Zone | undefined {
    return this.#byName.get(`${kind} ${id}`)
  }

  /** The zone that an entry of either family is of. */
  at(number: number): Zone | undefined {
    return this.#byNumber.get(number & ~zoneIpv6)
  }

  /** The object is gone, and with it the connections that its chains knew. */
  drop(kind: string, id: string): void {
    const zone = this.#byName.get(`${kind} ${id}`)
    if (zone === undefined) return
    this.#byName.delete(`${kind} ${id}`)
    this.#byNumber.delete(zone.number)
    this.#state.forget(zone.number)
  }
}
