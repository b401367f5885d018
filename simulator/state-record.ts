/** Entries of flow state as records that other hosts understand, and back. */
import { noNumber } from './address-book.ts'
import { type FlowState, flagsOf } from './flow-state.ts'
import type { Zone } from './passage.ts'
import {
  type KeyKind,
  keyKinds,
  StateEntry,
  type StateKey,
  zoneIpv6,
  zoneOf,
} from './state-entry.ts'
import {
  type EntryRecord,
  entryFlags,
  type StateAddress,
  type StateTuple,
} from './state-message.ts'
import { zoneName } from './zones.ts'

/** The record of an entry; undefined when its addresses have no numbers any more. */
export function recordOf(entry: StateEntry, zone: Zone, nowMs: number): EntryRecord | undefined {
  const { protocol, version, share, forward } = entry
  const there = tupleOf(forward, entry, zone.state)
  const back = tupleOf(entry.backward, entry, zone.state)
  if (there === undefined || back === undefined) return undefined
  const ageMs = Math.min(0xffff_ffff, Math.max(0, Math.round(nowMs - entry.lastSeenMs)))
  const { ingress, egress } = share ?? nowhere
  const name = { zoneKind: zone.kind, zone: zoneName(zone), keyKind: keyKindOf(forward), protocol }
  const facts = { flags: flagsOf(entry), version, ageMs, ingress, egress }
  return { kind: 'entry', ...name, ...facts, there, back }
}

const nowhere = { ingress: '', egress: '' }

/** What a key is for, as `keyKinds` says. */
export function keyKindOf({ zone }: StateKey): number {
  return (zone >>> 8) & 7
}

function tupleOf(
  { src, dst, ports }: StateKey,
  { zoneNumber }: StateEntry,
  { book }: FlowState,
): StateTuple | undefined {
  if ((zoneNumber & zoneIpv6) === 0)
    return { src: [src >>> 0], dst: [dst >>> 0], ports: ports >>> 0 }
  const [from, to] = [book.wordsOf(src), book.wordsOf(dst)]
  return from && to && { src: from, dst: to, ports: ports >>> 0 }
}

/** The entry of a record; undefined when an address gets no number. It is in no table yet. */
export function entryOf(record: EntryRecord, zone: Zone): StateEntry | undefined {
  const { book } = zone.state
  const isIpv6 = record.there.src.length === 4
  const numberOf = (address: StateAddress) => {
    const [a, b, c, d] = address
    return b === undefined || c === undefined || d === undefined ? a : book.numberOf(a, b, c, d)
  }
  const sideOf = (kind: KeyKind, { src, dst, ports }: StateTuple) => ({
    kind,
    src: numberOf(src),
    dst: numberOf(dst),
    ports,
  })
  const [thereKind, backKind] = sidesOf(record.keyKind)
  const there = sideOf(thereKind, record.there)
  const back = sideOf(backKind, record.back)
  if (isIpv6 && [there.src, there.dst, back.src, back.dst].includes(noNumber)) return undefined
  const number = zoneOf(zone.number, isIpv6)
  const entry = new StateEntry(number, record.protocol, there, back, isIpv6 ? book : undefined)
  entry.version = record.version
  setFlags(entry, record.flags, 0)
  return entry
}

function sidesOf(kind: number): readonly [KeyKind, KeyKind] {
  switch (kind) {
    case keyKinds.snat:
      return [keyKinds.snat, keyKinds.reverseSnat]
    case keyKinds.dnat:
      return [keyKinds.dnat, keyKinds.reverseDnat]
    case keyKinds.balance:
      return [keyKinds.balance, keyKinds.reverseBalance]
    default:
      return [keyKinds.track, keyKinds.track]
  }
}

/** Gives an entry the facts of a record; a reset that is new was seen at `resetMs`. */
export function setFlags(entry: StateEntry, flags: number, resetMs: number): void {
  entry.replied = (flags & entryFlags.replied) !== 0
  entry.finForward = (flags & entryFlags.finForward) !== 0
  entry.finBackward = (flags & entryFlags.finBackward) !== 0
  const wasReset = entry.resetMs !== undefined
  if ((flags & entryFlags.reset) === 0) entry.resetMs = undefined
  else if (!wasReset) entry.resetMs = resetMs
}
