/** The flows in the kernel's maps, and what this process knows of each. */
import type { Action } from '../../packet/action.ts'
import { type FlowKey, keyWords, maskKey } from '../../packet/flow-key.ts'
import type { FlowId, FlowMatch, FlowStats, InstalledFlow } from '../datapath.ts'
import { decodePeer, decodeSlots, type PeerOf, SlotList } from './encode.ts'
import { EntryPool } from './entry-pool.ts'
import {
  chainMax,
  entriesMax,
  entry,
  executeEntries,
  masksMax,
  slot,
  slotPayload,
} from './layout.ts'
import { type Maps, maskIdWord } from './maps.ts'
import { MaskTable } from './mask-table.ts'

interface Flow {
  /** As in the kernel: masked words, then the mask's id. */
  readonly key: Uint32Array
  /** Indexes of the entries, in the order of the chain. */
  entries: readonly number[]
}

/** Entries and their slots as bytes. */
const slotsEnd = entry.slotCount * entry.slotSize
const statWords = entry.slots / 4
const nanosecondsPerMillisecond = 1_000_000

export class FlowStore {
  readonly #maps: Maps
  readonly #masks: MaskTable
  readonly #pool: EntryPool
  readonly #flows = new Map<FlowId, Flow>()
  /** Which flow an entry is the first of: how a flow is found that is installed again. */
  readonly #owners = new Map<number, FlowId>()
  readonly #freeIds: FlowId[] = []
  #idEnd = 1
  readonly #slots = new SlotList()
  readonly #now: () => number

  /** Takes over the flows that the maps hold. `now` is the monotonic clock in milliseconds. */
  constructor(maps: Maps, now: () => number) {
    this.#maps = maps
    this.#now = now
    this.#masks = new MaskTable(maps.table)
    const used = new Set<number>()
    for (const [key, head] of this.#stored()) {
      const chain = this.#readChain(head)
      for (const index of chain) used.add(index)
      this.#masks.use(key[maskIdWord] ?? 0)
      this.#remember({ key, entries: chain })
    }
    this.#masks.prune()
    this.#pool = new EntryPool(executeEntries, entriesMax, now, (index) => used.has(index))
  }

  get flowCount(): number {
    return this.#flows.size
  }

  get maskCount(): number {
    return this.#masks.count
  }

