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
import { FragmentTable } from './fragment-table.ts'
import {
  isClosing,
  type KeyKind,
  type StateEntry,
  type StateKey,
  zoneIpv6,
  zoneWord,
} from './state-entry.ts'
import { entryFlags } from './state-message.ts'
import { fullTag, type Tag } from './tag.ts'
import { TupleTable } from './tuple-table.ts'

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

/** A range of ports. */
export interface PortRange {
  readonly first: number
  readonly count: number
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
  readonly fragments = new FragmentTable()
  readonly #keys = new TupleTable<StateKey>()
  readonly #entries: StateEntry[] = []
  #hand = 0
  /** This host's place among those that share NAT's ports, and how many there are. */
  #share = { place: 0, count: 1 }

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

  /** Of a range of ports the part that is this host's. */
  shareOf(first: number, last: number): PortRange {
    const { place, count } = this.#share
    const size = last - first + 1
    const from = Math.floor((size * place) / count)
    return { first: first + from, count: Math.floor((size * (place + 1)) / count) - from }
  }

  /** Splits ports among hosts: each takes the part of its place in the order of their ids. */
  share(hosts: readonly string[], own: string): void {
    const place = [...hosts].sort().indexOf(own)
    this.#share = place < 0 ? { place: 0, count: 1 } : { place, count: hosts.length }
  }

  /** Does what a simulation wants done. Puts the tags of what is another now into `tags`. */
  commit(effects: readonly Effect[], nowMs: number, tags: Tag[] = []): Tag[] {
    for (const effect of effects) {
      if (effect.kind === 'addState') {
        if (effect.instead !== undefined) this.#replace(effect.instead, effect.entry, tags)
        this.#add(effect.entry, nowMs, tags)
      }
      if (effect.kind === 'addFragment') this.fragments.add(effect.track, nowMs)
      if (effect.kind === 'useState') this.#use(effect.key, effect.flags, nowMs, tags)
      if (effect.kind === 'stick') effect.vip.stick(effect.client, effect.member, nowMs)
    }
    return tags
  }

  *entries(): IterableIterator<StateEntry> {
    yield* this.#entries
  }

  /** All entries of now, for whoever looks at them little by little. */
  snapshot(): readonly StateEntry[] {
    return this.#entries.slice()
  }

  /** Takes in what another host has told of, if there is room. */
  put(entry: StateEntry, seenMs: number, tags: Tag[]): void {
    this.#add(entry, seenMs, tags)
  }

