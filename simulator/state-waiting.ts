/**
 * Packets that may have overtaken their state: they wait a moment for it. Each waits for any of the
 * keys that were looked for in vain, and is decided without it when its time is over.
 */
import type { ParkedPacket } from './parking.ts'
import type { Tag } from './tag.ts'

export const limits = {
  packets: 256,
  /** State that is lost on its way comes again after 50 and 150 ms. */
  waitMs: 250,
} as const

interface Waiting {
  readonly packet: ParkedPacket
  readonly tags: readonly Tag[]
  readonly endsMs: number
}

export class StateWaiting {
  #waiting: Waiting[] = []
  #released = 0
  #expired = 0

  get count(): number {
    return this.#waiting.length
  }

  /** How many have found what they waited for, and how many have not. */
  get counters(): { readonly released: number; readonly expired: number } {
    return { released: this.#released, expired: this.#expired }
  }

  /** Takes a packet in until `endsMs`; false when there is no room. */
  add(packet: ParkedPacket, tags: readonly Tag[], endsMs: number): boolean {
    if (this.#waiting.length >= limits.packets) return false
    this.#waiting.push({ packet, tags, endsMs })
    return true
  }

  /** Lets the packets go that wait for one of these facts. */
  release(tags: readonly Tag[]): readonly ParkedPacket[] {
    if (this.#waiting.length === 0 || tags.length === 0) return none
    const facts = new Set(tags)
    return this.#take((one) => one.tags.some((tag) => facts.has(tag)))
  }

  /** Lets all go: nothing more is expected. */
  releaseAll(): readonly ParkedPacket[] {
    return this.#waiting.length === 0 ? none : this.#take(() => true)
  }

  /** Takes out those whose time is over. */
  expired(nowMs: number): readonly ParkedPacket[] {
    if (this.nextMs() > nowMs) return none
    const before = this.#released
    const expired = this.#take(({ endsMs }) => endsMs <= nowMs)
    this.#released = before
    this.#expired += expired.length
    return expired
  }

  nextMs(): number {
    let next = Number.POSITIVE_INFINITY
    for (const { endsMs } of this.#waiting) next = Math.min(next, endsMs)
    return next
  }

  #take(isMeant: (one: Waiting) => boolean): readonly ParkedPacket[] {
    const taken = this.#waiting.filter(isMeant)
    if (taken.length > 0) this.#waiting = this.#waiting.filter((one) => !isMeant(one))
    this.#released += taken.length
    return taken.map(({ packet }) => packet)
  }
}

const none: readonly never[] = []
