/**
 * A router's load balancer as compiled: which addresses and ports it listens on, which servers
 * stand behind them, and which of these a connection goes to.
 *
 * Members are chosen by rendezvous hashing: each scores by a hash of the connection and its own id,
 * and the highest wins. So all hosts choose alike, and a member that comes or goes moves only the
 * connections that it wins or had won. Weights: a member of weight w wins in proportion to w when
 * its score is -w / ln(h), h the hash as a number between 0 and 1.
 */
import { Distinguisher } from './distinguisher.ts'
import type { Lively } from './simulation.ts'
import type { Tag } from './tag.ts'

export const limits = {
  /** Clients that one sticky VIP remembers; beyond it the one remembered first is forgotten. */
  clients: 65_536,
  /** How long a client without connections is remembered. */
  clientIdleMs: 3_600_000,
  /** Clients looked at in one sweep of a VIP at least; else a twentieth of all. */
  clientsPerSweep: 256,
} as const

/** Of a VIP all ports, of a member the one that was asked for. */
export const anyPort = 0

export interface VirtualMember {
  readonly id: string
  readonly tag: Tag
  readonly address: number
  readonly port: number
  /** New connections it is to have in proportion to others; 0 while it must have none. */
  readonly share: number
  /** Whether connections that it has stay: not when it is ill; when down, unless they are sticky. */
  readonly keeps: boolean
  readonly keepsSticky: boolean
  readonly seed: number
}

/** A client of a sticky VIP and its member. */
export interface Stick extends Lively {
  readonly client: number
  readonly member: string
}

/** What a VIP is, as it stands in the topology. */
export interface VipSettings {
  readonly id: string
  readonly name: string
  readonly address: number
  readonly port: number
  readonly protocol: number
  readonly isSticky: boolean
  readonly poolTag: Tag
  readonly members: readonly VirtualMember[]
}

export class VirtualVip implements VipSettings {
  readonly id: string
  readonly name: string
  readonly address: number
  readonly port: number
  readonly protocol: number
  readonly isSticky: boolean
  readonly poolTag: Tag
  readonly members: readonly VirtualMember[]
  /** Those who may have new connections: of two that are even the first in the order of ids is ahead. */
  readonly #able: readonly VirtualMember[]
  readonly #seeds: Int32Array
  readonly #areEqual: boolean
  /** By clients' addresses, in the order they came; survives a new compilation. */
  readonly #sticks: Map<number, Stick>
  #hand: IterableIterator<Stick> | undefined

  constructor(settings: VipSettings, before: VirtualVip | undefined) {
    this.id = settings.id
    this.name = settings.name
    this.address = settings.address
    this.port = settings.port
    this.protocol = settings.protocol
    this.isSticky = settings.isSticky
    this.poolTag = settings.poolTag
    this.members = settings.members
    this.#able = settings.members.filter(({ share }) => share > 0).sort(byId)
    this.#seeds = Int32Array.from(this.#able, ({ seed }) => seed)
    this.#areEqual = this.#able.every(({ share }) => share === this.#able[0]?.share)
    this.#sticks = settings.isSticky && before?.isSticky === true ? before.#sticks : new Map()
  }

  /** How many clients it remembers. */
  get clients(): number {
    return this.#sticks.size
  }

  memberAt(address: number, port: number): VirtualMember | undefined {
    for (const member of this.members)
      if (member.address === address && (member.port === port || member.port === anyPort))
        return member
    return undefined
  }

  /** The member that a new connection of this hash goes to; undefined when none may have it. */
  choose(hash: number): VirtualMember | undefined {
    const spread = spreadFirst(hash)
    return this.#areEqual ? this.#chooseEqual(spread) : this.#chooseWeighed(spread)
  }

