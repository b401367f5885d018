/**
 * Packets that wait for a next hop's MAC address. Each next hop is asked for at once and then every
 * second; a packet waits three seconds at most.
 */
import type { Offload } from '../datapath/datapath.ts'
import type { FlowKey } from '../packet/flow-key.ts'
import type { Missing } from './simulation.ts'
import type { AnyAddress, Tag } from './tag.ts'

export const limits = {
  packets: 256,
  /** Packets for one next hop. */
  packetsPerHop: 64,
  waitMs: 3_000,
  askMs: 1_000,
} as const

/** A packet with all that it takes to simulate it again. Ports are named: they may be made anew. */
export interface ParkedPacket {
  readonly packet: Uint8Array
  readonly offload: Offload | undefined
  readonly key: FlowKey
  /**
   * Where the walk starts: the port entered, or left by a packet that the agent made; empty for a
   * packet that came out of a tunnel.
   */
  readonly start: string
  readonly generated: boolean
  readonly endsMs: number
  /** It has waited for flow state: what it finds now counts. */
  readonly hasWaited?: boolean
}

/** A next hop that is asked for, and who waits for it. */
export interface Ask {
  readonly port: string
  readonly address: AnyAddress
  readonly tag: Tag
  nextMs: number
  packets: ParkedPacket[]
}

export class Parking {
  readonly #asks = new Map<Tag, Ask>()
  #count = 0

  /** Packets waiting now. */
  get count(): number {
    return this.#count
  }

  /** Takes a packet in. Returns the ask when it is a new one, undefined when there is no room. */
  park(missing: Missing, packet: ParkedPacket, nowMs: number): 'asked' | 'full' | Ask {
    const known = this.#asks.get(missing.tag)
    if (this.#count >= limits.packets || (known?.packets.length ?? 0) >= limits.packetsPerHop)
      return 'full'
    this.#count++
    if (known !== undefined) {
      known.packets.push(packet)
      return 'asked'
    }
    const { port, address, tag } = missing
    const ask = { port: port.id, address, tag, nextMs: nowMs + limits.askMs, packets: [packet] }
    this.#asks.set(tag, ask)
    return ask
  }

  /** Lets the packets go that wait for a fact. */
  release(tag: Tag): readonly ParkedPacket[] {
    const ask = this.#asks.get(tag)
    if (ask === undefined) return []
    this.#asks.delete(tag)
    this.#count -= ask.packets.length
    return ask.packets
  }

  /** Lets all packets go: the topology is another one. */
  releaseAll(): readonly ParkedPacket[] {
    return [...this.#asks.keys()].flatMap((tag) => this.release(tag))
  }

  /** The next hops to be asked for again now. */
  due(nowMs: number): readonly Ask[] {
    const due = [...this.#asks.values()].filter(({ nextMs }) => nextMs <= nowMs)
    for (const ask of due) ask.nextMs = nowMs + limits.askMs
    return due
  }

  /** Takes out the packets whose time is over, with the next hop that did not answer. */
  expired(nowMs: number): readonly (readonly [Ask, ParkedPacket])[] {
    const expired: [Ask, ParkedPacket][] = []
    for (const ask of this.#asks.values()) {
      const left = ask.packets.filter(({ endsMs }) => endsMs > nowMs)
      if (left.length === ask.packets.length) continue
      for (const packet of ask.packets) if (packet.endsMs <= nowMs) expired.push([ask, packet])
      this.#count -= ask.packets.length - left.length
      ask.packets = left
      if (left.length === 0) this.#asks.delete(ask.tag)
    }
    return expired
  }

  /** When something is due here next; Infinity when nobody waits. */
  nextMs(): number {
    let next = Number.POSITIVE_INFINITY
    for (const ask of this.#asks.values())
      next = Math.min(next, ask.nextMs, ask.packets[0]?.endsMs ?? next)
    return next
  }
}
