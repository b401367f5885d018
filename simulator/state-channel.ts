/**
 * Records of flow state on their way to one other host, and from it, over a network that loses,
 * repeats and reorders. What is sent is acknowledged or sent again, a bounded number of times; what
 * was taken once is not taken again, so a late copy of something old changes nothing.
 *
 *   add ─▶ queue ─flush─▶ sent, unacknowledged ─ack─▶ gone
 *                              └─ again after 50 ms, 100 ms, … ─▶ given up: the host is behind
 */
import { decode, encode, MalformedError, TruncatedError } from '../packet/bytes.ts'
import {
  limits as messageLimits,
  type StateMessage,
  type StateRecord,
  stateMessage,
  takeFitting,
} from './state-message.ts'

export const limits = {
  /** Messages sent and not acknowledged; further ones wait in the queue. */
  window: 64,
  /** Records in the queue; further ones are lost, and the host is behind. */
  queued: 8192,
  /** Before a message is sent again; doubles each time. */
  retryMs: 50,
  retries: 7,
  /** Numbers this far below the highest are taken for told already. */
  remembered: 1024,
  /** How often a message is offered that cannot be taken yet, before it is let go. */
  offers: 4,
} as const

interface Sent {
  readonly bytes: Uint8Array
  nextMs: number
  waitMs: number
  tries: number
}

export interface ChannelCounters {
  sent: number
  again: number
  acknowledged: number
  givenUp: number
  taken: number
  repeated: number
  malformed: number
}

/** Counters that channels share, at 0. */
export function createCounters(): ChannelCounters {
  const [sent, again, acknowledged, givenUp, taken, repeated, malformed] = [0, 0, 0, 0, 0, 0, 0]
  return { sent, again, acknowledged, givenUp, taken, repeated, malformed }
}

/** Names a message among all that a host sends. */
export interface MessageName {
  readonly epoch: number
  readonly number: number
}

export interface ChannelWorld {
  /** This run of the agent. */
  readonly epoch: number
  /** Sends a message to the host; that it arrives is not said. */
  send(bytes: Uint8Array): void
  /** Takes a record in; false when it cannot be yet, since the topology is behind. */
  take(record: StateRecord, message: MessageName, nowMs: number): boolean
  readonly counters: ChannelCounters
}

export class StateChannel {
  readonly #world: ChannelWorld
  readonly #queue: StateRecord[] = []
  readonly #sent = new Map<number, Sent>()
  #number = 0
  /** Something was given up or lost: the host does not know all that it should. */
  #isBehind = false
  readonly #heard = new Heard()
  #acks: number[] = []

  constructor(world: ChannelWorld) {
    this.#world = world
  }

  /** Whether there is room for what can wait. */
  get hasRoom(): boolean {
    return this.#queue.length < limits.queued / 2
  }

  /** Whether the host missed something; from now on it does not, since it is told all again. */
  takeBehind(): boolean {
    const isBehind = this.#isBehind
    this.#isBehind = false
    return isBehind
  }

  /** Nothing is on its way to the host or waits for it. */
  get isIdle(): boolean {
    return this.#queue.length + this.#sent.size + this.#acks.length === 0
  }

