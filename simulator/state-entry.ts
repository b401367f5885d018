/**
 * Entries of flow state: one connection or translation each. An entry has two keys: what its packets
 * look like on their way there and on their way back.
 */
import type { AddressBook } from './address-book.ts'
import { stateTag, type Tag } from './tag.ts'
import type { Tuple } from './tuple-table.ts'

/** What a key is for. Directions of one connection share `track`. */
export const keyKinds = {
  track: 0,
  snat: 1,
  reverseSnat: 2,
  dnat: 3,
  reverseDnat: 4,
  /** A load balancer's: both addresses may be others on the way back. */
  balance: 5,
  reverseBalance: 6,
} as const
export type KeyKind = (typeof keyKinds)[keyof typeof keyKinds]

/** One way of an entry's packets. */
export interface StateKey extends Tuple {
  readonly entry: StateEntry
  readonly isForward: boolean
  readonly tag: Tag
}

/** What an entry's packets look like on one of its ways. */
export interface Side {
  readonly kind: KeyKind
  readonly src: number
  readonly dst: number
  readonly ports: number
}

/** Set in the zones of IPv6, whose addresses have numbers in the address book. */
export const zoneIpv6 = 0x10_0000

/** The number of a zone's entries of one family. */
export function zoneOf(zone: number, isIpv6: boolean): number {
  return isIpv6 ? zone | zoneIpv6 : zone
}

/** How an entry stands with the other hosts that have it. */
export interface Share {
  /** Those hosts. */
  hosts: readonly string[]
  /** What was told last: the version, and when the entry had last carried a packet. */
  version: number
  seenMs: number
  /** Who told of it last, in which message; that host's messages before it say nothing new. */
  from: string
  epoch: number
  number: number
  /** Exterior ports that its packets came in by and left by; empty for none. */
  ingress: string
  egress: string
}

/**
 * One connection or translation within a zone. There are many, so each is one object for itself and
 * its way there, and one for its way back.
 */
export class StateEntry implements StateKey {
  readonly zone: number
  readonly src: number
  readonly dst: number
  readonly ports: number
  readonly tag: Tag
  readonly backward: StateKey
  lastSeenMs = 0
  /** Where it stands among all entries; -1 when it does not. */
  place = -1
  replied = false
  finForward = false
  finBackward = false
  /** When a reset was seen. */
  resetMs: number | undefined
  /** Grows when one of these facts changes, or with one that takes the place of another. */
  version = 0
  /** What other hosts know of it; undefined while none does. */
  share: Share | undefined
  readonly book: AddressBook | undefined

  /** `zone` as `zoneOf` says; with `book` the addresses are numbers in it. */
  constructor(zone: number, protocol: number, there: Side, back: Side, book?: AddressBook) {
    this.zone = zoneWord(zone, there.kind, protocol)
    this.src = there.src | 0
    this.dst = there.dst | 0
    this.ports = there.ports | 0
    this.tag = stateTagOf(this.zone, this.src, this.dst, this.ports, book)
    this.backward = new BackwardKey(this, zoneWord(zone, back.kind, protocol), back, book)
    this.resetMs = undefined
    this.share = undefined
    this.book = book
  }

  get entry(): StateEntry {
    return this
  }

  get isForward(): boolean {
    return true
  }

  get forward(): StateKey {
    return this
  }

  /** As `zoneOf` says. */
  get zoneNumber(): number {
    return this.zone >>> 11
  }

  get protocol(): number {
    return this.zone & 0xff
  }
}

class BackwardKey implements StateKey {
  readonly entry: StateEntry
  readonly zone: number
  readonly src: number
  readonly dst: number
  readonly ports: number
  readonly tag: Tag

  constructor(entry: StateEntry, zone: number, side: Side, book: AddressBook | undefined) {
    this.entry = entry
    this.zone = zone
    this.src = side.src | 0
    this.dst = side.dst | 0
    this.ports = side.ports | 0
    this.tag = stateTagOf(zone, this.src, this.dst, this.ports, book)
  }

  get isForward(): boolean {
    return false
  }
}

/** The tag of a key. Numbers in the book are given anew, so IPv6 addresses count by what they are. */
export function stateTagOf(
  zone: number,
  src: number,
  dst: number,
  ports: number,
  book: AddressBook | undefined,
): Tag {
  if (book === undefined) return stateTag(zone, src, dst, ports)
  return stateTag(zone, book.hashOf(src), book.hashOf(dst), ports)
}

/** The word that names zone, kind and protocol in a key. */
export function zoneWord(zone: number, kind: KeyKind, protocol: number): number {
  return (zone << 11) | (kind << 8) | protocol
}

/** Whether both sides have finished, or one has reset. */
export function isClosing(entry: StateEntry): boolean {
  return (entry.finForward && entry.finBackward) || entry.resetMs !== undefined
}
