/**
 * Flow state asked for and told in bulk: an agent that starts asks all hosts for what they share
 * with it; one that a port comes to asks the host that had it; a host that did not answer for long
 * is told all that it should know when it is heard from again.
 */
import type { StateEntry } from './state-entry.ts'
import type { StateRecord } from './state-message.ts'
import type { VirtualTopology } from './virtual-topology.ts'

export const limits = {
  /** How long packets are held back for an answer that does not come. */
  waitMs: 2_000,
  /** Answers under way at once; of further ones the first is dropped. */
  answers: 1024,
} as const

export interface FetchWorld {
  readonly topology: VirtualTopology
  add(host: string, record: StateRecord): void
  recordOf(entry: StateEntry): StateRecord | undefined
  hasRoom(host: string): boolean
}

interface Answer {
  readonly host: string
  readonly entries: readonly StateEntry[]
  readonly request: number | undefined
  at: number
}

export class StateFetch {
  readonly #world: FetchWorld
  /** When each request that was not answered yet is given up. */
  readonly #asked = new Map<number, number>()
  #next = 1
  #answers: Answer[] = []

  constructor(world: FetchWorld) {
    this.#world = world
  }

  isExpecting(nowMs: number): boolean {
    for (const endsMs of this.#asked.values()) if (endsMs > nowMs) return true
    return false
  }

  /** Asks a host for the state of a port, or with no port for all that it shares with us. */
  ask(host: string, port: string, nowMs: number): void {
    const request = this.#next++
    this.#asked.set(request, nowMs + limits.waitMs)
    this.#world.add(host, { kind: 'fetch', request, port })
  }

  /** A request was answered. Returns whether it was the last one. */
  end(request: number): boolean {
    return this.#asked.delete(request) && this.#asked.size === 0
  }

  /** Gives up on requests that got no answer. Returns whether none is left now. */
  tick(nowMs: number): boolean {
    if (this.#asked.size === 0) return false
    for (const [request, endsMs] of this.#asked) if (endsMs <= nowMs) this.#asked.delete(request)
    return this.#asked.size === 0
  }

  nextMs(): number {
    return Math.min(Number.POSITIVE_INFINITY, ...this.#asked.values())
  }

  /** When the last of the requests is given up; 0 when there is none. */
  endMs(): number {
    return Math.max(0, ...this.#asked.values())
  }

  /** Begins to tell a host what it asked for; `pump` goes on with it. */
  answer(host: string, port: string, request: number | undefined): void {
    const entries = port === '' ? this.#sharedWith(host) : this.#ofPort(port, host)
    if (port === '') this.#tellSticks(host)
    if (this.#answers.length >= limits.answers) this.#answers.shift()
    this.#answers.push({ host, entries, request, at: 0 })
  }

  /** Tells as much as there is room for. */
  pump(): void {
    if (this.#answers.length === 0) return
    this.#answers = this.#answers.filter((answer) => !this.#goOn(answer))
  }

  /** Returns whether all is told. */
  #goOn(answer: Answer): boolean {
    const { host, entries, request } = answer
    while (answer.at < entries.length) {
      if (!this.#world.hasRoom(host)) return false
      const entry = entries[answer.at++]
      if (entry === undefined || entry.place < 0) continue
      const record = this.#world.recordOf(entry)
      if (record !== undefined) this.#world.add(host, record)
    }
    if (request !== undefined) this.#world.add(host, { kind: 'done', request })
    return true
  }

  /** What a host has, and what it should have: who told it may have started anew, too. */
  #sharedWith(host: string): readonly StateEntry[] {
    const { state, statePeers } = this.#world.topology
    const found: StateEntry[] = []
    for (const entry of state.entries()) {
      const { share } = entry
      if (share === undefined) continue
      if (!share.hosts.includes(host)) {
        const isIts = statePeers.hostOf(share.ingress) === host
        if (!isIts && !statePeers.of(share.ingress, [share.egress]).includes(host)) continue
        share.hosts = [...share.hosts, host]
      }
      found.push(entry)
    }
    return found
  }

  /** The port's own connections, and those of devices whose packets came or went by it. */
  #ofPort(port: string, host: string): readonly StateEntry[] {
    const { zones, state } = this.#world.topology
    const found: StateEntry[] = []
    for (const entry of state.entries()) {
      const { share } = entry
      const zone = zones.at(entry.zoneNumber)
      if (zone?.kind === 'port' && zone.id === port) found.push(entry)
      else if (share !== undefined && (share.ingress === port || share.egress === port)) {
        found.push(entry)
        if (!share.hosts.includes(host)) share.hosts = [...share.hosts, host]
      }
    }
    return found
  }

  #tellSticks(host: string): void {
    for (const vip of this.#world.topology.balancers.vips())
      for (const { client, member } of vip.sticks())
        this.#world.add(host, {
          kind: 'stick',
          vip: vip.id,
          member,
          client: client >>> 0,
          ageMs: 0,
        })
  }
}
