/** Writes down for other hosts what the forwarding side has learned, many facts at once. */
import { setTimeout as sleep } from 'node:timers/promises'
import createDebug from 'debug'
import type { SharedFact } from '../simulator/sharing.ts'
import { referencesOf } from '../topology/mark.ts'
import type { Entry } from '../topology/objects.ts'
import type { Draft, Store } from '../topology/store.ts'

const log = createDebug('midonet:facts')

export const limits = {
  /** Facts in one transaction: etcd compares each and what it names. */
  batch: 25,
  /** Pause after the store has refused. */
  retryMs: 250,
  /** Facts that wait for the store; the oldest go beyond it, and are learned again if they live. */
  waiting: 20_000,
} as const

export class FactWriter {
  readonly #store: Store
  readonly #host: string
  /** By kind and id: of two about the same the later one counts. */
  readonly #waiting = new Map<string, SharedFact>()
  #isWriting = false
  #isClosed = false

  constructor(store: Store, host: string) {
    this.#store = store
    this.#host = host
  }

  add(facts: readonly SharedFact[]): void {
    for (const fact of facts) {
      const name = `${fact.kind} ${fact.id}`
      this.#waiting.delete(name)
      this.#waiting.set(name, fact)
    }
    for (const name of this.#waiting.keys()) {
      if (this.#waiting.size <= limits.waiting) break
      this.#waiting.delete(name)
    }
    if (!this.#isWriting) void this.#write()
  }

  close(): void {
    this.#isClosed = true
  }

  async #write(): Promise<void> {
    this.#isWriting = true
    while (this.#waiting.size > 0 && !this.#isClosed) {
      const batch = [...this.#waiting].slice(0, limits.batch)
      try {
        await this.#store.transact((draft) => {
          for (const [, fact] of batch) writeFact(draft, fact, this.#host)
        })
        for (const [name, fact] of batch)
          if (this.#waiting.get(name) === fact) this.#waiting.delete(name)
      } catch (error) {
        log('%d facts: %s', batch.length, error instanceof Error ? error.message : String(error))
        await sleep(limits.retryMs)
      }
    }
    this.#isWriting = false
  }
}

/** Others' facts are theirs to take back, and what names an object that is gone is of no use. */
function writeFact(draft: Draft, { kind, id, value }: SharedFact, host: string): void {
  const known = draft.get(kind, id)
  if (value === undefined) {
    // One that is gone with the host's lease is not to come back.
    if (known === undefined || known.host === host) draft.delete(kind, id)
    return
  }
  // Kind and value are of one fact; the type system loses that.
  const entry = { kind, id, value } as Entry
  if (referencesOf(entry).some((one) => draft.get(one.kind, one.id) === undefined)) return
  if (JSON.stringify(known) !== JSON.stringify(value)) draft.put(kind, value)
}
