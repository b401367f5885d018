/**
 * Statistics of flows. The kernel has no memory to share them in: those of known flows are asked for
 * together, a request for each in one call. Who comes with one flow after the other is served one by
 * one at first, and when it gets many by reading all that there are, at most once a second.
 */
import type { FlowId, FlowStats } from '../datapath.ts'
import type { Sender } from './channel.ts'
import { type FlowRecords, readUfid } from './flow-record.ts'
import { readU64 } from './module.ts'
import type { Output } from './output.ts'
import { flowAttr, flowCommand, messageHeader, ufidOnly } from './protocol.ts'

export const limits = {
  /** Flows asked for singly within a second. */
  singles: 32,
  /** How old statistics may be that all were read at once. */
  ageMs: 1000,
  /** Requests in one call: their answers must find room in the socket, a kilobyte for each. */
  together: 512,
} as const

const request = 1
const dump = 0x301
const typeError = 2
const typeDone = 3
const sequence = 0x7fff_0001

export interface StatsParts {
  readonly records: FlowRecords
  readonly sender: Sender
  /** Empty when statistics are read. */
  readonly out: Output
  readonly family: number
  readonly datapath: number
}

export class StatsReader {
  readonly #parts: StatsParts
  #reading = 0
  /** The last reading of all there are. */
  #readingOfAll = Number.POSITIVE_INFINITY
  #readAtMs = Number.NEGATIVE_INFINITY
  #singles: number = limits.singles
  #refilledAtMs = 0

  constructor(parts: StatsParts) {
    this.#parts = parts
  }

  /** Undefined when the kernel does not have the flow any more: then it is not a record either. */
  read(id: FlowId): FlowStats | undefined {
    const { records } = this.#parts
    const nowMs = monotonicMs()
    if (nowMs - this.#refilledAtMs >= limits.ageMs) {
      this.#singles = limits.singles
      this.#refilledAtMs = nowMs
    }
    if (this.#singles > 0) {
      this.#singles--
      return this.#readOne(id) ? records.stats(id, nowMs) : undefined
    }
    if (nowMs - this.#readAtMs >= limits.ageMs) this.#readAll(nowMs)
    // A flow younger than the last reading, or one that somebody else has removed.
    if (!records.wasRead(id, this.#readingOfAll) && !this.#readOne(id)) return undefined
    return records.stats(id, nowMs)
  }

  /** The same of many flows, in their order. */
  readMany(ids: readonly FlowId[]): (FlowStats | undefined)[] {
    const { records, sender, out } = this.#parts
    const reading = ++this.#reading
    sender.drain(() => {})
    for (let from = 0; from < ids.length; from += limits.together) {
      const to = Math.min(ids.length, from + limits.together)
      for (let index = from; index < to; index++) {
        const id = ids[index]
        if (id === undefined || !records.has(id)) continue
        this.#ask(id)
        out.end()
      }
      if (out.size === 0) continue
      sender.send(out.arena.address, out.size)
      out.clear()
      sender.collect(this.#heed)
    }
    const nowMs = monotonicMs()
    return ids.map((id) => {
      if (!records.has(id)) return undefined
      // The answer may have found no room: one that is waited for is certain.
      const isThere = records.wasRead(id, reading) || this.#readOne(id)
      return isThere ? records.stats(id, nowMs) : undefined
    })
  }

  readonly #heed = (start: number, end: number): void => {
    const { bytes } = this.#parts.sender.answers
    if ((bytes[start + 4] ?? 0) !== typeError || bytes[start + 5] !== 0)
      this.#note(bytes, start + messageHeader, end)
  }

  #ask(id: FlowId): void {
    const { records, out, family, datapath } = this.#parts
    out.begin(family, request, sequence, flowCommand.get, datapath)
    records.writeUfid(id, out)
    out.attribute32(flowAttr.ufidFlags, ufidOnly)
  }

  /** False when somebody else has removed the flow. */
  #readOne(id: FlowId): boolean {
    this.#ask(id)
    const isThere = this.#exchange() === 'answered'
    if (!isThere) this.#parts.records.refuse(id)
    return isThere
  }

  #readAll(nowMs: number): void {
    const { out, family, datapath } = this.#parts
    this.#readingOfAll = ++this.#reading
    this.#readAtMs = nowMs
    out.begin(family, dump, sequence, flowCommand.get, datapath)
    out.attribute32(flowAttr.ufidFlags, ufidOnly)
    this.#exchange()
  }

  /** Sends what was begun and takes in the answer, up to its end. */
  #exchange(): 'answered' | 'refused' {
    const { out, sender } = this.#parts
    out.end()
    sender.drain(() => {})
    sender.send(out.arena.address, out.size)
    out.clear()
    for (;;) {
      const bytes = sender.receive()
      const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
      for (let at = 0; at + 16 <= bytes.length; ) {
        const size = view.getUint32(at, true)
        const type = view.getUint16(at + 4, true)
        if (type === typeDone) return 'answered'
        if (type === typeError) return 'refused'
        this.#note(bytes, at + messageHeader, at + size)
        if ((view.getUint16(at + 6, true) & 2) === 0) return 'answered'
        at += (size + 3) & ~3
      }
    }
  }

  #note(bytes: Uint8Array, start: number, end: number): void {
    const { records } = this.#parts
    let [packets, count, usedMs] = [0, 0, 0]
    let id: FlowId | undefined
    for (let at = start; at + 4 <= end; ) {
      const size = (bytes[at] ?? 0) | ((bytes[at + 1] ?? 0) << 8)
      if (size < 4) break
      const type = ((bytes[at + 2] ?? 0) | ((bytes[at + 3] ?? 0) << 8)) & 0x3fff
      if (type === flowAttr.ufid) {
        const ufid = readUfid(bytes, at + 4, size - 4)
        id = ufid === undefined ? undefined : records.named(ufid)
      } else if (type === flowAttr.stats) {
        packets = readU64(bytes, at + 4)
        count = readU64(bytes, at + 12)
      } else if (type === flowAttr.used) usedMs = readU64(bytes, at + 4)
      at += (size + 3) & ~3
    }
    if (id !== undefined) records.note(id, this.#reading, packets, count, usedMs)
  }
}

/** The clock that the kernel tells a flow's last use in. */
export function monotonicMs(): number {
  return Number(process.hrtime.bigint()) / 1e6
}
