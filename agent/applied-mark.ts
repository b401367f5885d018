/**
 * How far the forwarding worker has applied the topology, in memory that both threads see: the main
 * thread often finds that a change is applied without waiting for its turn to be told.
 *
 *   worker: applied := r, then: wished <= applied?  tell        main: wished := w, then: applied >= w?  done
 *
 * Each writes before it reads, so that one of them sees the other's.
 */
import type { Revision } from '../topology/store.ts'

const [appliedAt, wishedAt] = [0, 1]
const none = 2n ** 63n - 1n

export class AppliedMark {
  readonly memory: SharedArrayBuffer
  readonly #cells: BigInt64Array

  /** With the memory of another thread's mark, or a new one: nothing applied, nothing wished for. */
  constructor(memory?: SharedArrayBuffer) {
    this.memory = memory ?? new SharedArrayBuffer(2 * BigInt64Array.BYTES_PER_ELEMENT)
    this.#cells = new BigInt64Array(this.memory)
    if (memory !== undefined) return
    this.#cells[appliedAt] = -1n
    this.#cells[wishedAt] = none
  }

  /** The last revision that the datapath reflects, -1 before the first. */
  get applied(): Revision {
    return Number(Atomics.load(this.#cells, appliedAt))
  }

  /** By the worker: says that it is there, and returns whether the main thread wants to be told. */
  reach(revision: Revision): boolean {
    Atomics.store(this.#cells, appliedAt, BigInt(revision))
    return Atomics.load(this.#cells, wishedAt) <= BigInt(revision)
  }

  /** Beyond every revision when nobody waits. */
  get wished(): Revision {
    return Number(Atomics.load(this.#cells, wishedAt))
  }

  /** By the main thread: the least revision that somebody waits for; undefined: nobody does. */
  wish(revision: Revision | undefined): void {
    Atomics.store(this.#cells, wishedAt, revision === undefined ? none : BigInt(revision))
  }
}
