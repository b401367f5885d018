/** A network with a clock of its own that loses, repeats and delays what hosts send to each other. */

export interface LossyOptions {
  readonly seed: number
  /** Of each packet: the chance to be lost, and to arrive twice. */
  readonly loss: number
  readonly repeat: number
  /** The longest that a packet is under way; each takes some time of its own. */
  readonly delayMs: number
}

interface Underway {
  readonly to: string
  readonly bytes: Uint8Array
  readonly atMs: number
  readonly order: number
}

export class LossyNetwork {
  nowMs = 0
  options: LossyOptions
  readonly #receivers = new Map<string, (bytes: Uint8Array) => void>()
  #underway: Underway[] = []
  #order = 0
  #state: number

  constructor(options: LossyOptions) {
    this.options = options
    this.#state = options.seed >>> 0
  }

  deliver(host: string, receive: (bytes: Uint8Array) => void): void {
    this.#receivers.set(host, receive)
  }

  /** Packets under way. */
  get size(): number {
    return this.#underway.length
  }

  /** What `isSpared` arrives once, late as it may be. */
  send(to: string, bytes: Uint8Array, isSpared = false): void {
    const { delayMs } = this.options
    const { loss, repeat } = isSpared ? { loss: 0, repeat: 0 } : this.options
    const copies = this.random() < repeat ? 2 : 1
    for (let left = copies; left > 0; left--) {
      if (this.random() < loss) continue
      const atMs = this.nowMs + Math.floor(this.random() * (delayMs + 1))
      this.#underway.push({ to, bytes: bytes.slice(), atMs, order: this.#order++ })
    }
  }

  /** Lets time pass, and packets arrive. */
  run(ms: number): void {
    const endMs = this.nowMs + ms
    for (;;) {
      const next = this.#next(endMs)
      if (next === undefined) break
      this.nowMs = Math.max(this.nowMs, next.atMs)
      this.#receivers.get(next.to)?.(next.bytes)
    }
    this.nowMs = endMs
  }

  #next(endMs: number): Underway | undefined {
    let first: Underway | undefined
    for (const one of this.#underway) {
      if (one.atMs > endMs) continue
      const isEarlier = first === undefined || one.atMs < first.atMs
      if (isEarlier || (one.atMs === first?.atMs && one.order < first.order)) first = one
    }
    if (first !== undefined) this.#underway = this.#underway.filter((one) => one !== first)
    return first
  }

  /** From 0 to 1, the same for the same seed (mulberry32). */
  random(): number {
    this.#state = (this.#state + 0x6d2b_79f5) >>> 0
    let mixed = Math.imul(this.#state ^ (this.#state >>> 15), this.#state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 0x1_0000_0000
  }
}
