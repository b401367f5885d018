/**
 * The core of every engine: all objects in memory, and transactions one after the other.
 *
 *   transact ──> queue ──> run on a draft ──> rules ──> journal ──> objects ──> watchers
 *                          └──── as many as wait, in one write ────┘
 *
 * A transaction sees those before it in its group although they are not durable yet; readers and
 * watchers see a transaction only when it is.
 */
import { StoreError } from './error.ts'
import type { Kind, ObjectOf } from './model.ts'
import type { Objects } from './objects.ts'
import { TransactionQueue } from './queue.ts'
import type { Change, ChangeBatch, Draft, Revision, Store } from './store.ts'
import { type Job, type Staged, stageJobs, Watchers } from './transaction.ts'

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

/** A store whose objects are all in memory and whose commits go through a journal. */
export class ReplicaStore implements Store {
  readonly #journal: Journal
  readonly #objects: Objects
  readonly #watchers = new Watchers()
  readonly #queue: TransactionQueue
  #revision: Revision
  #closed: Promise<void> | undefined
  #failure: StoreError | undefined

  constructor(journal: Journal, { revision, objects }: Snapshot) {
    this.#journal = journal
    this.#revision = revision
    this.#objects = objects
    const store = this
    this.#queue = new TransactionQueue({
      get revision() {
        return store.#revision
      },
      get failure() {
        return store.#failure
      },
      commit: (jobs) => this.#commitGroup(jobs),
    })
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
    return this.#queue.transact(work)
  }

  watch(listener: (batch: ChangeBatch) => void): () => void {
    return this.#watchers.add(listener)
  }

  close(): Promise<void> {
    this.#closed ??= (async () => {
      await this.#queue.close()
      this.#watchers.clear()
      await this.#journal.close()
    })()
    return this.#closed
  }

  async #commitGroup(jobs: readonly Job[]): Promise<void> {
    const { staged: ran, changes } = stageJobs(this.#objects, jobs)
    for (const { job, failure } of ran) if (failure !== undefined) job.reject(failure.reason)
    const staged = ran.filter(({ failure }) => failure === undefined)
    try {
      const commits = staged.filter((one) => one.changes.length > 0).length
      if (commits > 0) await this.#write(this.#revision + commits, changes)
    } catch (error) {
      for (const { job } of staged) job.reject(error)
      return
    }
    for (const one of staged) this.#publish(one)
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
      this.#watchers.tell(Object.freeze({ revision: this.#revision, changes }))
    }
    job.resolve()
  }
}
