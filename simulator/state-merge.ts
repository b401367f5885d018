/**
 * Takes in what another host tells of an entry. Two hosts that have told each other all they know
 * have the same entries, in whatever order they heard of them:
 *
 * - Of one entry the facts of the higher version count; of the same version, those of both.
 * - Of entries that share a tuple, so that one only can stand, the higher version of the same way
 *   there counts; else the one used last, by a second or more; else the one with the lower tuple.
 */
import type { Balancers } from './balancers.ts'
import { flagsOf } from './flow-state.ts'
import type { Zone } from './passage.ts'
import { isClosing, type StateEntry, type StateKey } from './state-entry.ts'
import type { EntryRecord, StickRecord } from './state-message.ts'
import { entryOf, setFlags } from './state-record.ts'
import { stickTag, type Tag } from './tag.ts'

export const limits = {
  /** Times of use this close say nothing about which of two entries is the older. */
  togetherMs: 1_000,
} as const

/** Who tells, in which of its messages. */
export interface Teller {
  readonly from: string
  readonly epoch: number
  readonly number: number
}

/** `kept`: another entry stands in its place, and whoever told is to hear of that. */
export type Merge =
  | { readonly kind: 'taken'; readonly entry: StateEntry }
  | { readonly kind: 'kept'; readonly entry: StateEntry }
  | { readonly kind: 'ignored' }

const ignored: Merge = { kind: 'ignored' }

/**
 * Brings an entry of another host into a zone's state: the outcome is the same on all hosts, in
 * whichever order they hear. Facts that changed are added to `tags`.
 */
export function mergeEntry(
  record: EntryRecord,
  zone: Zone,
  teller: Teller,
  nowMs: number,
  tags: Tag[],
): Merge {
  const told = entryOf(record, zone)
  if (told === undefined) return ignored
  const seenMs = nowMs - record.ageMs
  const rivals = new Set<StateEntry>()
  for (const key of [told.forward, told.backward]) {
    const found = findKey(zone, key)
    if (found !== undefined) rivals.add(found.entry)
  }
  for (const one of rivals) {
    if (isSameEntry(one, told)) return mergeSame(one, record, teller, seenMs, tags)
    // A late message of one who has told of what came after it.
    if (isLate(one, teller)) return ignored
    if (!yields(one, told, seenMs)) return { kind: 'kept', entry: one }
  }
  for (const one of rivals) zone.state.remove(one, tags)
  zone.state.put(told, seenMs, tags)
  // There was no room.
  if (told.place < 0) return ignored
  if (told.resetMs !== undefined) told.resetMs = seenMs
  share(told, record, teller)
  return { kind: 'taken', entry: told }
}

function mergeSame(
  entry: StateEntry,
  record: EntryRecord,
  teller: Teller,
  seenMs: number,
  tags: Tag[],
): Merge {
  const wasClosing = isClosing(entry)
  if (record.version > entry.version) setFlags(entry, record.flags, seenMs)
  else if (record.version === entry.version) setFlags(entry, record.flags | flagsOf(entry), seenMs)
  entry.version = Math.max(entry.version, record.version)
  entry.lastSeenMs = Math.max(entry.lastSeenMs, seenMs)
  share(entry, record, teller)
  if (isClosing(entry) !== wasClosing) tags.push(entry.forward.tag, entry.backward.tag)
  return { kind: 'taken', entry }
}

function isLate({ share }: StateEntry, { from, epoch, number }: Teller): boolean {
  return share?.from === from && share.epoch === epoch && share.number > number
}

/** What is known now is no news for whoever told it. */
function share(entry: StateEntry, record: EntryRecord, { from, epoch, number }: Teller): void {
  const { share: before } = entry
  const hosts = before?.hosts ?? []
  const isNewest = record.version >= (before?.version ?? 0)
  entry.share = {
    hosts: hosts.includes(from) ? hosts : [...hosts, from],
    version: isNewest ? record.version : (before?.version ?? 0),
    seenMs: entry.lastSeenMs,
    from,
    epoch,
    number,
    ingress: before?.ingress || record.ingress,
    egress: before?.egress || record.egress,
  }
}

/** What a zone knows of a key. */
export function findKey(zone: Zone, { zone: word, src, dst, ports, entry }: StateKey) {
  const kind = (word >>> 8) & 7
  for (const one of [0, 1, 2, 3, 4, 5, 6] as const)
    if (one === kind) return zone.state.find(entry.zoneNumber, one, entry.protocol, src, dst, ports)
  return undefined
}

/** Whether both ways are the same. */
export function isSameEntry(one: StateEntry, other: StateEntry): boolean {
  return equalKeys(one.forward, other.forward) && equalKeys(one.backward, other.backward)
}

function equalKeys(a: StateKey, b: StateKey): boolean {
  return a.zone === b.zone && a.src === b.src && a.dst === b.dst && a.ports === b.ports
}

/** Whether an entry makes room for one that was last used at `seenMs`. */
function yields(one: StateEntry, told: StateEntry, seenMs: number): boolean {
  if (equalKeys(one.forward, told.forward) && one.version !== told.version) {
    // A version that nobody has used for long is that of a connection before.
    const [newer, newerMs, otherMs] =
      told.version > one.version ? [true, seenMs, one.lastSeenMs] : [false, one.lastSeenMs, seenMs]
    if (newerMs > otherMs - limits.togetherMs) return newer
  }
  if (Math.abs(seenMs - one.lastSeenMs) >= limits.togetherMs) return seenMs > one.lastSeenMs
  return compare(told, one) < 0
}

/** An order that all hosts see the same. */
function compare(a: StateEntry, b: StateEntry): number {
  for (const [x, y] of [
    [a.backward.ports >>> 0, b.backward.ports >>> 0],
    [a.forward.ports >>> 0, b.forward.ports >>> 0],
  ] as const)
    if (x !== y) return x - y
  for (const side of ['backward', 'forward'] as const)
    for (const end of ['dst', 'src'] as const) {
      const [x, y] = [wordsOf(a, a[side][end]), wordsOf(b, b[side][end])]
      for (let at = 0; at < x.length; at++) {
        const difference = (x[at] ?? 0) - (y[at] ?? 0)
        if (difference !== 0) return difference
      }
    }
  return 0
}

function wordsOf({ book }: StateEntry, address: number): readonly number[] {
  return book?.wordsOf(address) ?? [address >>> 0]
}

/** Brings the choice of a sticky VIP in: of two the one used last counts. False without the VIP. */
export function mergeStick(
  { vip: id, member, client, ageMs }: StickRecord,
  balancers: Balancers,
  nowMs: number,
  tags: Tag[],
): boolean {
  const vip = balancers.vip(id)
  if (vip === undefined) return false
  const seenMs = nowMs - ageMs
  const stick = vip.stickOf(client)
  if (stick !== undefined && stick.lastSeenMs > seenMs) return true
  if (stick?.member === member) stick.lastSeenMs = seenMs
  else {
    vip.stick(client, member, seenMs)
    tags.push(stickTag(id, client))
  }
  return true
}
