/**
 * Puts flows into the datapath and takes them out again: when a fact they rest on changes, when
 * they are idle, when there are too many. Never throws what the datapath refuses: a packet without
 * a flow is only slower.
 */
import {
  type Datapath,
  DatapathError,
  type FlowId,
  type FlowMatch,
  type FlowStats,
} from '../datapath/datapath.ts'
import type { Action } from '../packet/action.ts'
import { copyKey, createKey, equalKeys, type FlowKey, matches } from '../packet/flow-key.ts'
import { hasLengthLimit } from './flow-actions.ts'
import type { FlowUse } from './flow-state.ts'
import { type Basis, type Flow, FlowTable } from './flow-table.ts'
import type { Lively } from './simulation.ts'
import type { StateEntry } from './state-entry.ts'
import type { Tag } from './tag.ts'

export const limits = {
  idleMs: 30_000,
  /** Of ARP that goes somewhere: neighbours ask now and then, also while no agent runs. */
  arpIdleMs: 300_000,
  /** How long a flow that carried a packet is not asked about: the kernel is asked for many at once. */
  freshMs: 5_000,
  /** Flows evicted when the datapath has no room for one more. */
  evictions: 16,
  /** Flows looked at in one sweep at least; else a fiftieth of all. */
  flowsPerSweep: 64,
} as const

/** A flow to be installed, with what it rests on. */
export interface NewFlow extends Basis {
  readonly key: FlowKey
  readonly mask: FlowKey
  readonly actions: readonly Action[]
}

/** How often what happened to flows. */
export interface FlowCounters {
  readonly installed: number
  readonly invalidated: number
  readonly expired: number
  readonly evicted: number
  /** Installs that the datapath refused, by code. */
  readonly refused: Readonly<Record<string, number>>
}

const ethertypeArp = 0x0806
const exact = createKey().fill(0xffff_ffff)

export class FlowInstaller implements FlowUse {
  readonly table = new FlowTable()
  readonly limit: number
  readonly #datapath: Datapath
  readonly #now: () => number
  readonly #refused: Record<string, number> = {}
  #installed = 0
  #invalidated = 0
  #expired = 0
  #evicted = 0
  /** The flow installed last, while it stands. */
  readonly #recentKey = createKey()
  #recentMask = createKey()
  #recentActions: readonly Action[] | undefined

  constructor(datapath: Datapath, now: () => number, limit: number) {
    this.#datapath = datapath
    this.#now = now
    this.limit = limit
  }