  /** Of members with equal shares the numbers themselves say who is ahead, without a logarithm. */
  #chooseEqual(spread: number): VirtualMember | undefined {
    const seeds = this.#seeds
    let highest = -1
    let best = -1
    for (let at = 0; at < seeds.length; at++) {
      const number = finish(spread ^ (seeds[at] ?? 0))
      if (number <= highest) continue
      highest = number
      best = at
    }
    return this.#able[best]
  }

  #chooseWeighed(spread: number): VirtualMember | undefined {
    let best: VirtualMember | undefined
    let highest = 0
    for (const member of this.#able) {
      const score = scoreOf(member, finish(spread ^ member.seed))
      if (best !== undefined && score <= highest) continue
      highest = score
      best = member
    }
    return best
  }

  stickOf(client: number): Stick | undefined {
    return this.#sticks.get(client | 0)
  }

  /** The clients that it remembers, in the order they came. */
  sticks(): IterableIterator<Stick> {
    return this.#sticks.values()
  }

  /** Remembers where a client has gone. */
  stick(client: number, member: string, nowMs: number): void {
    this.#sticks.delete(client | 0)
    if (this.#sticks.size >= limits.clients)
      for (const oldest of this.#sticks.keys()) {
        this.#sticks.delete(oldest)
        break
      }
    this.#sticks.set(client | 0, { client, member, lastSeenMs: nowMs })
  }

  /** Forgets of the next few clients in turn those that have not been seen for long. */
  sweep(nowMs: number): void {
    const count = Math.max(limits.clientsPerSweep, Math.ceil(this.#sticks.size / 20))
    for (let left = Math.min(count, this.#sticks.size); left > 0; left--) {
      this.#hand ??= this.#sticks.values()
      const { value, done } = this.#hand.next()
      if (done === true) this.#hand = undefined
      else if (nowMs - value.lastSeenMs >= limits.clientIdleMs)
        this.#sticks.delete(value.client | 0)
    }
  }
}

export class VirtualBalancer {
  readonly vips: readonly VirtualVip[]
  /** The addresses that it listens on, and those of its servers. */
  readonly listening: Distinguisher
  readonly serving: Distinguisher
  readonly #vips = new Map<number, VirtualVip[]>()
  /** Protocols and ports by address. */
  readonly #servers = new Map<number, Set<number>>()

  constructor(vips: readonly VirtualVip[]) {
    this.vips = vips
    const members = vips.flatMap((vip) => vip.members)
    this.listening = new Distinguisher(vips.map(({ address }) => address))
    this.serving = new Distinguisher(members.map(({ address }) => address))
    for (const vip of vips) {
      const others = this.#vips.get(vip.address) ?? []
      this.#vips.set(vip.address, [...others, vip])
      for (const { address, port } of vip.members) {
        const ports = this.#servers.get(address) ?? new Set()
        this.#servers.set(address, ports.add((vip.protocol << 16) | port))
      }
    }
  }

  /** Whether anything listens on an address. */
  listens(address: number): boolean {
    return this.#vips.has(address)
  }

  /** The VIP of a port before that of all ports. */
  vip(protocol: number, address: number, port: number): VirtualVip | undefined {
    let whole: VirtualVip | undefined
    for (const vip of this.#vips.get(address) ?? []) {
      if (vip.protocol !== protocol) continue
      if (vip.port === port) return vip
      if (vip.port === anyPort) whole ??= vip
    }
    return whole
  }

  /** Whether a server is at an address. */
  serves(address: number): boolean {
    return this.#servers.has(address)
  }

  /** Whether packets from there may be answers of a server. */
  isServer(protocol: number, address: number, port: number): boolean {
    const ports = this.#servers.get(address)
    return ports?.has((protocol << 16) | port) === true || ports?.has(protocol << 16) === true
  }
}

function byId(one: VirtualMember, other: VirtualMember): number {
  return one.id < other.id ? -1 : one.id > other.id ? 1 : 0
}

function scoreOf({ share }: VirtualMember, number: number): number {
  return share / -Math.log((number + 1) / 0x1_0000_0001)
}

/** A number for a connection, or for a client of a sticky VIP. */
export function hashOf(client: number, vip: number, ports: number): number {
  return mix(mix(client, vip), ports)
}

/** A number for a member, the same on each host; ready to be joined with a connection's. */
export function seedOf(id: string): number {
  let seed = 0x811c_9dc5
  for (let at = 0; at < id.length; at++) seed = mix(seed, id.charCodeAt(at))
  return spreadSecond(seed)
}

function mix(a: number, b: number): number {
  return finish(spreadFirst(a) ^ spreadSecond(b))
}

function spreadFirst(a: number): number {
  return Math.imul(a ^ (a >>> 16), 0x85eb_ca6b)
}

function spreadSecond(b: number): number {
  return Math.imul(b ^ (b >>> 15), 0x9e37_79b1)
}

function finish(spread: number): number {
  let mixed = Math.imul(spread ^ (spread >>> 13), 0xc2b2_ae35)
  mixed = Math.imul(mixed ^ (mixed >>> 16), 0x27d4_eb2f)
  return (mixed ^ (mixed >>> 15)) >>> 0
}
