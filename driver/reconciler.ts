/**
 * Compares Docker, the store and the kernel's links at the start, when Docker says that something
 * changed, and every half minute; repairs what has been wrong twice, some seconds apart, unless a
 * call touched it a moment ago. While Docker cannot be asked nothing is judged.
 */
import createDebug from 'debug'
import type { Draft } from '../topology/store.ts'
import { removeAttachment, removeNetwork } from './cni-network.ts'
import type { DriverContext } from './context.ts'
import type { DockerNetwork, DockerView } from './docker.ts'
import { freeNetwork } from './network.ts'
import { Passes } from './passes.ts'
import { type Finding, findAttachments, findDifferences, type Picture } from './reconcile.ts'

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
  #known: readonly DockerNetwork[] | undefined
  #stopWatch: (() => void) | undefined
  readonly #passes: Passes

  constructor(settings: ReconcilerSettings) {
    this.#settings = settings
    this.#now = settings.now ?? (() => performance.now())
    this.#passes = new Passes(async () => {
      await this.#pass()
      return this.#seen.size > 0 ? limits.confirmMs : limits.passMs
    }, this.#now)
  }

  /** Oldest first; bounded. */
  get repairs(): readonly Repair[] {
    return this.#repairs
  }

  /** Why nothing is compared at present, if so. */
  get problem(): string | undefined {
    return this.#problem
  }

  /** What Docker said last; undefined until it has said something. */
  get known(): readonly DockerNetwork[] | undefined {
    return this.#known
  }

  /** Adds to the repairs. */
  report(what: string): void {
    log('repair: %s', what)
    this.#repairs.push({ time: new Date().toISOString(), what })
    if (this.#repairs.length > limits.repairsKept) this.#repairs.shift()
  }

  start(): void {
    if (this.#passes.isStarted) return
    this.#stopWatch = this.#settings.docker?.watch(() => this.#passes.within(limits.eventMs))
    this.#passes.start()
  }

  stop(): void {
    this.#passes.stop()
    this.#stopWatch?.()
  }

  /** Compares once; resolves when the repairs are done. Never rejects. */
  pass(): Promise<void> {
    return this.#passes.run()
  }

  async #pass(): Promise<void> {
    try {
      const context = await this.#settings.ready
      const hasSwarm = context.store.list('network').some(({ swarm }) => swarm === true)
      const docker = await this.#askDocker(hasSwarm)
      const picture = {
        store: context.store,
        links: context.links.list(),
        docker: docker?.docker,
        managesSwarm: docker?.managesSwarm ?? false,
        host: context.host,
        driver: this.#settings.driver,
      }
      // While Docker cannot be asked nothing is judged but what is none of its business. What was
      // wrong before the gap must be seen twice again.
      const isBlind = this.#settings.docker !== undefined && docker === undefined
      const findings = isBlind ? findAttachments(picture) : findDifferences(picture)
      for (const finding of this.#confirmed(context, findings).slice(0, limits.repairsPerPass))
        await this.#repair(context, finding)
    } catch (error) {
      this.#problem = error instanceof Error ? error.message : String(error)
      log('no pass: %s', this.#problem)
      // What was wrong before the gap must be seen twice again.
      this.#seen.clear()
    }
  }

  async #askDocker(
    hasSwarm: boolean,
  ): Promise<Pick<Picture, 'docker' | 'managesSwarm'> | undefined> {
    try {
      const { docker: view, driver } = this.#settings
      const docker = await view?.networks(driver)
      const managesSwarm = hasSwarm && ((await view?.managesSwarm?.()) ?? false)
      this.#problem = undefined
      this.#known = docker ?? this.#known
      return { docker, managesSwarm }
    } catch (error) {
      this.#problem = error instanceof Error ? error.message : String(error)
      log('Docker is not compared with: %s', this.#problem)
      return undefined
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
      return removeAttachment(draft, id)
    case 'network':
      return draft.get('network', id)?.swarm === true
        ? freeNetwork(draft, id)
        : removeNetwork(draft, id)
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
