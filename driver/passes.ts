/**
 * Work that is done again and again, a pass at a time: some time after the one before, or soon when
 * something happens. However much happens, one pass follows it.
 */
export class Passes {
  /** One pass; answers after how many milliseconds the next is due. Never rejects. */
  readonly #work: () => Promise<number>
  readonly #now: () => number
  #timer: NodeJS.Timeout | undefined
  #dueAt = Number.POSITIVE_INFINITY
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
    const dueAt = this.#now() + ms
    if (!this.#started || dueAt >= this.#dueAt) return
    this.#dueAt = dueAt
    clearTimeout(this.#timer)
    this.#timer = setTimeout(() => void this.#fire(), ms)
    this.#timer.unref()
  }

  /** One pass now, or the one that runs. */
  async run(): Promise<void> {
    await this.#pass()
  }

  #pass(): Promise<number> {
    this.#running ??= this.#work().finally(() => {
      this.#running = undefined
    })
    return this.#running
  }

  async #fire(): Promise<void> {
    this.#dueAt = Number.POSITIVE_INFINITY
    // What happens from now on may not be in what a pass under way has seen.
    await this.#running
    this.within(await this.#pass())
  }
}
