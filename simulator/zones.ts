/**
 * Numbers for zones: one for each port, bridge and router that has filters or might get some, and
 * one more for each VLAN of a bridge that tells them apart.
 */
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
  /** 0 where VLANs are not told apart, and for untagged frames. */
  readonly vlan: number
  readonly state: FlowState
  readonly memberships: Memberships
  readonly zones: Zones
}

/** What other hosts call a zone. */
export function zoneName({ id, vlan }: Zone): string {
  return vlan === 0 ? id : `${id}/${vlan}`
}

/** A zone with those of its VLANs. */
interface Numbered extends Zone {
  readonly vlans: Map<number, Zone>
}

export class Zones {
  readonly #state: FlowState
  readonly #memberships: Memberships
  readonly #byName = new Map<string, Numbered>()
  readonly #byNumber = new Map<number, Zone>()
  #count = 0

  constructor(state: FlowState, memberships: Memberships) {
    this.#state = state
    this.#memberships = memberships
  }

  /** The zone of a port or device; it keeps its connections when it is made anew. */
  of(kind: ZoneKind, id: string): Zone {
    const known = this.#byName.get(`${kind} ${id}`)
    if (known !== undefined) return known
    const zone = this.#make(kind, id, 0)
    this.#byName.set(`${kind} ${id}`, zone)
    return zone
  }

  /** The zone of a name that `zoneName` gave. */
  find(kind: ZoneKind, name: string): Zone | undefined {
    const [id = '', vlan] = name.split('/')
    const zone = this.#byName.get(`${kind} ${id}`)
    return vlan === undefined || zone === undefined ? zone : this.inVlan(zone, Number(vlan) & 0xfff)
  }

  /** The zone of one VLAN within a bridge's or port's. */
  inVlan(zone: Zone, vlan: number): Zone {
    if (vlan === zone.vlan) return zone
    const whole = this.#byName.get(`${zone.kind} ${zone.id}`)
    const known = whole?.vlans.get(vlan)
    if (known !== undefined) return known
    const made = this.#make(zone.kind, zone.id, vlan)
    whole?.vlans.set(vlan, made)
    return made
  }

  #make(kind: ZoneKind, id: string, vlan: number): Numbered {
    const number = ++this.#count
    const shared = { state: this.#state, memberships: this.#memberships, zones: this }
    const zone = { number, kind, id, vlan, ...shared, vlans: new Map<number, Zone>() }
    this.#byNumber.set(number, zone)
    return zone
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
    for (const { number } of [zone, ...zone.vlans.values()]) {
      this.#byNumber.delete(number)
      this.#state.forget(number)
    }
  }
}
