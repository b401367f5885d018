/**
 * Flow state: the connections that chains ask about, and the translations that NAT has given out.
 *
 * An entry has two keys: what its packets look like on their way there and on their way back, each
 * within the zone (port, bridge or router) whose chains made it. A simulation only reads; what it
 * makes are effects, which `commit` puts in when the packet goes on. So a packet that is dropped
 * later on its way leaves nothing behind.
 *
 *   new ──reply──▶ established ──both FIN, or RST──▶ closing ──▶ gone
 *                       ▲─────────SYN, or traffic goes on─┘
 *
 * Time and traffic keep entries: flows that rest on one say when they last carried a packet.
 */
import { AddressBook } from './address-book.ts'
import type { Effect } from './effect.ts'
import { fullTag, stateTag, type Tag } from './tag.ts'
import { type Tuple, TupleTable } from './tuple-table.ts'

export const limits = {
  entries: 262_144,
  /** Looked at in one sweep at least; else a twentieth of all. */
  entriesPerSweep: 512,
  /** How long after a reset traffic must go on to show that the reset was false. */
  reviveMs: 1_000,
} as const

/** How long an entry lives without traffic. RFC 5382 REQ-5, RFC 4787 REQ-5, RFC 5508 REQ-1. */
export const idleMs = {
  tcpNew: 240_000,
  tcp: 7_440_000,
  /** After both sides have finished: their last packets may come again. */
  tcpClosed: 30_000,
  tcpReset: 5_000,
  udpNew: 60_000,
  udp: 300_000,
  icmp: 60_000,
  other: 300_000,
} as const

/** What a key is for. Directions of one connection share `track`. */
export const keyKinds = { track: 0, snat: 1, reverseSnat: 2, dnat: 3, reverseDnat: 4 } as const
export type KeyKind = (typeof keyKinds)[keyof typeof keyKinds]

export interface StateKey extends Tuple {
  readonly entry: StateEntry
  readonly isForward: boolean
  readonly tag: Tag
}

type Side = readonly [kind: KeyKind, src: number, dst: number, ports: number]

/** Set in the zones of IPv6, whose addresses have numbers in the address book. */
const zoneIpv6 = 0x10_0000

/** The number of a zone's entries of one family. */
export function zoneOf(zone: number, isIpv6: boolean): number {
  return isIpv6 ? zone | zoneIpv6 : zone
}

/** One connection or translation within a zone. */
export class StateEntry {
  readonly protocol: number
  readonly zone: number
  readonly forward: StateKey
  readonly backward: StateKey
  lastSeenMs = 0
  replied = false
  finForward = false
  finBackward = false
  /** When a reset was seen; Infinity when none was. */
  resetMs = Number.POSITIVE_INFINITY

  readonly #book: AddressBook | undefined

  /** `zone` as `zoneOf` says; with `book` the addresses are numbers in it. */
  constructor(zone: number, protocol: number, there: Side, back: Side, book?: AddressBook) {
    this.zone = zone
    this.#book = book
    this.protocol = protocol
    this.forward = this.#key(there, true)
    this.backward = this.#key(back, false)
  }

  #key([kind, src, dst, ports]: Side, isForward: boolean): StateKey {
    const zone = zoneWord(this.zone, kind, this.protocol)
    const tag = stateTagOf(zone, src, dst, ports, this.#book)
    return { zone, src, dst, ports, entry: this, isForward, tag }
  }
}

/** The tag of a key. Numbers in the book are given anew, so addresses of IPv6 stand in full. */
export function stateTagOf(
  zone: number,
  src: number,
  dst: number,
  ports: number,
  book: AddressBook | undefined,
): Tag {
  if (book === undefined) return stateTag(zone, src, dst, ports)
  return stateTag(zone, book.textOf(src), book.textOf(dst), ports)
}

/** The word that names zone, kind and protocol in a key. */
export function zoneWord(zone: number, kind: KeyKind, protocol: number): number {
  return ((zone << 11) | (kind << 8) | protocol) >>> 0
}

/** Whether both sides have finished, or one has reset. */
export function isClosing(entry: StateEntry): boolean {
  return (entry.finForward && entry.finBackward) || entry.resetMs !== Number.POSITIVE_INFINITY
}

/** What the sweep needs of the flows: when those that rest on a fact last carried a packet. */
export interface FlowUse {
  isUsed(tag: Tag): boolean
  lastUseMs(entry: StateEntry): number
}

export interface StateCounters {
  readonly connections: number
}

export class FlowState {
  readonly limit: number
  /** Numbers of IPv6 addresses. */
  readonly book = new AddressBook()
  readonly #keys = new TupleTable<StateKey>()
  readonly #entries: StateEntry[] = []
  #hand = 0
  /** This host's place among those that share NAT's ports, and how many there are. */
  #share: readonly [place: number, count: number] = [0, 1]

  constructor(limit: number = limits.entries) {
    this.limit = limit
  }

  get size(): number {
    return this.#entries.length
  }

  get isFull(): boolean {
    return this.#entries.length >= this.limit
  }

  find(
    zone: number,
    kind: KeyKind,
    protocol: number,
    src: number,
    dst: number,
    ports: number,
  ): StateKey | undefined {
    return this.#keys.find(zoneWord(zone, kind, protocol), src, dst, ports)
  }

  /** Of a range of ports the part that is this host's, first and count. */
  shareOf(first: number, last: number): readonly [first: number, count: number] {
    const [place, count] = this.#share
    const size = last - first + 1
    const from = Math.floor((size * place) / count)
    return [first + from, Math.floor((size * (place + 1)) / count) - from]
  }

