/** A clock that goes on only when told to: what is due happens in the order of its time. */
import { setImmediate } from 'node:timers/promises'
import type { Clock } from '../../topology/clock.ts'

interface Due {
  readonly at: number
  readonly serial: number
  readonly run: () => void
  stopped: boolean
}

export class VirtualClock implements Clock {
  /** A binary heap, earliest first. */
  readonly #heap: Due[] = []
  #now = 0
  #serial = 0

  now(): number {
    return this.#now
  }

  after(ms: number, run: () => void): () => void {
    const due = { at: this.#now + Math.max(0, ms), serial: this.#serial++, run, stopped: false }
    this.#push(due)
    return () => {
      due.stopped = true
    }
  }

  every(ms: number, run: () => void): () => void {
    let stop = () => {}
    const next = (): void => {
      stop = this.after(ms, () => {
        next()
        run()
      })
    }
    next()
    return () => stop()
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const done = (): void => {
        stop()
        signal?.removeEventListener('abort', done)
        resolve()
      }
      const stop = this.after(ms, done)
      signal?.addEventListener('abort', done)
    })
  }

  /** Lets time pass until `holds`, but for no more than `ms`. Says whether it held. */
  async until(holds: () => boolean, ms = 60_000): Promise<boolean> {
    const end = this.#now + ms
    await setImmediate()
    while (!holds()) {
      const due = this.#heap[0]
      if (due === undefined || due.at > end) return false
      this.#pop()
      if (due.stopped) continue
      this.#now = due.at
      due.run()
      // What waits for a promise goes on before the next thing is due.
      if (this.#heap[0]?.at !== this.#now) await setImmediate()
    }
    return true
  }

  #push(due: Due): void {
    const heap = this.#heap
    let at = heap.length
    heap.push(due)
    while (at > 0) {
      const above = (at - 1) >>> 1
      const parent = heap[above]
      if (parent === undefined || isBefore(parent, due)) break
      heap[at] = parent
      at = above
    }
    heap[at] = due
  }

  #pop(): void {
    const heap = this.#heap
    const last = heap.pop()
    if (last === undefined || heap.length === 0) return
    let at = 0
    for (;;) {
      const [left, right] = [heap[2 * at + 1], heap[2 * at + 2]]
      const isLeft = right === undefined || (left !== undefined && isBefore(left, right))
      const child = isLeft ? left : right
      if (child === undefined || isBefore(last, child)) break
      heap[at] = child
      at = 2 * at + (isLeft ? 1 : 2)
    }
    heap[at] = last
  }
}

function isBefore(a: Due, b: Due): boolean {
  return a.at < b.at || (a.at === b.at && a.serial < b.serial)
}