  add(record: StateRecord): void {
    if (this.#queue.length < limits.queued) this.#queue.push(record)
    else this.#isBehind = true
  }

  /** Sends what waits, as far as the window allows. */
  flush(nowMs: number): void {
    const { epoch, counters } = this.#world
    while (this.#queue.length > 0 && this.#sent.size < limits.window) {
      const records = takeFitting(this.#queue)
      const number = ++this.#number
      const bytes = encode(stateMessage, { kind: 'tell', epoch, number, records })
      const waitMs = limits.retryMs
      this.#sent.set(number, { bytes, nextMs: nowMs + waitMs, waitMs, tries: 0 })
      counters.sent++
      this.#world.send(bytes)
    }
    if (this.#acks.length === 0) return
    const numbers = this.#acks
    this.#acks = []
    const ack = { kind: 'ack', epoch: this.#heard.epoch, numbers } as const
    this.#world.send(encode(stateMessage, ack))
  }

  /** Takes bytes that came from the host. Returns whether they were a message. */
  receive(bytes: Uint8Array, nowMs: number): boolean {
    const message = readMessage(bytes)
    if (message === undefined) {
      this.#world.counters.malformed++
      return false
    }
    if (message.kind === 'ack') this.#hearAck(message)
    else this.#hearTold(message, nowMs)
    return true
  }

  /** Sends again what is due, and gives up what was sent too often. */
  tick(nowMs: number): void {
    const { counters } = this.#world
    for (const [number, sent] of this.#sent) {
      if (sent.nextMs > nowMs) continue
      if (sent.tries >= limits.retries) {
        this.#sent.delete(number)
        counters.givenUp++
        this.#isBehind = true
        continue
      }
      sent.tries++
      sent.waitMs *= 2
      sent.nextMs = nowMs + sent.waitMs
      counters.again++
      this.#world.send(sent.bytes)
    }
    // Who answers nothing for so long is told all when it is heard from.
    if (this.#isBehind && this.#sent.size === 0) this.#queue.length = 0
    this.flush(nowMs)
  }

  /** When something is due here next; Infinity when nothing is. */
  nextMs(): number {
    let next = Number.POSITIVE_INFINITY
    for (const { nextMs } of this.#sent.values()) next = Math.min(next, nextMs)
    return next
  }

  #hearAck({ epoch, numbers }: Extract<StateMessage, { kind: 'ack' }>): void {
    // Another run's numbers mean nothing here.
    if (epoch !== this.#world.epoch) return
    for (const number of numbers) if (this.#sent.delete(number)) this.#world.counters.acknowledged++
  }

  #hearTold(
    { epoch, number, records }: Extract<StateMessage, { kind: 'tell' }>,
    nowMs: number,
  ): void {
    const { counters, take } = this.#world
    const heard = this.#heard
    if (!heard.begin(epoch)) {
      counters.repeated++
      return
    }
    if (heard.has(number)) counters.repeated++
    else {
      const isTaken = records.map((record) => take(record, { epoch, number }, nowMs)).every(Boolean)
      if (!isTaken && heard.offer(number) < limits.offers) return
      counters.taken++
      heard.add(number)
    }
    if (this.#acks.length < messageLimits.numbers) this.#acks.push(number)
  }
}

/** Which messages of the host's present run were taken. */
class Heard {
  epoch = 0
  /** The run before: its late messages are not to be taken for those of a new one. */
  #before = 0
  #highest = 0
  #numbers = new Set<number>()
  #offers = new Map<number, number>()

  /** Whether a message is of the present run; the first of a new one ends the one before. */
  begin(epoch: number): boolean {
    if (epoch === this.epoch) return true
    if (epoch === this.#before) return false
    this.#before = this.epoch
    this.epoch = epoch
    this.#highest = 0
    this.#numbers = new Set()
    this.#offers = new Map()
    return true
  }

  has(number: number): boolean {
    return number <= this.#highest - limits.remembered || this.#numbers.has(number)
  }

  add(number: number): void {
    this.#numbers.add(number)
    this.#offers.delete(number)
    const above = number - this.#highest
    if (above <= 0) return
    const from = Math.max(0, this.#highest - limits.remembered)
    this.#highest = number
    const last = number - limits.remembered
    // What stands alone far above is one gap: not walked through number by number.
    if (above > limits.remembered)
      this.#numbers = new Set([...this.#numbers].filter((one) => one > last))
    else for (let old = from; old <= last; old++) this.#numbers.delete(old)
  }

  /** How often a message that could not be taken was offered, this time included. */
  offer(number: number): number {
    const count = (this.#offers.get(number) ?? 0) + 1
    if (this.#offers.size < limits.remembered || this.#offers.has(number))
      this.#offers.set(number, count)
    return count
  }
}

function readMessage(bytes: Uint8Array): StateMessage | undefined {
  try {
    return decode(stateMessage, bytes)
  } catch (error) {
    if (error instanceof TruncatedError || error instanceof MalformedError) return undefined
    throw error
  }
}
