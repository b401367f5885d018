/** What all engines share: transactions run on drafts, and watchers told in order. */
import debug from 'debug'
import type { Indexed } from './objects.ts'
import { Overlay } from './overlay.ts'
import { checkRules } from './rules.ts'
import type { Change, ChangeBatch, Draft } from './store.ts'

const log = debug('midonet:topology')

/** A transaction that waits. `run` may be called again when another one came between. */
export interface Job {
  readonly run: (draft: Draft) => void
  readonly resolve: () => void
  readonly reject: (reason: unknown) => void
}

/** A transaction that was run: what it changes, or why it failed. */
export interface Staged {
  readonly job: Job
  readonly changes: readonly Change[]
  readonly failure?: { readonly reason: unknown }
  /** Names of what it was to delete and what is not there. */
  readonly missed: ReadonlySet<string>
}

/** What a group of transactions comes to. */
export interface Group {
  readonly staged: readonly Staged[]
  /** All changes as one: each object once. */
  readonly changes: readonly Change[]
}

/** Runs each job on the outcome of those before it; one that throws leaves nothing behind. */
export function stageJobs(base: Indexed, jobs: readonly Job[]): Group {
  const group = new Overlay(base)
  const staged = jobs.map((job): Staged => {
    const draft = new Overlay(group)
    try {
      job.run(draft)
      const changes = draft.changes()
      checkRules(changes, draft)
      group.absorb(changes)
      return { job, changes, missed: draft.missed }
    } catch (reason) {
      return { job, changes: [], failure: { reason }, missed: new Set() }
    } finally {
      draft.seal()
    }
  })
  return { staged, changes: group.changes() }
}

/** Those who are told each commit. */
export class Watchers {
  readonly #listeners = new Set<{ readonly tell: (batch: ChangeBatch) => void }>()

  add(listener: (batch: ChangeBatch) => void): () => void {
    // An object of its own for each call: the same function may watch twice.
    const entry = { tell: listener }
    this.#listeners.add(entry)
    return () => this.#listeners.delete(entry)
  }

  /** One that throws harms neither the commit nor the others. */
  tell(batch: ChangeBatch): void {
    for (const listener of [...this.#listeners]) {
      if (!this.#listeners.has(listener)) continue
      try {
        listener.tell(batch)
      } catch (error) {
        log('a watcher failed on revision %d: %O', batch.revision, error)
      }
    }
  }

  clear(): void {
    this.#listeners.clear()
  }
}
