/** Work that is done again and again, such as a question that Docker is asked after its events. */

export const limits = {
  /** After a pass on its own: so many times as long as it took, no longer than … */
  restTimes: 9,
  restMs: 1_000,
} as const

/**
 * Work that is done again and again, a pass at a time: some time after the one before, or soon when
 * something happens. However much happens, one pass follows it, and passes take a tenth of the time at
 * most: they ask Docker, which has the more to do the more happens.
 */
export class Passes {
  /** One pass; answers after how many milliseconds the next is due. Never rejects. */
  readonly #work: () => Promise<number>
  readonly #now: () => number
  #timer: NodeJS.Timeout | undefined
  #dueAt = Number.POSITIVE_INFINITY
  #restsUntil = 0
  #running: Promise<number> | undefined
  #started = false

  /** `work` must not reject; `now` counts milliseconds of any steady clock. */
  constructor(work: () => Promise<number>, now: () => number = () => performance.now()) {
    this.#work = work
    this.#now = now
  }

  get isStarted(): boolean {
    return this.#started
  }

  /** The first pass is `ms` from now. */
  start(ms = 0): void {
    if (this.#started) return
    this.#started = true
    this.within(ms)
  }

  stop(): void {
    this.#started = false
    clearTimeout(this.#timer)
    this.#dueAt = Number.POSITIVE_INFINITY
  }

  /** A pass is to begin in so many milliseconds at the latest, while they are started. */
  within(ms: number): void {
    const now = this.#now()
    const dueAt = Math.max(now + ms, this.#restsUntil)
    if (!this.#started || dueAt >= this.#dueAt) return
    this.#dueAt = dueAt
    clearTimeout(this.#timer)
    this.#timer = setTimeout(() => void this.#fire(), dueAt - now)
    this.#timer.unref()
  }

  /** One pass now, or the one that runs. */
  async run(): Promise<void> {
    await this.#pass()
  }

  #pass(): Promise<number> {
    const begun = this.#now()
    this.#running ??= this.#work().finally(() => {
      this.#running = undefined
      const now = this.#now()
      this.#restsUntil = now + Math.min(limits.restMs, (now - begun) * limits.restTimes)
    })
    return this.#running
  }

  async #fire(): Promise<void> {
    this.#dueAt = Number.POSITIVE_INFINITY
    // What happens from now on may not be in what a pass under way has seen.
    await this.#running
    if (this.#now() < this.#restsUntil) this.within(0)
    else this.within(await this.#pass())
  }
}