  /** Splits ports among hosts: each takes the part of its place in the order of their ids. */
  share(hosts: readonly string[], own: string): void {
    const place = [...hosts].sort().indexOf(own)
    this.#share = place < 0 ? [0, 1] : [place, hosts.length]
  }

  /** Does what a simulation wants done. Returns the tags of what is another now. */
  commit(effects: readonly Effect[], nowMs: number): Tag[] {
    const tags: Tag[] = []
    for (const effect of effects) {
      if (effect.kind === 'addState') this.#add(effect.entry, nowMs, tags)
      if (effect.kind === 'useState') this.#use(effect.key, effect.flags, nowMs, tags)
    }
    return tags
  }

  *entries(): IterableIterator<StateEntry> {
    yield* this.#entries
  }

  /** Takes out the next entries in turn whose time is over. Returns the tags of what is gone. */
  sweep(nowMs: number, use: FlowUse): Tag[] {
    const tags: Tag[] = []
    this.book.sweep()
    const count = Math.max(limits.entriesPerSweep, Math.ceil(this.#entries.length / 20))
    for (let left = Math.min(count, this.#entries.length); left > 0; left--) {
      if (this.#hand >= this.#entries.length) this.#hand = 0
      const entry = this.#entries[this.#hand]
      if (entry === undefined) break
      if (isAlive(entry, nowMs, use)) this.#hand++
      else this.#removeAt(this.#hand, tags)
    }
    return tags
  }

  /** Takes out all that a zone, which is gone, has left. */
  forget(zone: number): void {
    const tags: Tag[] = []
    for (let at = this.#entries.length - 1; at >= 0; at--)
      if (((this.#entries[at]?.zone ?? 0) & ~zoneIpv6) === zone) this.#removeAt(at, tags)
  }

  #add(entry: StateEntry, nowMs: number, tags: Tag[]): void {
    const { forward, backward } = entry
    if (this.isFull || this.#has(forward) || this.#has(backward)) return
    entry.lastSeenMs = nowMs
    this.#entries.push(entry)
    this.#keys.add(forward)
    this.#keys.add(backward)
    if ((entry.zone & zoneIpv6) !== 0) for (const one of numbersOf(entry)) this.book.hold(one)
    tags.push(forward.tag, backward.tag)
  }

  #has({ zone, src, dst, ports }: StateKey): boolean {
    return this.#keys.find(zone, src, dst, ports) !== undefined
  }

  #use({ entry, isForward }: StateKey, flags: number, nowMs: number, tags: Tag[]): void {
    const wasClosing = isClosing(entry)
    const silentMs = nowMs - Math.min(entry.resetMs, nowMs)
    entry.lastSeenMs = nowMs
    if (!isForward) entry.replied = true
    const isOpening = (flags & tcpSyn) !== 0 && (flags & (tcpFin | tcpRst)) === 0
    if (wasClosing && (isOpening || (flags === 0 && silentMs >= limits.reviveMs))) {
      entry.finForward = false
      entry.finBackward = false
      entry.resetMs = Number.POSITIVE_INFINITY
    }
    if ((flags & tcpFin) !== 0 && isForward) entry.finForward = true
    if ((flags & tcpFin) !== 0 && !isForward) entry.finBackward = true
    if ((flags & tcpRst) !== 0) entry.resetMs = nowMs
    // While it closes, its packets come to the agent; after that, they need not.
    if (isClosing(entry) !== wasClosing) tags.push(entry.forward.tag, entry.backward.tag)
  }

  #removeAt(at: number, tags: Tag[]): void {
    const entry = this.#entries[at]
    const last = this.#entries.pop()
    if (entry === undefined) return
    if (last !== undefined && last !== entry) this.#entries[at] = last
    this.#keys.delete(entry.forward)
    this.#keys.delete(entry.backward)
    if ((entry.zone & zoneIpv6) !== 0) for (const one of numbersOf(entry)) this.book.release(one)
    tags.push(entry.forward.tag, entry.backward.tag, fullTag(entry.zone))
    if (this.#entries.length === this.limit - 1) tags.push(fullTag(0))
  }
}

function numbersOf({ forward, backward }: StateEntry): readonly number[] {
  return [forward.src, forward.dst, backward.src, backward.dst]
}

const tcpFin = 0x01
const tcpSyn = 0x02
const tcpRst = 0x04

function isAlive(entry: StateEntry, nowMs: number, use: FlowUse): boolean {
  const limitMs = idleLimitMs(entry)
  if (nowMs - entry.lastSeenMs < limitMs) return true
  if (use.isUsed(entry.forward.tag) || use.isUsed(entry.backward.tag))
    entry.lastSeenMs = Math.max(entry.lastSeenMs, use.lastUseMs(entry))
  return nowMs - entry.lastSeenMs < limitMs
}

function idleLimitMs(entry: StateEntry): number {
  switch (entry.protocol) {
    case 6:
      if (entry.resetMs !== Number.POSITIVE_INFINITY) return idleMs.tcpReset
      if (isClosing(entry)) return idleMs.tcpClosed
      return entry.replied ? idleMs.tcp : idleMs.tcpNew
    case 17:
      return entry.replied ? idleMs.udp : idleMs.udpNew
    case 1:
    case 58:
      return idleMs.icmp
    default:
      return idleMs.other
  }
}