  get counters(): FlowCounters {
    return {
      installed: this.#installed,
      invalidated: this.#invalidated,
      expired: this.#expired,
      evicted: this.#evicted,
      refused: { ...this.#refused },
    }
  }

  /** What the flow installed last does to a packet: a burst came before the flow was there. */
  recentActions(key: FlowKey): readonly Action[] | undefined {
    if (this.#recentActions === undefined) return undefined
    return matches(key, this.#recentKey, this.#recentMask) ? this.#recentActions : undefined
  }

  install(flow: NewFlow): void {
    while (this.table.size >= this.limit) if (!this.#evict()) return
    const id = this.#tryInstall(flow)
    if (id === undefined) return
    this.#installed++
    this.table.add(id, flow, this.#now(), idleLimit(flow))
    copyKey(flow.key, this.#recentKey)
    this.#recentMask = flow.mask
    // What the length of a packet decides is not for all packets to have.
    this.#recentActions = hasLengthLimit(flow.actions) ? undefined : flow.actions
  }

  /** Answers for a flow that stands in the datapath. */
  take(id: FlowId, flow: Omit<NewFlow, 'mask'>, usedMs: number): void {
    this.table.add(id, flow, usedMs, idleLimit(flow))
  }

  isUsed(tag: Tag): boolean {
    return this.table.isUsed(tag)
  }

  invalidate(tags: readonly Tag[]): void {
    for (const tag of tags) {
      if (!this.table.isUsed(tag)) continue
      this.#recentActions = undefined
      this.table.invalidate(tag, this.#removeInvalid)
    }
  }

  /** Brings `usedMs` up to date. False when the datapath no longer has the flow. */
  refresh(flow: Flow): boolean {
    return noteStats(flow, this.#datapath.stats(flow.id), this.#now())
  }

  /** When flows that rest on an entry of flow state last carried a packet. */
  lastUseMs({ forward, backward, lastSeenMs }: StateEntry): number {
    let usedMs = lastSeenMs
    for (const { tag } of [forward, backward])
      for (const flow of this.table.with(tag)) {
        this.refresh(flow)
        usedMs = Math.max(usedMs, flow.usedMs)
      }
    return usedMs
  }

  /** Removes flows whose time has come: at a fixed time, or, of the next few in turn, the idle. */
  sweep(): void {
    const nowMs = this.#now()
    for (const flow of this.table.ended(nowMs)) this.#expire(flow)
    const count = Math.max(limits.flowsPerSweep, Math.ceil(this.table.size / 50))
    const asked: Flow[] = []
    for (const flow of this.table.next(count))
      if (nowMs - flow.usedMs >= limits.freshMs) asked.push(flow)
      else noteUses(flow)
    const told = this.#datapath.statsOf(asked.map(({ id }) => id))
    for (const [index, flow] of asked.entries()) {
      const isThere = noteStats(flow, told[index], nowMs)
      noteUses(flow)
      if (!isThere || nowMs - flow.usedMs >= flow.idleMs) this.#expire(flow)
    }
  }

  readonly #removeInvalid = (id: FlowId): void => {
    this.#invalidated++
    this.#datapath.remove(id)
  }

  #expire(flow: Flow): void {
    this.#expired++
    this.#remove(flow)
  }

  #remove(flow: Flow): void {
    this.#recentActions = undefined
    this.table.remove(flow.id)
    this.#datapath.remove(flow.id)
  }

  #tryInstall(flow: NewFlow): FlowId | undefined {
    const { key, mask, actions } = flow
    const code = this.#attempt(flow, actions)
    if (typeof code === 'number') return code
    if (code === 'ENOSPC') {
      for (let left = limits.evictions; left > 0; left--) this.#evict()
      return numberOnly(this.#attempt(flow, actions))
    }
    // Too many masks, perhaps: a flow for this one packet's header shares its mask with all such.
    if (code === 'E2BIG' && !equalKeys(mask, exact))
      return numberOnly(this.#attempt({ key, mask: exact }, actions))
    return undefined
  }

  /** The flow's id, or the code of the refusal. */
  #attempt(match: FlowMatch, actions: readonly Action[]): FlowId | string {
    try {
      return this.#datapath.install(match, actions)
    } catch (error) {
      if (!(error instanceof DatapathError)) throw error
      this.#refused[error.code] = (this.#refused[error.code] ?? 0) + 1
      return error.code
    }
  }

  #evict(): boolean {
    const nowMs = this.#now()
    const flow = this.table.longestIdle((candidate) => {
      this.refresh(candidate)
      return nowMs - candidate.usedMs
    })
    if (flow === undefined) return false
    this.#evicted++
    this.#remove(flow)
    return true
  }
}

function idleLimit({ key, actions }: Pick<NewFlow, 'key' | 'actions'>): number {
  return key[8] === ethertypeArp && actions.length > 0 ? limits.arpIdleMs : limits.idleMs
}

/** False when the datapath no longer has the flow. */
function noteStats(flow: Flow, stats: FlowStats | undefined, nowMs: number): boolean {
  if (stats === undefined) return false
  flow.usedMs = Math.max(flow.usedMs, Math.floor(nowMs - stats.idleMs))
  return true
}

function noteUses({ source, otherSources, usedMs }: Flow): void {
  if (source !== undefined) noteUse(source, usedMs)
  for (const entry of otherSources) noteUse(entry, usedMs)
}

function noteUse(entry: Lively, usedMs: number): void {
  if (usedMs > entry.lastSeenMs) entry.lastSeenMs = usedMs
}

function numberOnly(result: FlowId | string): FlowId | undefined {
  return typeof result === 'number' ? result : undefined
}