  /** Takes out what another host's entry is in the place of. */
  remove(entry: StateEntry, tags: Tag[]): void {
    if (this.#entries[entry.place] === entry) this.#removeAt(entry.place, tags)
  }

  /**
   * Takes out the next entries in turn whose time is over. Returns the tags of what is gone. Those
   * that stay and that other hosts have, too, go to `renew`.
   */
  sweep(nowMs: number, use: FlowUse, renew?: (entry: StateEntry) => void): Tag[] {
    const tags: Tag[] = []
    this.fragments.sweep(nowMs)
    this.book.sweep()
    const count = Math.max(limits.entriesPerSweep, Math.ceil(this.#entries.length / 20))
    for (let left = Math.min(count, this.#entries.length); left > 0; left--) {
      if (this.#hand >= this.#entries.length) this.#hand = 0
      const entry = this.#entries[this.#hand]
      if (entry === undefined) break
      if (!isAlive(entry, nowMs, use)) {
        this.#removeAt(this.#hand, tags)
        continue
      }
      this.#hand++
      if (entry.share !== undefined) renew?.(entry)
    }
    return tags
  }

  /** Takes out all that a zone, which is gone, has left. */
  forget(zone: number): void {
    const tags: Tag[] = []
    for (let at = this.#entries.length - 1; at >= 0; at--)
      if (((this.#entries[at]?.zoneNumber ?? 0) & ~zoneIpv6) === zone) this.#removeAt(at, tags)
  }

  #add(entry: StateEntry, nowMs: number, tags: Tag[]): void {
    const { forward, backward } = entry
    if (this.isFull || !this.#keys.add(forward)) return
    // To itself, by one port, there is no way back to tell from the way there.
    if (!isSame(forward, backward) && !this.#keys.add(backward)) {
      this.#keys.delete(forward)
      return
    }
    entry.lastSeenMs = nowMs
    entry.place = this.#entries.length
    this.#entries.push(entry)
    if ((entry.zoneNumber & zoneIpv6) !== 0) for (const one of numbersOf(entry)) this.book.hold(one)
    tags.push(forward.tag, backward.tag)
  }

  #replace(old: StateEntry, by: StateEntry, tags: Tag[]): void {
    by.version = old.version + 1
    // Whoever had the old one is to hear of the new one.
    if (old.share !== undefined) by.share = { ...old.share, version: old.version }
    this.remove(old, tags)
  }

  #use({ entry, isForward }: StateKey, flags: number, nowMs: number, tags: Tag[]): void {
    const wasClosing = isClosing(entry)
    const before = flagsOf(entry)
    const silentMs = nowMs - Math.min(entry.resetMs ?? nowMs, nowMs)
    entry.lastSeenMs = nowMs
    if (!isForward) entry.replied = true
    const isOpening = (flags & tcpSyn) !== 0 && (flags & (tcpFin | tcpRst)) === 0
    if (wasClosing && (isOpening || (flags === 0 && silentMs >= limits.reviveMs))) {
      entry.finForward = false
      entry.finBackward = false
      entry.resetMs = undefined
    }
    if ((flags & tcpFin) !== 0 && isForward) entry.finForward = true
    if ((flags & tcpFin) !== 0 && !isForward) entry.finBackward = true
    if ((flags & tcpRst) !== 0) entry.resetMs = nowMs
    if (flagsOf(entry) !== before) entry.version++
    // While it closes, its packets come to the agent; after that, they need not.
    if (isClosing(entry) !== wasClosing) tags.push(entry.forward.tag, entry.backward.tag)
  }

  #removeAt(at: number, tags: Tag[]): void {
    const entry = this.#entries[at]
    const last = this.#entries.pop()
    if (entry === undefined) return
    if (last !== undefined && last !== entry) {
      this.#entries[at] = last
      last.place = at
    }
    entry.place = -1
    this.#keys.delete(entry.forward)
    this.#keys.delete(entry.backward)
    if ((entry.zoneNumber & zoneIpv6) !== 0)
      for (const one of numbersOf(entry)) this.book.release(one)
    tags.push(entry.forward.tag, entry.backward.tag, fullTag(entry.zoneNumber))
    if (this.#entries.length === this.limit - 1) tags.push(fullTag(0))
  }
}

function isSame(a: StateKey, b: StateKey): boolean {
  return a.zone === b.zone && a.src === b.src && a.dst === b.dst && a.ports === b.ports
}

function numbersOf({ forward, backward }: StateEntry): readonly number[] {
  return [forward.src, forward.dst, backward.src, backward.dst]
}

const tcpFin = 0x01
const tcpSyn = 0x02
const tcpRst = 0x04

function isAlive(entry: StateEntry, nowMs: number, use: FlowUse): boolean {
  // Others tell of its use now and then only: it lives longer by the time between.
  const limitMs = idleLimitMs(entry) + (entry.share === undefined ? 0 : renewalMs(entry))
  if (nowMs - entry.lastSeenMs < limitMs) return true
  if (use.isUsed(entry.forward.tag) || use.isUsed(entry.backward.tag))
    entry.lastSeenMs = Math.max(entry.lastSeenMs, use.lastUseMs(entry))
  return nowMs - entry.lastSeenMs < limitMs
}

/** How long an entry may go on in use before the other hosts that have it are told so. */
export function renewalMs(entry: StateEntry): number {
  return idleLimitMs(entry) / 3
}

/** The facts of an entry that change, as one number. */
export function flagsOf({ replied, finForward, finBackward, resetMs }: StateEntry): number {
  return (
    (replied ? entryFlags.replied : 0) |
    (finForward ? entryFlags.finForward : 0) |
    (finBackward ? entryFlags.finBackward : 0) |
    (resetMs === undefined ? 0 : entryFlags.reset)
  )
}

function idleLimitMs(entry: StateEntry): number {
  switch (entry.protocol) {
    case 6:
      if (entry.resetMs !== undefined) return idleMs.tcpReset
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
