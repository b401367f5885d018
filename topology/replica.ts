/**
 * The core of every engine: all objects in memory, and transactions one after the other.
 *
 *   transact ──> queue ──> run on a draft ──> rules ──> journal ──> objects ──> watchers
 *                          └──── as many as wait, in one write ────┘
 *
 * A transaction sees those before it in its group although they are not durable yet; readers and
 * watchers see a transaction only when it is.
 */
import assert from 'node:assert/strict'
import debug from 'debug'
import { StoreError } from './error.ts'
import type { Kind, ObjectOf } from './model.ts'
import type { Objects } from './objects.ts'
import { Overlay } from './overlay.ts'
import { checkRules } from './rules.ts'
import type { Change, ChangeBatch, Draft, Revision, Store } from './store.ts'

const log = debug('midonet:topology')

/** Transactions that may wait; one more is refused with `BUSY`. */
const waitingMax = 1024
/** Transactions that share one write of the journal. */
const groupMax = 128

/** Where an engine makes changes durable. */
export interface Journal {
  /** All or nothing, and durable when the promise resolves. */
  write(revision: Revision, changes: readonly Change[]): Promise<void>
  close(): Promise<void>
}

/** What an engine found when it was opened. */
export interface Snapshot {
  readonly revision: Revision
  readonly objects: Objects
}

interface Job {
  readonly run: (draft: Draft) => void
  readonly resolve: () => void
  readonly reject: (reason: unknown) => void
}

interface Staged {
  readonly job: Job
  readonly changes: readonly Change[]
}

/** A store whose objects are all in memory and whose commits go through a journal. */
export class ReplicaStore implements Store {
  readonly #journal: Journal
  readonly #objects: Objects
  readonly #listeners = new Set<{ readonly tell: (batch: ChangeBatch) => void }>()
  readonly #jobs: Job[] = []
  #revision: Revision
  #pump: Promise<void> | undefined
  #closed: Promise<void> | undefined
  #failure: StoreError | undefined

  constructor(journal: Journal, { revision, objects }: Snapshot) {
    this.#journal = journal
    this.#revision = revision
    this.#objects = objects
  }

  get revision(): Revision {
    return this.#revision
  }

  get<K extends Kind>(kind: K, id: string): ObjectOf<K> | undefined {
    return this.#objects.get(kind, id)
  }

  list<K extends Kind>(kind: K): readonly ObjectOf<K>[] {
    return this.#objects.list(kind)
  }

  transact<T>(
    work: (draft: Draft) => T,
  ): Promise<{ readonly value: T; readonly revision: Revision }> {
    return new Promise((resolve, reject) => {
      let outcome: { readonly value: T } | undefined
      this.#enqueue({
        run: (draft) => {
          outcome = { value: work(draft) }
        },
        resolve: () => {
          assert(outcome, 'a transaction is resolved after its work ran')
          resolve({ value: outcome.value, revision: this.#revision })
        },
        reject,
      })
    })
  }

  watch(listener: (batch: ChangeBatch) => void): () => void {
    // An object of its own for each call: the same function may watch twice.
    const entry = { tell: listener }
    this.#listeners.add(entry)
    return () => this.#listeners.delete(entry)
  }

  close(): Promise<void> {
    this.#closed ??= (async () => {
      await this.#pump
      this.#listeners.clear()
      await this.#journal.close()
    })()
    return this.#closed
  }

  #enqueue(job: Job): void {
    const refusal = this.#refusal()
    if (refusal !== undefined) {
      job.reject(refusal)
      return
    }
    this.#jobs.push(job)
    this.#pump ??= this.#work()
  }

  #refusal(): StoreError | undefined {
    if (this.#closed !== undefined) return new StoreError('CLOSED', 'the store is closed')
    if (this.#failure !== undefined) return this.#failure
    if (this.#jobs.length < waitingMax) return undefined
    return new StoreError('BUSY', `${waitingMax} transactions wait already; try again later`)
  }

  async #work(): Promise<void> {
    // What else is asked for in this turn joins the first group.
    await Promise.resolve()
    while (this.#jobs.length > 0) await this.#commitGroup(this.#jobs.splice(0, groupMax))
    this.#pump = undefined
  }

  async #commitGroup(jobs: readonly Job[]): Promise<void> {
    const staged = this.#stage(jobs)
    const changes = staged.flatMap((one) => one.changes)
    try {
      const commits = staged.filter((one) => one.changes.length > 0).length
      if (commits > 0) await this.#write(this.#revision + commits, changes)
    } catch (error) {
      for (const { job } of staged) job.reject(error)
      return
    }
    for (const one of staged) this.#publish(one)
  }

  /** Runs each job on the outcome of those before it; one that throws leaves nothing behind. */
  #stage(jobs: readonly Job[]): readonly Staged[] {
    const group = new Overlay(this.#objects)
    const staged: Staged[] = []
    for (const job of jobs) {
      const draft = new Overlay(group)
      try {
        job.run(draft)
        const changes = draft.changes()
        checkRules(changes, draft)
        group.absorb(changes)
        staged.push({ job, changes })
      } catch (error) {
        job.reject(error)
      } finally {
        draft.seal()
      }
    }
    return staged
  }

  /** After a failed write nobody knows what the disk has, so it is the last one. */
  async #write(revision: Revision, changes: readonly Change[]): Promise<void> {
    if (this.#failure !== undefined) throw this.#failure
    try {
      await this.#journal.write(revision, changes)
    } catch (cause) {
      const reason = cause instanceof Error ? cause.message : String(cause)
      const message = `the store could not be written (${reason}); mend that and start again`
      this.#failure = new StoreError('WRITE_FAILED', message, { cause })
      throw this.#failure
    }
  }

  #publish({ job, changes }: Staged): void {
    if (changes.length > 0) {
      this.#revision += 1
      this.#objects.apply(changes)
      this.#tell(Object.freeze({ revision: this.#revision, changes }))
    }
    job.resolve()
  }

  #tell(batch: ChangeBatch): void {
    for (const listener of [...this.#listeners]) {
      if (!this.#listeners.has(listener)) continue
      try {
        listener.tell(batch)
      } catch (error) {
        log('a watcher failed on revision %d: %O', batch.revision, error)
      }
    }
  }
}
