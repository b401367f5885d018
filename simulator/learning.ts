/**
 * What packets teach: where MAC addresses are, which MAC address a neighbour has. Learned facts age
 * by traffic: a MAC address when neither a packet nor a flow from it was seen for a while, a
 * neighbour when it no longer answers ARP.
 *
 * A flow *to* an address does not keep it: a station that has moved is found again by what it sends.
 */
import type { Words6 } from '../packet/address6.ts'
import type { MacEntry } from './bridge.ts'
import type { Effect } from './effect.ts'
import { forgetMac, forgetNeighbor, learnAddress, learnMac, learnNeighbor } from './facts.ts'
import { forgetNeighbor6, learnNeighbor6 } from './facts6.ts'
import type { Flow, FlowTable } from './flow-table.ts'
import { macLow, scopedHigh } from './mac-table.ts'
import type { VirtualBridgePort, VirtualPort } from './port.ts'
import type { LearnedNeighbor, VirtualRouterPort } from './router.ts'
import type { Sharing } from './sharing.ts'
import type { Simulation } from './simulation.ts'
import { type AnyAddress, neighborTag, type Tag } from './tag.ts'

export const limits = {
  macIdleMs: 15_000,
  /** A neighbour in use is asked anew after this time, and forgotten after that. */
  neighborStaleMs: 60_000,
  neighborIdleMs: 180_000,
  neighborAskMs: 5_000,
  /** Whoever sent something to it within this time uses a neighbour. */
  neighborUsedMs: 30_000,
  /** Facts looked at in one sweep, and flows asked for each. */
  factsPerSweep: 512,
  flowsPerFact: 64,
} as const

interface Neighbor {
  readonly port: VirtualRouterPort
  readonly entry: LearnedNeighbor
  askedMs: number
}

/** What learning needs of the forwarder. */
export interface LearningWorld {
  readonly flows: FlowTable
  /** Brings a flow's `usedMs` up to date. */
  refresh(flow: Flow): void
  ask(port: VirtualRouterPort, address: AnyAddress): void
  /** The port of that id as it is now. */
  portOf(id: string): VirtualPort | undefined
  /** Where other hosts hear of it. */
  readonly sharing: Sharing
}

export class Learning {
  readonly #world: LearningWorld
  readonly #macs = new Ring<MacEntry>()
  readonly #neighbors = new Ring<Neighbor>()

  constructor(world: LearningWorld) {
    this.#world = world
  }

  get size(): number {
    return this.#macs.size + this.#neighbors.size
  }

  /** Commits what a simulation learned; returns the tags of the facts that changed. */
  commit(sim: Simulation, nowMs: number): Tag[] {
    const tags: Tag[] = []
    for (const entry of sim.sources) entry.lastSeenMs = nowMs
    for (const effect of sim.effects) this.#learn(effect, nowMs, tags)
    return tags
  }

  /** Learns what an agent before this one knew; it is asked for again soon. */
  inherit(port: VirtualRouterPort, address: AnyAddress, mac: number, nowMs: number): Tag[] {
    const tags: Tag[] = []
    const learnedMs = nowMs - limits.neighborStaleMs
    if (typeof address === 'number') this.#learnNeighbor(port, address, mac, learnedMs, tags)
    else this.#learnNeighbor6(port, address, mac, learnedMs, tags)
    return tags
  }

  /** The same of a MAC address, which has to be seen again soon. */
  inheritMac(port: VirtualBridgePort, mac: number, vlan: number, nowMs: number): Tag[] {
    const tags: Tag[] = []
    this.#learnMac(port, { mac, vlan }, nowMs, tags)
    return tags
  }

  /** Tells other hosts all there is, when there were none before. */
  shareAll(): void {
    const { sharing } = this.#world
    for (const entry of this.#macs.items) sharing.putMac(entry)
    for (const { port, entry } of this.#neighbors.items)
      sharing.putNeighbor(port, entry.address, entry.mac)
  }

  /** Looks at the next facts in turn; returns the tags of those that were forgotten. */
  sweep(nowMs: number): Tag[] {
    const tags: Tag[] = []
    this.#macs.sweep(limits.factsPerSweep, (entry) => this.#keepsMac(entry, nowMs, tags))
    this.#neighbors.sweep(limits.factsPerSweep, (one) => this.#keepsNeighbor(one, nowMs, tags))
    return tags
  }

  #learn(effect: Effect, nowMs: number, tags: Tag[]): void {
    switch (effect.kind) {
      case 'learnMac':
        this.#learnMac(effect.port, effect, nowMs, tags)
        return
      case 'learnAddress':
        learnAddress(effect.port.bridge, effect.address, effect.mac, tags)
        return
      case 'learnNeighbor':
        this.#learnNeighbor(effect.port, effect.address, effect.mac, nowMs, tags)
        return
      case 'learnNeighbor6':
        this.#learnNeighbor6(effect.port, effect.address, effect.mac, nowMs, tags)
        return
      case 'probeAnswer':
        effect.probe.isAnswered = true
        return
      case 'advertise':
      case 'advertiseRouter':
      case 'icmp6Error':
      case 'echo':
      case 'icmpError':
      case 'refusal':
      case 'addState':
      case 'useState':
      case 'stick':
        return
    }
  }

  #learnMac(
    port: VirtualBridgePort,
    place: { readonly mac: number; readonly vlan: number },
    nowMs: number,
    tags: Tag[],
  ): void {
    const entry = learnMac(port, place, nowMs, tags)
    if (entry === undefined) return
    this.#macs.add(entry)
    this.#world.sharing.putMac(entry)
  }

