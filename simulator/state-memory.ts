/**
 * Flow state that outlives its agent. The next one reads connections off the flows that it finds; of
 * one that was silent for longer than flows live there is none. So an agent writes down all it knows
 * now and then and at its end, in the messages that hosts tell each other.
 */
import { decode, encode } from '../packet/bytes.ts'
import { flagsOf } from './flow-state.ts'
import type { Zone } from './passage.ts'
import { findKey, isSameEntry, mergeStick } from './state-merge.ts'
import { type EntryRecord, type StateRecord, stateMessage, takeFitting } from './state-message.ts'
import { entryOf, recordOf, setFlags } from './state-record.ts'
import type { VirtualTopology } from './virtual-topology.ts'

const recordsAtOnce = 64

/** What an agent knew. */
export interface Remembered {
  /** As `statePages` gave them. */
  readonly pages: Iterable<Uint8Array>
  /** How long ago that was. */
  readonly agoMs: number
}

/** All that is known when the first page is taken, less what ends before its page comes. */
export function* statePages(
  topology: VirtualTopology,
  now: () => number,
): IterableIterator<Uint8Array> {
  let records: StateRecord[] = []
  for (const entry of topology.state.snapshot()) {
    const zone = entry.place < 0 ? undefined : topology.zones.at(entry.zoneNumber)
    const record = zone && recordOf(entry, zone, now())
    if (record !== undefined) records.push(record)
    if (records.length < recordsAtOnce) continue
    yield* pagesOf(records)
    records = []
  }
  for (const vip of topology.balancers.vips())
    for (const { client, member, lastSeenMs } of vip.sticks()) {
      const ageMs = Math.max(0, Math.round(now() - lastSeenMs))
      records.push({ kind: 'stick', vip: vip.id, member, client: client >>> 0, ageMs })
    }
  yield* pagesOf(records)
}

function* pagesOf(records: StateRecord[]): IterableIterator<Uint8Array> {
  while (records.length > 0)
    yield encode(stateMessage, {
      kind: 'tell',
      epoch: 0,
      number: 0,
      records: takeFitting(records),
    })
}

/**
 * Takes in what the agent before knew. What is known by now was read off its flows, which are newer.
 * Returns how many entries came of it. @throws MalformedError
 */
export function recallState(
  { pages, agoMs }: Remembered,
  topology: VirtualTopology,
  nowMs: number,
): number {
  const before = topology.state.size
  const thenMs = nowMs - Math.max(0, agoMs)
  for (const page of pages) {
    const message = decode(stateMessage, page)
    if (message.kind !== 'tell') continue
    for (const record of message.records) {
      if (record.kind === 'stick') mergeStick(record, topology.balancers, thenMs, [])
      if (record.kind !== 'entry') continue
      const zone = topology.zones.find(record.zoneKind, record.zone)
      if (zone !== undefined) recallEntry(record, zone, thenMs)
    }
  }
  return topology.state.size - before
}

function recallEntry(record: EntryRecord, zone: Zone, thenMs: number): void {
  const told = entryOf(record, zone)
  if (told === undefined) return
  const seenMs = thenMs - record.ageMs
  const known = (findKey(zone, told.forward) ?? findKey(zone, told.backward))?.entry
  if (known === undefined) {
    if (told.resetMs !== undefined) told.resetMs = seenMs
    zone.state.put(told, seenMs, [])
  } else if (isSameEntry(known, told)) {
    // Flows do not show whether there was an answer, and how a connection ends.
    setFlags(known, record.flags | flagsOf(known), seenMs)
    known.version = Math.max(known.version, record.version)
  }
}
