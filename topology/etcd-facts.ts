/** A host's facts that went with its lease are written again, as often as it takes. */
import debug from 'debug'
import { type Clock, realClock } from './clock.ts'
import { StoreError } from './error.ts'
import { isLostFact, restore } from './etcd-commit.ts'
import type { Lease } from './etcd-lease.ts'
import { nameOf } from './overlay.ts'
import type { Change, Store } from './store.ts'

const log = debug('midonet:etcd')

const limits = {
  /** Facts in one transaction: etcd compares each and what it names. */
  batch: 25,
  /** Pause after the store has refused. */
  retryMs: 250,
} as const

export class LostFacts {
  readonly #store: Pick<Store, 'transact'>
  readonly #lease: Pick<Lease, 'lost'>
  readonly #host: string
  readonly #clock: Clock
  /** By kind and id; as many as the host has facts. */
  readonly #lost = new Map<string, Change>()
  #isWriting = false
  #isClosed = false

  constructor(store: Pick<Store, 'transact'>, { lease, host, clock = realClock }: LostFactsParts) {
    this.#store = store
    this.#lease = lease
    this.#host = host
    this.#clock = clock
  }

  /** Looks for facts of this host that others saw go, among what was just applied. */
  hear(changes: readonly Change[]): void {
    for (const change of changes)
      if (isLostFact(change, this.#host)) this.#lost.set(nameOf(change), change)
    if (this.#lost.size === 0 || this.#isWriting || this.#isClosed) return
    // Taking one that stands costs a call; writing with one that is gone costs one more.
    this.#lease.lost()
    void this.#write()
  }

  /** Facts that the host has withdrawn itself meanwhile; whether one of them was to be written. */
  forget(names: readonly string[]): boolean {
    let isAny = false
    for (const name of names) if (this.#lost.delete(name)) isAny = true
    return isAny
  }

  close(): void {
    this.#isClosed = true
  }

  async #write(): Promise<void> {
    this.#isWriting = true
    while (this.#lost.size > 0 && !this.#isClosed) {
      const batch = [...this.#lost].slice(0, limits.batch)
      try {
        await this.#store.transact((draft) => {
          for (const [name, change] of batch)
            if (this.#lost.get(name) === change) restore(draft, change)
        })
      } catch (error) {
        log('%d facts of this host could not be written again: %s', batch.length, error)
        if (error instanceof StoreError) {
          await this.#clock.sleep(limits.retryMs)
          continue
        }
        // What the topology has no place for any more stays away.
      }
      for (const [name, change] of batch)
        if (this.#lost.get(name) === change) this.#lost.delete(name)
    }
    this.#isWriting = false
  }
}

interface LostFactsParts {
  readonly lease: Pick<Lease, 'lost'>
  readonly host: string
  readonly clock?: Clock | undefined
}
