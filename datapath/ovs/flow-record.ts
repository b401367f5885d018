/**
 * What this process knows of each flow in the kernel: its name there (UFID), its canonical key and
 * mask, and the statistics last read. Kept in columns, since there are many.
 *
 *   UFID   u32 'mido'   u32 process   u32 serial   u32 id
 */

import type { FlowKey } from '../../packet/flow-key.ts'
import type { FlowId, FlowStats } from '../datapath.ts'
import { type FlowMasks, MatchTable } from '../match-table.ts'
import { hostU32 } from './key.ts'
import type { KernelMatch } from './match.ts'
import type { Output } from './output.ts'
import { flowAttr } from './protocol.ts'

export const ufidSize = 16
const ufidMagic = 0x6f64_696d
/** Of no reading of statistics yet. */
const unread = 0
const firstCapacity = 1024

/** The name of a flow in the kernel. */
export interface Ufid {
  readonly process: number
  readonly serial: number
  readonly id: FlowId
}

export class FlowRecords {
  readonly #matches = new MatchTable()
  readonly #freeIds: FlowId[] = []
  #idEnd = 0
  /** Process, serial, and state: 0 free, 1 in the kernel, 2 refused by it after all. */
  #names = new Uint32Array(firstCapacity * 3)
  /** Packets, bytes, and when the last packet came. */
  #stats = new Float64Array(firstCapacity * 3)
  /** Which reading of statistics each was last part of. */
  #readings = new Uint32Array(firstCapacity)

  get size(): number {
    return this.#matches.size
  }

  get masks(): FlowMasks {
    return this.#matches.masks
  }

  find(match: KernelMatch): FlowId | undefined {
    return this.#matches.find(match)
  }

  /** Writes the key of a flow; says its mask, which is also that of others: not to be changed. */
  readKey(id: FlowId, key: FlowKey): FlowKey | undefined {
    return this.#matches.readKey(id, key)
  }

  /**
   * The flow with this match; where there is none, one that is new, with the id that is wanted. The
   * mask must not change any more.
   */
  findOrAdd(match: KernelMatch, process: number, serial: number, wanted?: FlowId): FlowId {
    const id = this.#takeId(wanted)
    const found = this.#matches.findOrAdd(match, id)
    if (found !== id) {
      this.#freeIds.push(id)
      return found
    }
    this.#grow(id)
    const at = id * 3
    this.#names[at] = process
    this.#names[at + 1] = serial
    this.#names[at + 2] = 1
    for (let column = at; column < at + 3; column++) this.#stats[column] = 0
    // Another flow had this id, and may have been read a moment ago.
    this.#readings[id] = unread
    return id
  }

  /** Forgets a flow; its id is free again. */
  remove(id: FlowId): void {
    const state = this.#state(id)
    if (state === 0) return
    this.#matches.remove(id)
    this.#names[id * 3 + 2] = 0
    this.#freeIds.push(id)
  }

  /** The kernel did not take it: the id stays taken until its owner removes the flow. */
  refuse(id: FlowId): void {
    if (this.#state(id) !== 1) return
    this.#matches.remove(id)
    this.#names[id * 3 + 2] = 2
  }

  /** Whether the kernel has it. */
  has(id: FlowId): boolean {
    return this.#state(id) === 1
  }

  ufid(id: FlowId): Ufid {
    return { process: this.#names[id * 3] ?? 0, serial: this.#names[id * 3 + 1] ?? 0, id }
  }

  /** Writes a flow's name as an attribute of the message that is being written. */
  writeUfid(id: FlowId, out: Output): void {
    const names = this.#names
    out.attribute128(flowAttr.ufid, ufidMagic, names[id * 3] ?? 0, names[id * 3 + 1] ?? 0, id)
  }

  /** The flow with this name, if it is here. */
  named({ process, serial, id }: Ufid): FlowId | undefined {
    const at = id * 3
    const known = this.#names[at] === process && this.#names[at + 1] === serial && this.has(id)
    return known ? id : undefined
  }

  /** `reading` numbers the reading of statistics that this is part of, from 1 on. */
  note(id: FlowId, reading: number, packets: number, bytes: number, usedMs: number): void {
    const at = id * 3
    this.#readings[id] = reading
    this.#stats[at] = packets
    this.#stats[at + 1] = bytes
    this.#stats[at + 2] = usedMs
  }

  /** Whether it was part of a reading or a later one. */
  wasRead(id: FlowId, reading: number): boolean {
    return (this.#readings[id] ?? unread) >= reading
  }

  stats(id: FlowId, nowMs: number): FlowStats {
    const at = id * 3
    const stats = this.#stats
    const idleMs = idleSince(stats[at + 2] ?? 0, nowMs)
    return { packets: stats[at] ?? 0, bytes: stats[at + 1] ?? 0, idleMs }
  }

  #state(id: FlowId): number {
    return this.#names[id * 3 + 2] ?? 0
  }

  #takeId(wanted: FlowId | undefined): FlowId {
    if (wanted === undefined) return this.#freeIds.pop() ?? this.#idEnd++
    if (this.#state(wanted) !== 0) return this.#freeIds.pop() ?? this.#idEnd++
    // Flows are adopted in the order of their ids: what is skipped is free.
    if (wanted < this.#idEnd) return this.#freeIds.pop() ?? this.#idEnd++
    while (this.#idEnd < wanted) this.#freeIds.push(this.#idEnd++)
    return this.#idEnd++
  }

  #grow(id: FlowId): void {
    const capacity = this.#names.length / 3
    if (id < capacity) return
    const wanted = Math.max(capacity * 2, id + 1)
    const names = new Uint32Array(wanted * 3)
    const stats = new Float64Array(wanted * 3)
    names.set(this.#names)
    stats.set(this.#stats)
    const readings = new Uint32Array(wanted)
    readings.set(this.#readings)
    this.#readings = readings
    this.#names = names
    this.#stats = stats
  }
}

/** The kernel's clock for flows lags, so that one in use can seem to be of the future. */
export function idleSince(usedMs: number, nowMs: number): number {
  return usedMs === 0 ? Number.POSITIVE_INFINITY : Math.max(0, nowMs - usedMs)
}

/** The name at `at` that is `size` bytes long; undefined when it is not of our making. */
export function readUfid(bytes: Uint8Array, at: number, size: number): Ufid | undefined {
  if (size !== ufidSize || hostU32(bytes, at) !== ufidMagic) return undefined
  return {
    process: hostU32(bytes, at + 4),
    serial: hostU32(bytes, at + 8),
    id: hostU32(bytes, at + 12),
  }
}
