/**
 * The flows this agent answers for: which facts each rests on, and when it was last used.
 *
 * Each tag holds the list of its flows, each flow its place in every such list, so that removing a
 * flow costs as much as it has tags, and invalidating a tag as much as it has flows.
 */
import type { FlowId } from '../datapath/datapath.ts'
import type { Lively } from './simulation.ts'
import type { Tag } from './tag.ts'

export interface Flow {
  readonly id: FlowId
  /** Learned MAC addresses that are its source, and its connections: its packets keep them. */
  readonly sources: readonly Lively[]
  /** When the flow was last known to carry a packet. */
  usedMs: number
  /** When it goes in any case; Infinity for nearly all flows. */
  readonly endsMs: number
}

interface Entry extends Flow {
  readonly lists: TagList[]
  /** Place in each list of `lists`. */
  readonly places: number[]
  /** Place in the ring. */
  index: number
}

interface TagList {
  readonly tag: Tag
  readonly flows: Entry[]
  /** For each flow: which of its lists this is. */
  readonly which: number[]
}

export const limits = {
  /** Flows looked at to find one to evict. */
  evictionCandidates: 32,
} as const

export class FlowTable {
  readonly #flows = new Map<FlowId, Entry>()
  readonly #ring: Entry[] = []
  readonly #tags = new Map<Tag, TagList>()
  /** Flows that end at a fixed time, in the order they were added. */
  readonly #ending = new Set<Entry>()
  #hand = 0

  get size(): number {
    return this.#ring.length
  }

  get tagCount(): number {
    return this.#tags.size
  }

  has(id: FlowId): boolean {
    return this.#flows.has(id)
  }

  get(id: FlowId): Flow | undefined {
    return this.#flows.get(id)
  }

  /** Takes a flow in; one with the same id is replaced, as the datapath did. */
  add(flow: Flow, tags: readonly Tag[]): void {
    this.remove(flow.id)
    const entry: Entry = { ...flow, lists: [], places: [], index: this.#ring.length }
    this.#flows.set(flow.id, entry)
    this.#ring.push(entry)
    if (flow.endsMs !== Number.POSITIVE_INFINITY) this.#ending.add(entry)
    for (const tag of tags) this.#enlist(entry, tag)
  }

  remove(id: FlowId): boolean {
    const entry = this.#flows.get(id)
    if (entry === undefined) return false
    this.#flows.delete(id)
    this.#ending.delete(entry)
    const last = this.#ring.pop()
    if (last !== undefined && last !== entry) {
      this.#ring[entry.index] = last
      last.index = entry.index
    }
    for (const [at, list] of entry.lists.entries()) this.#delist(entry, at, list)
    return true
  }

  /** Removes the flows that rest on a fact, and says which these were. */
  invalidate(tag: Tag, removed: (id: FlowId) => void): void {
    const list = this.#tags.get(tag)
    if (list === undefined) return
    for (let flow = list.flows.at(-1); flow !== undefined; flow = list.flows.at(-1)) {
      this.remove(flow.id)
      removed(flow.id)
    }
  }

  /** Whether any flow rests on a fact. */
  isUsed(tag: Tag): boolean {
    return this.#tags.has(tag)
  }

  /** The flows that rest on a fact. */
  *with(tag: Tag): IterableIterator<Flow> {
    yield* this.#tags.get(tag)?.flows ?? []
  }

  /** The next flows in turn, at most `count`; the list may change while they are looked at. */
  *next(count: number): IterableIterator<Flow> {
    for (let left = Math.min(count, this.#ring.length); left > 0; left--) {
      if (this.#hand >= this.#ring.length) this.#hand = 0
      const entry = this.#ring[this.#hand]
      if (entry === undefined) return
      yield entry
      // When the flow was removed, another one stands at its place now.
      if (this.#ring[this.#hand] === entry) this.#hand++
    }
  }

  /** Flows whose fixed end has come. */
  *ended(nowMs: number): IterableIterator<Flow> {
    for (const entry of this.#ending) {
      if (entry.endsMs > nowMs) return
      yield entry
    }
  }

  /** When the next flow ends at a fixed time; Infinity when none does. */
  nextEndMs(): number {
    for (const entry of this.#ending) return entry.endsMs
    return Number.POSITIVE_INFINITY
  }

  /** Of the next few flows in turn the one that `idleMs` says is idle longest. */
  longestIdle(idleMs: (flow: Flow) => number): Flow | undefined {
    let found: Flow | undefined
    let longest = -1
    for (const flow of this.next(limits.evictionCandidates)) {
      const idle = idleMs(flow)
      if (idle <= longest) continue
      longest = idle
      found = flow
    }
    return found
  }

  #enlist(entry: Entry, tag: Tag): void {
    let list = this.#tags.get(tag)
    if (list === undefined) {
      list = { tag, flows: [], which: [] }
      this.#tags.set(tag, list)
    }
    if (entry.lists.includes(list)) return
    entry.places.push(list.flows.length)
    list.which.push(entry.lists.length)
    list.flows.push(entry)
    entry.lists.push(list)
  }

  /** Takes a flow out of its list number `at`; the list's last flow takes its place. */
  #delist(entry: Entry, at: number, list: TagList): void {
    const place = entry.places[at] ?? 0
    const last = list.flows.pop()
    const lastWhich = list.which.pop()
    if (last !== undefined && lastWhich !== undefined && last !== entry) {
      list.flows[place] = last
      list.which[place] = lastWhich
      last.places[lastWhich] = place
    }
    if (list.flows.length === 0) this.#tags.delete(list.tag)
  }
}
