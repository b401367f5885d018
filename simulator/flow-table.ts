/**
 * The flows this agent answers for: which facts each rests on, and when it was last used.
 *
 * Flows and tags meet in links. The links of a tag are a list in both directions, those of a flow a
 * list in one, so that removing a flow costs as much as it has tags, and invalidating a tag as much
 * as it has flows. Links stand in columns of numbers: a flow makes no object for each of its tags.
 *
 *   tag ── first ─▶ link ◀─ before, after ─▶ link …      flow ── links ─▶ link ── next ─▶ link …
 */
import type { FlowId } from '../datapath/datapath.ts'
import type { Lively } from './simulation.ts'
import type { Tag } from './tag.ts'
import { TagTable } from './tag-table.ts'

export interface Flow {
  readonly id: FlowId
  /** What its packets keep: nearly always one thing at most, which needs no list. */
  readonly source: Lively | undefined
  readonly otherSources: readonly Lively[]
  /** When the flow was last known to carry a packet. */
  usedMs: number
  /** How long it may carry nothing. */
  readonly idleMs: number
  readonly endsMs: number | undefined
}

/** What a flow rests on. */
export interface Basis {
  /** The first `tagCount` of these. */
  readonly tags: readonly Tag[]
  readonly tagCount: number
  /** Learned MAC addresses that are its source, and its connections: its packets keep them. Copied. */
  readonly sources: readonly Lively[]
  /** When it goes in any case; undefined for nearly all flows. */
  readonly endsMs: number | undefined
}

/** New for each flow: what was made together lies together, and a million flows are far apart. */
interface Standing extends Flow {
  /** The first of its links, 0 for none. */
  links: number
  /** Its place in the ring. */
  place: number
}

export const limits = {
  /** Flows looked at to find one to evict. */
  evictionCandidates: 32,
} as const

const firstCapacity = 4096
/** Words of a link: before and after it in the tag's list, the flow's next link, flow, and tag. */
const after = 1
const next = 2
const flowAt = 3
const linkWords = 5

const noSources: readonly never[] = []

export class FlowTable {
  readonly #flows: (Standing | undefined)[] = []
  /** Ids of all flows, to be looked at in turn. */
  readonly #ring: FlowId[] = []
  /** The first link of each tag that flows rest on. */
  readonly #firsts = new TagTable()
  /** The links, `linkWords` numbers each; link 0 is none. */
  #links = new Int32Array(linkWords)
  /** The first of the free links, joined by their next. */
  #freeLink = 0
  /** Flows that end at a fixed time, in the order they were added. */
  readonly #ending = new Set<Flow>()
  #hand = 0

  get size(): number {
    return this.#ring.length
  }

  get tagCount(): number {
    return this.#firsts.size
  }

  has(id: FlowId): boolean {
    return this.#flows[id] !== undefined
  }