  /** The flows that send packets themselves, not copies, to a port. */
  outputsTo(port: number): readonly FlowId[] {
    return [...this.#flows.keys()].filter((id) => {
      const [first, ...rest] = this.actions(id) ?? []
      const actions = first?.kind === 'checkPacketLength' ? first.lessEqual : [first, ...rest]
      const output = actions.findLast((action) => action?.kind === 'output')
      return output?.kind === 'output' && output.port === port
    })
  }

  /** What flows know of the peers of ports: pairs of port and MAC address. */
  *peers(): Iterable<readonly [number, number]> {
    const { bytes } = this.#maps.entries
    for (const { entries } of this.#flows.values())
      for (const index of entries)
        for (let position = 0; position < entry.slotCount; position++) {
          const at = index * entry.size + entry.slots + position * entry.slotSize
          const peer = decodePeer(bytes.subarray(at, at + entry.slotSize))
          if (peer !== undefined) yield peer
        }
  }

  /** @throws DatapathError `ENOSPC`, `E2BIG` */
  install({ key, mask }: FlowMatch, actions: readonly Action[], peerOf: PeerOf): FlowId {
    this.#slots.encode(actions, peerOf)
    const chain = this.#pool.take(chainLength(this.#slots.count))
    const words = new Uint32Array(keyWords + 1)
    let maskId: number
    try {
      maskId = this.#masks.add(mask)
    } catch (error) {
      this.#pool.giveBack(chain)
      throw error
    }
    maskKey(key, mask, words)
    words[maskIdWord] = maskId
    this.#writeChain(chain)
    try {
      return this.#store(words, chain)
    } catch (error) {
      this.#pool.giveBack(chain)
      // Frees the mask when it is new.
      this.#masks.use(maskId)
      this.#masks.release(maskId)
      throw error
    }
  }

  /** Writes a flow's actions again, for what has changed about its ports. */
  rewrite(id: FlowId, peerOf: PeerOf): void {
    const flow = this.#flows.get(id)
    const actions = this.actions(id)
    if (flow === undefined || actions === undefined) return
    this.#slots.encode(actions, peerOf)
    const chain = this.#pool.take(chainLength(this.#slots.count))
    this.#writeChain(chain)
    this.#switch(id, flow, chain)
  }

  /** Makes the reserved entries carry out actions. @throws DatapathError `E2BIG` */
  prepareExecute(actions: readonly Action[]): void {
    const outputs = actions.filter(({ kind }) => kind !== 'userspace')
    this.#slots.encode(outputs, () => undefined)
    const count = chainLength(this.#slots.count)
    this.#writeChain(executeChain.slice(0, count))
  }

  remove(id: FlowId): void {
    const flow = this.#flows.get(id)
    if (flow === undefined) return
    this.#flows.delete(id)
    this.#freeIds.push(id)
    const { flows } = this.#maps.byName
    flows.keyWords.set(flow.key)
    flows.remove()
    this.#owners.delete(flow.entries[0] ?? 0)
    this.#pool.giveBack(flow.entries)
    this.#masks.release(flow.key[maskIdWord] ?? 0)
  }

  stats(id: FlowId): FlowStats | undefined {
    const head = this.#flows.get(id)?.entries[0]
    if (head === undefined) return undefined
    const usedAtMs = this.#u64(head, entry.usedAt) / nanosecondsPerMillisecond
    return {
      packets: this.#u64(head, entry.packets),
      bytes: this.#u64(head, entry.bytes),
      // The kernel's cheap clock lags a tick, so a flow in use can seem to be of the future.
      idleMs: usedAtMs === 0 ? Number.POSITIVE_INFINITY : Math.max(0, this.#now() - usedAtMs),
    }
  }

  actions(id: FlowId): readonly Action[] | undefined {
    const flow = this.#flows.get(id)
    return flow === undefined ? undefined : this.#readActions(flow.entries)
  }

  *all(): Iterable<InstalledFlow> {
    for (const [id, flow] of [...this.#flows]) {
      const mask = this.#masks.at(flow.key[maskIdWord] ?? masksMax)
      const stats = this.stats(id)
      if (mask === undefined || stats === undefined) continue
      const key = flow.key.subarray(0, keyWords)
      yield { id, key, mask: mask.slice(), actions: this.#readActions(flow.entries), stats }
    }
  }

  /** Flows in the kernel that can be taken over; those that cannot are removed. */
  #stored(): readonly (readonly [Uint32Array, number])[] {
    const { flows } = this.#maps.byName
    const found: [Uint32Array, number][] = []
    for (const key of [...flows.keys()]) {
      flows.keyWords.set(key)
      if (!flows.lookup()) continue
      const head = flows.valueView.getUint32(0, true)
      const known = head < entriesMax && this.#masks.isSet(key[maskIdWord] ?? masksMax)
      if (known) found.push([key, head])
      else flows.remove()
    }
    return found
  }

  /** Switches the kernel to new entries: as a fresh flow, or in place of the one with this key. */
  #store(key: FlowKey, chain: readonly number[]): FlowId {
    const { flows } = this.#maps.byName
    const head = chain[0] ?? 0
    flows.keyWords.set(key)
    flows.valueView.setUint32(0, head, true)
    if (flows.update(true)) {
      this.#masks.use(key[maskIdWord] ?? 0)
      return this.#remember({ key, entries: chain })
    }
    const before = flows.lookup() ? this.#owners.get(flows.valueView.getUint32(0, true)) : undefined
    const flow = before === undefined ? undefined : this.#flows.get(before)
    if (before !== undefined && flow !== undefined) {
      this.#switch(before, flow, chain)
      return before
    }
    // In the kernel but unknown here: only another process can have put it there.
    flows.valueView.setUint32(0, head, true)
    flows.update()
    this.#masks.use(key[maskIdWord] ?? 0)
    return this.#remember({ key, entries: chain })
  }

  #switch(id: FlowId, flow: Flow, chain: readonly number[]): void {
    const { flows } = this.#maps.byName
    const [before, head] = [flow.entries[0] ?? 0, chain[0] ?? 0]
    const { words } = this.#maps.entries
    const from = (before * entry.size) / 4
    words.copyWithin((head * entry.size) / 4, from, from + statWords)
    flows.keyWords.set(flow.key)
    flows.valueView.setUint32(0, head, true)
    flows.update()
    this.#owners.delete(before)
    this.#owners.set(head, id)
    this.#pool.giveBack(flow.entries)
    flow.entries = chain
  }

  #remember(flow: Flow): FlowId {
    const id = this.#freeIds.pop() ?? this.#idEnd++
    this.#flows.set(id, flow)
    this.#owners.set(flow.entries[0] ?? 0, id)
    return id
  }

  /** Writes the encoded slots to entries, with statistics at 0. */
  #writeChain(chain: readonly number[]): void {
    const { bytes, view } = this.#maps.entries
    let from = 0
    for (const [position, index] of chain.entries()) {
      const at = index * entry.size
      bytes.fill(0, at, at + entry.size)
      const next = chain[position + 1]
      const count = next === undefined ? entry.slotCount : entry.slotCount - 1
      const source = this.#slots.bytes.subarray(
        from * entry.slotSize,
        (from + count) * entry.slotSize,
      )
      bytes.set(source, at + entry.slots)
      from += count
      if (next === undefined) continue
      const way = at + entry.slots + count * entry.slotSize
      bytes[way] = slot.next
      view.setUint32(way + slotPayload, next, true)
    }
  }

  #readChain(head: number): readonly number[] {
    const { bytes, view } = this.#maps.entries
    const chain: number[] = []
    let index = head
    while (chain.length < chainMax && index < entriesMax) {
      chain.push(index)
      const way = index * entry.size + entry.slots + (entry.slotCount - 1) * entry.slotSize
      if (bytes[way] !== slot.next) break
      index = view.getUint32(way + slotPayload, true)
    }
    return chain
  }

  #readActions(chain: readonly number[]): readonly Action[] | undefined {
    const { bytes } = this.#maps.entries
    const slots = new Uint8Array(chain.length * slotsEnd)
    let size = 0
    for (const [position, index] of chain.entries()) {
      const start = index * entry.size + entry.slots
      const end = start + slotsEnd - (position < chain.length - 1 ? entry.slotSize : 0)
      slots.set(bytes.subarray(start, end), size)
      size += end - start
    }
    return decodeSlots(slots.subarray(0, size))
  }

  #u64(index: number, offset: number): number {
    const { view } = this.#maps.entries
    const at = index * entry.size + offset
    return view.getUint32(at, true) + view.getUint32(at + 4, true) * 0x1_0000_0000
  }
}

const executeChain = Array.from({ length: executeEntries }, (_, index) => index)

/** Entries for so many slots: each but the last gives one of its slots to the way on. */
function chainLength(slots: number): number {
  return slots <= entry.slotCount ? 1 : Math.ceil((slots - 1) / (entry.slotCount - 1))
}
