/**
 * What this process knows of each flow in the kernel: its name there (UFID), its canonical key and
 * mask, and the statistics last read. Kept in columns, since there are many.
 *
 *   UFID   u32 'mido'   u32 process   u32 serial   u32 id
 */
import { createKey, equalKeys, type FlowKey, hashKey, keyWords } from '../../packet/flow-key.ts'
import type { FlowId, FlowStats } from '../datapath.ts'
import { MaskCount } from './mask-count.ts'
import type { KernelMatch } from './match.ts'

export const ufidSize = 16
const ufidMagic = 0x6f64_696d
const firstCapacity = 1024

/** The name of a flow in the kernel. */
export interface Ufid {
  readonly process: number
  readonly serial: number
  readonly id: FlowId
}

export class FlowRecords {
  readonly masks = new MaskCount()
  readonly #byHash = new Map<number, FlowId[]>()
  readonly #freeIds: FlowId[] = []
  readonly #scratch: KernelMatch = { key: createKey(), mask: createKey() }
  #idEnd = 0
  #size = 0
  /** Key and mask of each. */
  #words = new Uint32Array(firstCapacity * keyWords * 2)
  /** Process, serial, and state: 0 free, 1 in the kernel, 2 refused by it after all. */
  #names = new Uint32Array(firstCapacity * 3)
  /** Packets, bytes, and when the last packet came. */
  #stats = new Float64Array(firstCapacity * 3)
  /** Which reading of all statistics each was last part of. */
  #readings = new Uint32Array(firstCapacity)

  get size(): number {
    return this.#size
  }

  find(match: KernelMatch): FlowId | undefined {
    for (const id of this.#byHash.get(hashOf(match)) ?? []) {
      const { key, mask } = this.match(id)
      if (equalKeys(key, match.key) && equalKeys(mask, match.mask)) return id
    }
    return undefined
  }

  /** Gives a flow an id, or the one it has had already. */
  add(match: KernelMatch, process: number, serial: number, wanted?: FlowId): FlowId {
    const id = this.#takeId(wanted)
    this.#grow(id)
    this.#words.set(match.key, id * keyWords * 2)
    this.#words.set(match.mask, (id * 2 + 1) * keyWords)
    this.#names.set([process, serial, 1], id * 3)
    this.#stats.fill(0, id * 3, id * 3 + 3)
    const hash = hashOf(match)
    const ids = this.#byHash.get(hash)
    if (ids === undefined) this.#byHash.set(hash, [id])
    else ids.push(id)
    this.masks.add(match.mask)
    this.#size++
    return id
  }

  /** Forgets a flow; its id is free again. */
  remove(id: FlowId): void {
    const state = this.#state(id)
    if (state === 0) return
    if (state === 1) this.#forget(id)
    this.#names[id * 3 + 2] = 0
    this.#freeIds.push(id)
  }

  /** The kernel did not take it: the id stays taken until its owner removes the flow. */
  refuse(id: FlowId): void {
    if (this.#state(id) !== 1) return
    this.#forget(id)
    this.#names[id * 3 + 2] = 2
  }

  /** Whether the kernel has it. */
  has(id: FlowId): boolean {
    return this.#state(id) === 1
  }

  /** Valid until the next call. */
  match(id: FlowId): KernelMatch {
    const { key, mask } = this.#scratch
    const at = id * keyWords * 2
    key.set(this.#words.subarray(at, at + keyWords))
    mask.set(this.#words.subarray(at + keyWords, at + keyWords * 2))
    return this.#scratch
  }

  ufid(id: FlowId): Ufid {
    return { process: this.#names[id * 3] ?? 0, serial: this.#names[id * 3 + 1] ?? 0, id }
  }

  /** The flow with this name, if it is here. */
  named({ process, serial, id }: Ufid): FlowId | undefined {
    const at = id * 3
    const known = this.#names[at] === process && this.#names[at + 1] === serial && this.has(id)
    return known ? id : undefined
  }

  /** `reading` numbers the reading of all statistics that this is part of. */
  note(id: FlowId, reading: number, packets: number, bytes: number, usedMs: number): void {
    const at = id * 3
    this.#readings[id] = reading
    this.#stats[at] = packets
    this.#stats[at + 1] = bytes
    this.#stats[at + 2] = usedMs
  }

  wasRead(id: FlowId, reading: number): boolean {
    return this.#readings[id] === reading
  }

  stats(id: FlowId, nowMs: number): FlowStats {
    const at = id * 3
    const [packets = 0, bytes = 0, usedMs = 0] = this.#stats.subarray(at, at + 3)
    return { packets, bytes, idleMs: idleSince(usedMs, nowMs) }
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

  #forget(id: FlowId): void {
    const match = this.match(id)
    this.masks.remove(match.mask)
    const hash = hashOf(match)
    const left = (this.#byHash.get(hash) ?? []).filter((other) => other !== id)
    if (left.length === 0) this.#byHash.delete(hash)
    else this.#byHash.set(hash, left)
    this.#size--
  }

  #grow(id: FlowId): void {
    const capacity = this.#names.length / 3
    if (id < capacity) return
    const wanted = Math.max(capacity * 2, id + 1)
    const words = new Uint32Array(wanted * keyWords * 2)
    const names = new Uint32Array(wanted * 3)
    const stats = new Float64Array(wanted * 3)
    words.set(this.#words)
    names.set(this.#names)
    stats.set(this.#stats)
    const readings = new Uint32Array(wanted)
    readings.set(this.#readings)
    this.#readings = readings
    this.#words = words
    this.#names = names
    this.#stats = stats
  }
}

/** The kernel's clock for flows lags, so that one in use can seem to be of the future. */
export function idleSince(usedMs: number, nowMs: number): number {
  return usedMs === 0 ? Number.POSITIVE_INFINITY : Math.max(0, nowMs - usedMs)
}

function hashOf({ key, mask }: { readonly key: FlowKey; readonly mask: FlowKey }): number {
  return (hashKey(key) ^ Math.imul(hashKey(mask), 0x9e37_79b1)) >>> 0
}

export function writeUfid({ process, serial, id }: Ufid, out: DataView, at = 0): void {
  for (const [index, word] of [ufidMagic, process, serial, id].entries())
    out.setUint32(at + index * 4, word, true)
}

/** Undefined when the name is not of our making. */
export function readUfid(bytes: Uint8Array): Ufid | undefined {
  if (bytes.length !== ufidSize) return undefined
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  if (view.getUint32(0, true) !== ufidMagic) return undefined
  const [process, serial, id] = [4, 8, 12].map((at) => view.getUint32(at, true))
  return { process: process ?? 0, serial: serial ?? 0, id: id ?? 0 }
}