  /** Takes a flow in; one with the same id is replaced, as the datapath did. */
  add(
    id: FlowId,
    { tags, tagCount, sources, endsMs }: Basis,
    usedMs: number,
    idleMs: number,
  ): void {
    if (this.#flows[id] !== undefined) this.remove(id)
    const place = this.#ring.length
    const source = sources[0]
    const otherSources = sources.length > 1 ? sources.slice(1) : noSources
    const flow: Standing = {
      id,
      source,
      otherSources,
      usedMs,
      idleMs,
      endsMs,
      links: 0,
      place,
    }
    this.#flows[id] = flow
    this.#ring.push(id)
    if (endsMs !== undefined) this.#ending.add(flow)
    let own = 0
    for (let at = 0; at < tagCount; at++) own = this.#enlist(id, tags[at] ?? 0, own)
    flow.links = own
  }

  remove(id: FlowId): boolean {
    const flow = this.#flows[id]
    if (flow === undefined) return false
    this.#flows[id] = undefined
    if (flow.endsMs !== undefined) this.#ending.delete(flow)
    const last = this.#ring.pop()
    const moved = last === undefined || last === id ? undefined : this.#flows[last]
    if (moved !== undefined) {
      this.#ring[flow.place] = moved.id
      moved.place = flow.place
    }
    for (let link = flow.links; link !== 0; ) {
      const following = this.#links[link + next] ?? 0
      this.#delist(link)
      link = following
    }
    return true
  }

  /** Removes the flows that rest on a fact, and says which these were. */
  invalidate(tag: Tag, removed: (id: FlowId) => void): void {
    for (let first = this.#firsts.get(tag); first !== 0; first = this.#firsts.get(tag)) {
      const id = this.#links[first + flowAt] ?? 0
      this.remove(id)
      removed(id)
    }
  }

  /** Whether any flow rests on a fact. */
  isUsed(tag: Tag): boolean {
    return this.#firsts.get(tag) !== 0
  }

  /** The flows that rest on a fact; the list must not change meanwhile. */
  *with(tag: Tag): IterableIterator<Flow> {
    for (let link = this.#firsts.get(tag); link !== 0; link = this.#links[link + after] ?? 0) {
      const flow = this.#flows[this.#links[link + flowAt] ?? 0]
      if (flow !== undefined) yield flow
    }
  }

  /** The next flows in turn, at most `count`; the list may change while they are looked at. */
  *next(count: number): IterableIterator<Flow> {
    for (let left = Math.min(count, this.#ring.length); left > 0; left--) {
      if (this.#hand >= this.#ring.length) this.#hand = 0
      const id = this.#ring[this.#hand] ?? 0
      const flow = this.#flows[id]
      if (flow === undefined) return
      yield flow
      // When the flow was removed, another one stands at its place now.
      if (this.#ring[this.#hand] === id) this.#hand++
    }
  }

  /** Flows whose fixed end has come. */
  *ended(nowMs: number): IterableIterator<Flow> {
    for (const entry of this.#ending) {
      if ((entry.endsMs ?? 0) > nowMs) return
      yield entry
    }
  }

  /** When the next flow ends at a fixed time; Infinity when none does. */
  nextEndMs(): number {
    for (const { endsMs } of this.#ending) if (endsMs !== undefined) return endsMs
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

  // Of every flow, for each of its tags: so without the names of a link's words, which are looked
  // up wherever they stand.

  /** Lists a flow under a tag, before its other links from `own` on; says which is its first now. */
  #enlist(id: FlowId, tag: Tag, own: number): number {
    const link = this.#takeLink()
    const first = this.#firsts.replace(tag, link)
    const links = this.#links
    // The flow is the newest: where it is listed already, it is the first.
    if (first !== 0 && links[first + 3] === id) {
      this.#firsts.replace(tag, first)
      this.#freeUp(link)
      return own
    }
    links[link] = 0
    links[link + 1] = first
    links[link + 2] = own
    links[link + 3] = id
    links[link + 4] = tag
    if (first !== 0) links[first] = link
    return link
  }

  #delist(link: number): void {
    const links = this.#links
    const earlier = links[link] ?? 0
    const later = links[link + 1] ?? 0
    const tag = links[link + 4] ?? 0
    if (later !== 0) links[later] = earlier
    if (earlier !== 0) links[earlier + 1] = later
    else if (later !== 0) this.#firsts.replace(tag, later)
    else this.#firsts.delete(tag)
    this.#freeUp(link)
  }

  #freeUp(link: number): void {
    this.#links[link + 2] = this.#freeLink
    this.#freeLink = link
  }

  #takeLink(): number {
    if (this.#freeLink === 0) this.#addLinks()
    const link = this.#freeLink
    this.#freeLink = this.#links[link + 2] ?? 0
    return link
  }

  /** All that are new are free at once: a link is taken the same way whether it was used before. */
  #addLinks(): void {
    const start = this.#links.length
    const grown = new Int32Array(Math.max(firstCapacity * linkWords, start * 2))
    grown.set(this.#links)
    this.#links = grown
    for (let link = grown.length - linkWords; link >= start; link -= linkWords) this.#freeUp(link)
  }
}
