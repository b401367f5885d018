/**
 * Compares Docker, the store and the kernel's links at the start, when Docker says that something
 * changed, and every half minute; repairs what has been wrong twice, some seconds apart, unless a
 * call touched it a moment ago. While Docker cannot be asked nothing is judged.
 */
import createDebug from 'debug'
import type { Draft } from '../topology/store.ts'
import type { DriverContext } from './context.ts'
import type { DockerView } from './docker.ts'
import { deleteEndpoint } from './endpoint.ts'
import { deleteNetwork } from './network.ts'
import { type Finding, findDifferences } from './reconcile.ts'

const log = createDebug('midonet:driver')

export const limits = {
  passMs: 30_000,
  /** From an event to the pass; events come in swarms. */
  eventMs: 2_000,
  /** A disagreement must last this long, seen at its beginning and its end. */
  confirmMs: 3_000,
  /** Repairs in one pass; the rest waits for the next. */
  repairsPerPass: 1_000,
  /** Repairs remembered. */
  repairsKept: 200,
} as const

/** Something that was found wrong and put right, or that the user must put right. */
export interface Repair {
  /** ISO 8601. */
  readonly time: string
  readonly what: string
}

export interface ReconcilerSettings {
  readonly ready: Promise<DriverContext>
  readonly docker: DockerView | undefined
  /** Our name among Docker's drivers. */
  readonly driver: string
  /** Milliseconds of any steady clock. */
  readonly now?: () => number
}

export class Reconciler {
  readonly #settings: ReconcilerSettings
  readonly #now: () => number
  readonly #repairs: Repair[] = []
  /** What is wrong, by kind and id, and since when it has been seen. */
  #seen = new Map<string, { readonly since: number; told: boolean }>()
  #problem: string | undefined
  #running: Promise<void> | undefined
  #timer: NodeJS.Timeout | undefined
  #dueAt = Number.POSITIVE_INFINITY
  #stopWatch: (() => void) | undefined
  #started = false

  constructor(settings: ReconcilerSettings) {
    this.#settings = settings
    this.#now = settings.now ?? (() => performance.now())
  }

  /** Oldest first; bounded. */
  get repairs(): readonly Repair[] {
    return this.#repairs
  }

  /** Why nothing is compared at present, if so. */
  get problem(): string | undefined {
    return this.#problem
  }

  /** Adds to the repairs. */
  report(what: string): void {
    log('repair: %s', what)
    this.#repairs.push({ time: new Date().toISOString(), what })
    if (this.#repairs.length > limits.repairsKept) this.#repairs.shift()
  }

  start(): void {
    if (this.#started) return
    this.#started = true
    this.#stopWatch = this.#settings.docker?.watch(() => this.#schedule(limits.eventMs))
    this.#schedule(0)
  }

  stop(): void {
    this.#started = false
    this.#stopWatch?.()
    clearTimeout(this.#timer)
    this.#dueAt = Number.POSITIVE_INFINITY
  }

  /** Compares once; resolves when the repairs are done. Never rejects. */
  pass(): Promise<void> {
    this.#running ??= this.#pass().finally(() => {
      this.#running = undefined
    })
    return this.#running
  }

  #schedule(ms: number): void {
    if (!this.#started || this.#now() + ms >= this.#dueAt) return
    this.#dueAt = this.#now() + ms
    clearTimeout(this.#timer)
    this.#timer = setTimeout(async () => {
      this.#dueAt = Number.POSITIVE_INFINITY
      await this.pass()
      this.#schedule(this.#seen.size > 0 ? limits.confirmMs : limits.passMs)
    }, ms)
    this.#timer.unref()
  }

  async #pass(): Promise<void> {
    try {
      const context = await this.#settings.ready
      const docker = await this.#settings.docker?.networks(this.#settings.driver)
      this.#problem = undefined
      const findings = findDifferences({
        store: context.store,
        links: context.links.list(),
        docker,
        host: context.host,
        driver: this.#settings.driver,
      })
      for (const finding of this.#confirmed(context, findings).slice(0, limits.repairsPerPass))
        await this.#repair(context, finding)
    } catch (error) {
      this.#problem = error instanceof Error ? error.message : String(error)
      log('no pass: %s', this.#problem)
      // What was wrong before the gap must be seen twice again.
      this.#seen.clear()
    }
  }

  /** Those that have lasted; remembers the others. */
  #confirmed(context: DriverContext, findings: readonly Finding[]): readonly Finding[] {
    const now = this.#now()
    const seen = new Map<string, { since: number; told: boolean }>()
    const confirmed: Finding[] = []
    for (const finding of findings) {
      if (context.recent.has(finding.id)) continue
      const key = `${finding.kind} ${finding.id}`
      const entry = this.#seen.get(key) ?? { since: now, told: false }
      seen.set(key, entry)
      if (entry.told || now - entry.since < limits.confirmMs) continue
      entry.told = finding.kind === 'report'
      confirmed.push(finding)
    }
    this.#seen = seen
    return confirmed
  }

  async #repair(context: DriverContext, finding: Finding): Promise<void> {
    try {
      await context.turns.take(finding.id, () => remove(context, finding))
      this.#seen.delete(`${finding.kind} ${finding.id}`)
      this.report(finding.kind === 'report' ? finding.what : `${finding.what}; removed`)
    } catch (error) {
      log('%s: %s', finding.what, error)
    }
  }
}

async function remove({ store, links }: DriverContext, { kind, id }: Finding): Promise<void> {
  switch (kind) {
    case 'report':
      return
    case 'link':
      links.remove(id)
      return
    case 'endpoint':
    case 'network':
    case 'pool':
    case 'address': {
      const { value } = await store.transact((draft) => removeObject(draft, kind, id))
      for (const name of value) links.remove(name)
    }
  }
}

/** Returns the links that are left without a use. */
function removeObject(
  draft: Draft,
  kind: 'endpoint' | 'network' | 'pool' | 'address',
  id: string,
): readonly string[] {
  switch (kind) {
    case 'endpoint':
      return deleteEndpoint(draft, id)
    case 'network':
      return deleteNetwork(draft, id)
    case 'address':
      draft.delete('address', id)
      return []
    case 'pool':
      for (const address of draft.list('address'))
        if (address.pool === id) draft.delete('address', address.id)
      draft.delete('pool', id)
      return []
  }
}
