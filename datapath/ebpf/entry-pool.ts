/**
 * Which entries are free. One that is given back rests for a while before it is given out again: a
 * program may still be reading it, and must not find another flow's actions in the middle.
 */
import { DatapathError } from '../datapath.ts'

/** Programs run for microseconds; this is for one that was interrupted. */
const restMs = 100

export class EntryPool {
  readonly #now: () => number
  readonly #free: number[] = []
  /** Entries that rest, in the order in which they were given back. */
  #resting: { readonly index: number; readonly since: number }[] = []
  #restingFrom = 0

  /** Indexes from `first` to before `end`, but for those in use. */
  constructor(
    first: number,
    end: number,
    now: () => number,
    inUse: (index: number) => boolean = () => false,
  ) {
    this.#now = now
    for (let index = end - 1; index >= first; index--) if (!inUse(index)) this.#free.push(index)
  }

  /** @throws DatapathError `ENOSPC` */
  take(count: number): readonly number[] {
    if (this.#free.length < count) this.#wake()
    if (this.#free.length < count)
      throw new DatapathError('ENOSPC', 'no flow entries left: remove flows first')
    return this.#free.splice(this.#free.length - count, count)
  }

  /** Only for entries that no flow names any more. */
  giveBack(indexes: readonly number[]): void {
    const since = this.#now()
    for (const index of indexes) this.#resting.push({ index, since })
  }

  #wake(): void {
    const rested = this.#now() - restMs
    for (;;) {
      const next = this.#resting[this.#restingFrom]
      if (next === undefined || next.since > rested) break
      this.#free.push(next.index)
      this.#restingFrom++
    }
    // Moves what is left to the front now and then, not for each entry.
    if (this.#restingFrom > 1024 || this.#restingFrom === this.#resting.length) {
      this.#resting = this.#resting.slice(this.#restingFrom)
      this.#restingFrom = 0
    }
  }
}
