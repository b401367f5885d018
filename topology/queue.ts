/** Transactions that wait in line; as many as wait are committed as one group. */
import assert from 'node:assert/strict'
import { StoreError } from './error.ts'
import type { Draft, Revision } from './store.ts'
import type { Job } from './transaction.ts'

export const limits = {
  /** Transactions that may wait; one more is refused with `BUSY`. */
  waiting: 1024,
  /** Transactions that share one commit. */
  group: 128,
} as const

/** What commits. */
export interface Committer {
  /** Where the store is once a transaction is resolved. */
  readonly revision: Revision
  /** Why nothing can be committed any more; undefined while it can. */
  readonly failure?: StoreError | undefined
  /** Settles each job of a group; those left when it throws are rejected with that. */
  commit(jobs: readonly Job[]): Promise<void>
}

export class TransactionQueue {
  readonly #committer: Committer
  readonly #jobs: Job[] = []
  #pump: Promise<void> | undefined
  #isClosed = false

  constructor(committer: Committer) {
    this.#committer = committer
  }

  /** See `Store.transact`. */
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
          resolve({ value: outcome.value, revision: this.#committer.revision })
        },
        reject,
      })
    })
  }

  /** Takes no more, and resolves when those that wait are done. */
  async close(): Promise<void> {
    this.#isClosed = true
    await this.#pump
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
    if (this.#isClosed) return new StoreError('CLOSED', 'the store is closed')
    if (this.#committer.failure !== undefined) return this.#committer.failure
    if (this.#jobs.length < limits.waiting) return undefined
    return new StoreError('BUSY', `${limits.waiting} transactions wait already; try again later`)
  }

  async #work(): Promise<void> {
    // What else is asked for in this turn joins the first group.
    await Promise.resolve()
    while (this.#jobs.length > 0) {
      const jobs = this.#jobs.splice(0, limits.group)
      await this.#committer.commit(jobs).catch((error) => {
        for (const job of jobs) job.reject(error)
      })
    }
    this.#pump = undefined
  }
}