  #keepNeighbor(port: VirtualRouterPort, entry: LearnedNeighbor | undefined, isNew: boolean): void {
    if (entry === undefined) return
    this.#neighbors.add({ port, entry, askedMs: Number.NEGATIVE_INFINITY })
    if (isNew) this.#world.sharing.putNeighbor(port, entry.address, entry.mac)
  }

  #learnNeighbor(
    port: VirtualRouterPort,
    address: number,
    mac: number,
    learnedMs: number,
    tags: Tag[],
  ): void {
    const isNew = port.learned.get(address | 0)?.mac !== mac
    learnNeighbor(port, address, mac, learnedMs, tags)
    this.#keepNeighbor(port, port.learned.get(address | 0), isNew)
  }

  #learnNeighbor6(
    port: VirtualRouterPort,
    address: Words6,
    mac: number,
    learnedMs: number,
    tags: Tag[],
  ): void {
    const isNew = port.six?.learned.get(address)?.mac !== mac
    learnNeighbor6(port, address, mac, learnedMs, tags)
    this.#keepNeighbor(port, port.six?.learned.get(address), isNew)
  }

  #keepsMac(entry: MacEntry, nowMs: number, tags: Tag[]): boolean {
    const { macs } = entry.port.bridge
    const present = macs.find(scopedHigh(entry), macLow(entry.mac))
    if (present !== entry) {
      if (present === undefined) this.#world.sharing.dropMac(entry)
      return false
    }
    if (nowMs - entry.lastSeenMs < limits.macIdleMs) return true
    let left = limits.flowsPerFact
    for (const flow of this.#world.flows.with(entry.tag)) {
      // The flow table's own sweep has told of the rest.
      if (left-- === 0) break
      if (flow.source !== entry && !flow.otherSources.includes(entry)) continue
      this.#world.refresh(flow)
      entry.lastSeenMs = Math.max(entry.lastSeenMs, flow.usedMs)
      if (nowMs - entry.lastSeenMs < limits.macIdleMs) return true
    }
    forgetMac(entry, tags)
    this.#world.sharing.dropMac(entry)
    return false
  }

  #keepsNeighbor(one: Neighbor, nowMs: number, tags: Tag[]): boolean {
    const { port, entry } = one
    const { address } = entry
    if (learnedOf(port, address) !== entry) {
      // The port may have been made anew meanwhile, and have learned it again.
      const current = this.#world.portOf(port.id)
      if (current?.kind !== 'router' || learnedOf(current, address) === undefined)
        this.#world.sharing.dropNeighbor(port, address)
      return false
    }
    const ageMs = nowMs - entry.learnedMs
    if (ageMs < limits.neighborStaleMs) return true
    if (ageMs >= limits.neighborIdleMs) {
      if (typeof address === 'number') forgetNeighbor(port, address, tags)
      else forgetNeighbor6(port, address, tags)
      this.#world.sharing.dropNeighbor(port, address)
      return false
    }
    // Other hosts may well use it.
    const isUsed = this.#world.sharing.isOn || this.#isInUse(neighborTag(port.id, address), nowMs)
    if (isUsed && nowMs - one.askedMs >= limits.neighborAskMs) {
      one.askedMs = nowMs
      this.#world.ask(port, address)
    }
    return true
  }

  #isInUse(tag: Tag, nowMs: number): boolean {
    let left = limits.flowsPerFact
    for (const { usedMs } of this.#world.flows.with(tag)) {
      if (nowMs - usedMs < limits.neighborUsedMs) return true
      if (--left === 0) return true
    }
    return false
  }
}

function learnedOf(port: VirtualRouterPort, address: AnyAddress): LearnedNeighbor | undefined {
  return typeof address === 'number'
    ? port.learned.get(address | 0)
    : port.six?.learned.get(address)
}

/** A list that is looked at a few at a time, in turn. */
class Ring<T> {
  readonly #items: T[] = []
  #hand = 0

  get size(): number {
    return this.#items.length
  }

  get items(): readonly T[] {
    return this.#items
  }

  add(item: T): void {
    this.#items.push(item)
  }

  /** Shows the next `count` items; those that `keeps` does not keep are taken out. */
  sweep(count: number, keeps: (item: T) => boolean): void {
    for (let left = Math.min(count, this.#items.length); left > 0; left--) {
      if (this.#hand >= this.#items.length) this.#hand = 0
      const item = this.#items[this.#hand]
      if (item === undefined) return
      if (keeps(item)) {
        this.#hand++
        continue
      }
      const last = this.#items.pop()
      if (last !== undefined && last !== item) this.#items[this.#hand] = last
    }
  }
}
