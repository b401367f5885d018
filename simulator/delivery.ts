/**
 * What becomes of each packet: simulate it, then forward, drop, park or answer it; effects are
 * committed here only. What one packet sets off (packets the agent makes, packets that waited for
 * a fact) is queued and done after it, so that no simulation interrupts another.
 */
import type { Upcall } from '../datapath/datapath.ts'
import type { Action } from '../packet/action.ts'
import type { FlowKey } from '../packet/flow-key.ts'
import { mayFragment } from '../packet/fragment.ts'
import { takeDue } from './announcement.ts'
import { Answers, isAnswerable, leavesState } from './answer.ts'
import { Executor } from './executor.ts'
import { actionsOf, cut, flowActions, lengthOf, limitLength } from './flow-actions.ts'
import { empty } from './list.ts'
import { probeOf } from './neighbor-probe.ts'
import {
  asReceived,
  type DeliveryCounters,
  type DeliveryWorld,
  generatedPacket,
  type PacketInHand,
  parkedOf,
  type WalkStart,
} from './packet-in-hand.ts'
import { type Ask, type ParkedPacket, Parking } from './parking.ts'
import type { VirtualRouterPort } from './router.ts'
import { simulate, simulateAgain } from './simulate.ts'
import { type Missing, type OutcomeKind, word } from './simulation.ts'
import { isStateKey } from './state-link.ts'
import { StateWaiting } from './state-waiting.ts'
import type { AnyAddress, Tag } from './tag.ts'
import { tellStory } from './trace.ts'
import type { VirtualTrace } from './trace-request.ts'
import { stayHere } from './tunnel.ts'

export const limits = {
  /** Packets that were set off by others and wait for their turn. */
  queued: 1024,
  /** How long a packet stays refused that only the rate limit keeps from an answer. */
  refusedMs: 1_000,
} as const

export class Delivery {
  readonly parking = new Parking()
  readonly waiting = new StateWaiting()
  readonly #world: DeliveryWorld
  readonly #answers = new Answers()
  readonly #queue: (() => void)[] = []
  /** Tags of the state that changed last. */
  readonly #changed: Tag[] = []
  readonly #drops = new Map<string, number>()
  #packets = 0
  #simulations = 0
  readonly #executor: Executor

  constructor(world: DeliveryWorld) {
    this.#world = world
    this.#executor = new Executor(world.datapath)
  }

  get counters(): DeliveryCounters {
    const drops = [...this.#drops].sort(([a], [b]) => (a < b ? -1 : 1))
    return {
      packets: this.#packets,
      simulations: this.#simulations,
      parked: this.parking.count,
      awaited: this.waiting.count,
      drops: Object.fromEntries(drops),
      executeFailures: this.#executor.failures,
      ...this.#answers.counters,
    }
  }

  /** Takes a packet that no flow matched. */
  receive({ reason, packet, key, offload, keyComplete }: Upcall): void {
    this.#packets++
    if (packet.length < 14) {
      this.#countDrop('malformed frame')
      return
    }
    const { topology, flows, states } = this.#world
    if (isStateKey(key)) {
      states.receive(key, packet)
      return
    }
    // Whoever is here because an action said so has had the flow's actions already.
    const ready = keyComplete && reason === 'miss' ? flows.recentActions(key) : undefined
    if (ready !== undefined) {
      this.#executor.execute(packet, offload, word(key, 0), ready)
      return
    }
    const start = topology.portOf(word(key, 0))?.id
    const outcome = this.#simulate(packet, key, asReceived)
    const [generated, installable, endsMs] = [false, keyComplete, undefined]
    this.#settle(outcome, { packet, offload, key, start, generated, installable, endsMs })
    if (this.#queue.length > 0) this.#runQueue()
  }

  /** Removes the flows that rest on facts that changed, and lets packets go that waited for them. */
  invalidate(tags: readonly Tag[]): void {
    this.#follow(tags)
    this.#runQueue()
  }

  /** Lets all waiting packets try again: the topology is another one. */
  retryParked(): void {
    this.#resume(this.parking.releaseAll())
    this.#runQueue()
  }

  /** Lets the packets that wait for flow state try again: no more of it is expected. */
  retryAwaiting(): void {
    this.#resume(this.waiting.releaseAll())
    this.#runQueue()
  }

  /** When something is due here next; Infinity when no packet waits. */
  nextMs(): number {
    return Math.min(this.parking.nextMs(), this.waiting.nextMs())
  }

  /** Asks again for next hops, and gives up on packets that waited too long. */
  tick(nowMs: number): void {
    for (const [ask, parked] of this.parking.expired(nowMs)) this.#giveUp(ask, parked)
    for (const ask of this.parking.due(nowMs)) this.#ask(ask)
    this.#resume(this.waiting.expired(nowMs))
    this.#runQueue()
  }

  /** Asks a neighbour for its MAC address once, without a packet that waits for it. */
  ask(port: VirtualRouterPort, address: AnyAddress): void {
    const frame = this.#answers.ask(port, address)
    if (frame !== undefined) this.send(port.id, frame)
  }

  /** Sends a frame that the agent made out of a port, in its turn. */
  send(port: string, frame: Uint8Array): void {
    this.#enqueue(() => this.#sendFrom(port, frame))
  }

  /** Sends what router ports announce of themselves, each when its time has come. */
  announce(nowMs: number): void {
    for (const port of takeDue(this.#world.topology.ports.values(), nowMs)) {
      const frame = this.#answers.announce(port)
      const send = () => frame && this.#sendFrom(port.id, frame)
      this.#enqueue(() => stayHere(this.#world.sim, send))
    }
    this.#runQueue()
  }

  #runQueue(): void {
    for (let next = this.#queue.shift(); next !== undefined; next = this.#queue.shift()) next()
  }

  #enqueue(work: () => void): void {
    if (this.#queue.length < limits.queued) this.#queue.push(work)
    else this.#countDrop('too many packets at once')
  }

  /** Simulates; once more when the packet itself taught something that the walk may use. */
  #simulate(packet: Uint8Array, key: FlowKey, from: WalkStart): OutcomeKind | 'await' {
    const { sim, learning, states, now } = this.#world
    this.#simulations++
    sim.passage.packet = packet
    let outcome = this.#run(key, from)
    if (from.isPatient === true && states.mustWait(sim)) {
      sim.passage.packet = undefined
      return 'await'
    }
    const traced = sim.traces.length === 0 ? undefined : sim.traces.slice()
    if (traced !== undefined) {
      sim.story = []
      outcome = this.#run(key, from)
    }
    if (!sim.looped && (sim.effects.length > 0 || sim.sources.length > 0)) {
      const tags = learning.commit(sim, now())
      if (tags.length > 0) {
        this.#follow(tags)
        this.#simulations++
        outcome = this.#run(key, from)
      }
      this.#commitState(outcome)
      if (outcome === 'consumed' || (outcome === 'forward' && sim.delivered))
        states.tell(sim, (from.port ?? this.#world.topology.portOf(word(key, 0)))?.id ?? '')
    }
    if (traced !== undefined) this.#recordTraces(traced)
    sim.passage.packet = undefined
    return outcome
  }

  /** Walks a packet as it was received, or from port `start` on. */
  #run(key: FlowKey, { port, generated, unreachable }: WalkStart): OutcomeKind {
    const { sim, topology } = this.#world
    if (port === undefined) return simulate(topology, key, sim)
    return simulateAgain(port, generated === true, key, unreachable, sim)
  }

  /** Connections and translations are made only by what goes on, or is answered. */
  #commitState(outcome: OutcomeKind): void {
    const { sim, topology, now } = this.#world
    if (!leavesState(sim, outcome)) return
    empty(this.#changed)
    const tags = topology.state.commit(sim.effects, now(), this.#changed)
    sim.choices.settle(sim)
    if (tags.length > 0) this.#follow(tags)
  }

  #follow(tags: readonly Tag[]): void {
    this.#world.flows.invalidate(tags)
    if (this.parking.count + this.waiting.count === 0) return
    for (const tag of tags) this.#resume(this.parking.release(tag))
    this.#resume(this.waiting.release(tags))
  }

  #settle(outcome: OutcomeKind | 'await', hand: PacketInHand): void {
    const { sim } = this.#world
    switch (outcome) {
      case 'park':
        this.#park(sim.missing, hand)
        return
      case 'await':
        this.#await(hand)
        return
      case 'consumed':
        this.#answer(hand)
        return
      case 'drop':
        this.#countDrop(sim.reason)
        if (hand.installable && !sim.passage.unkeyed) this.#install(hand.key, [], undefined)
        return
      case 'forward': {
        if (!sim.delivered) this.#countDrop(sim.reason)
        const isLong = sim.lengthMax !== 0 && lengthOf(hand.packet, hand.offload) > sim.lengthMax
        // The packet first: whoever waits for it does not wait for the flow too.
        if (!isLong) this.#forward(hand)
        if (hand.installable && !sim.passage.unkeyed)
          this.#install(hand.key, flowActions(sim), undefined)
        if (isLong) this.#settleLong(hand)
        if (hand.installable) this.#expectProbe(hand.key)
      }
    }
  }

  #forward(hand: PacketInHand): void {
    const { sim } = this.#world
    const actions = actionsOf(sim)
    const packet = sim.passage.quotes.rewrite(hand.packet)
    if (sim.length <= sim.lengthMax || sim.lengthMax === 0)
      this.#executor.execute(packet, hand.offload, word(hand.key, 0), actions)
    else
      for (const fragment of cut(packet, hand.offload, sim.lengthMax))
        this.#executor.execute(fragment, undefined, word(hand.key, 0), actions)
  }

  /**
   * A packet too long for a link on its way: walked again with its length known, so that the router
   * there answers, or the packet is cut. No flow is made of that.
   */
  #settleLong(hand: PacketInHand): void {
    const { sim, topology, now } = this.#world
    const start = topology.ports.get(hand.start ?? '')
    if (start === undefined) return
    const { tagCount } = sim
    const flow = { mask: sim.mask, tags: sim.tags.slice(0, tagCount), tagCount }
    const actions = limitLength(sim.actions.slice(0, sim.actionCount), sim.lengthMax, [])
    sim.length = lengthOf(hand.packet, hand.offload)
    sim.mayCut = mayFragment(hand.packet)
    sim.passage.packet = hand.packet
    const outcome = simulateAgain(start, hand.generated, hand.key, undefined, sim)
    if (outcome === 'consumed') {
      const isRefused = this.#answer({ ...hand, installable: false })
      // While no answers may be sent, the kernel drops what is too long, and that only.
      if (isRefused && hand.installable && !sim.passage.unkeyed) {
        const endsMs = now() + limits.refusedMs
        const { key } = hand
        this.#world.flows.install({ key, ...flow, actions, sources: noSources, endsMs })
      }
    } else if (outcome === 'forward') this.#forward(hand)
    else this.#countDrop(sim.reason)
    sim.length = 0
    sim.mayCut = false
    sim.passage.packet = undefined
  }

  /** Keeps the story of a packet that trace requests ask for. */
  #recordTraces(traces: readonly VirtualTrace[]): void {
    const { sim, topology } = this.#world
    const text = tellStory(sim)
    sim.story = undefined
    for (const trace of traces)
      this.#follow(topology.services.record(trace, text, this.#world.now(), topology))
  }

  #install(key: FlowKey, actions: readonly Action[], endsMs: number | undefined): void {
    const { sim, flows } = this.#world
    const { mask, tags, tagCount, sources } = sim
    flows.install({ key, mask, actions, tags, tagCount, sources, endsMs })
  }

  /** A neighbour that was answered asks again now and then: that is a flow from now on, too. */
  #expectProbe(key: FlowKey): void {
    const { sim } = this.#world
    const probe = probeOf(key, sim)
    if (probe === undefined) return
    this.#simulations++
    const outcome = this.#run(probe, asReceived)
    // Nothing is learned of a packet that has not come; what it would teach can be asked for.
    const isPlain = sim.effects.every(({ kind }) => kind === 'learnNeighbor')
    if (outcome !== 'forward' || !isPlain || sim.passage.unkeyed) return
    this.#install(probe, flowActions(sim), undefined)
  }

  #park(missing: Missing | undefined, hand: PacketInHand): void {
    if (missing === undefined || hand.start === undefined) return
    const nowMs = this.#world.now()
    const result = this.parking.park(missing, parkedOf(hand, hand.start, nowMs), nowMs)
    if (result === 'full') this.#countDrop('too many packets wait for ARP')
    else if (result !== 'asked') this.#ask(result)
  }

  /** Has a packet wait for flow state; with no room for it, it is decided without. */
  #await(hand: PacketInHand): void {
    const { sim, states, now } = this.#world
    const parked = { ...parkedOf(hand, hand.start ?? '', now()), hasWaited: true }
    const { missed } = sim.passage
    if (!this.waiting.add(parked, missed.slice(), states.waitEndMs(now()))) this.#resume([parked])
  }

  /** Sends the answers, and what of a flood went elsewhere; whether the rate limit kept one back. */
  #answer(hand: PacketInHand): boolean {
    const { sim, now } = this.#world
    const actions = sim.actions.slice(0, sim.actionCount)
    let isRefused = false
    for (const effect of sim.effects) {
      if (!isAnswerable(effect)) continue
      if ('reason' in effect) this.#countDrop(effect.reason)
      const answer = this.#answers.answer(effect, hand.packet, now())
      if (answer.kind === 'refused') isRefused = true
      if (answer.kind !== 'frame') continue
      const { frame } = answer
      const { output } = effect.port
      // Past the port's chains, as the client's message came.
      if (effect.kind === 'dhcp')
        this.#executor.execute(frame, undefined, 0, output ? [output] : [])
      else this.send(effect.port.id, frame)
    }
    // A storm of packets that get no answer is the kernel's to drop for a while.
    if (isRefused && hand.installable && !sim.passage.unkeyed)
      this.#install(hand.key, actions, now() + limits.refusedMs)
    if (actions.length > 0)
      this.#executor.execute(hand.packet, hand.offload, word(hand.key, 0), actions)
    return isRefused
  }

  #ask(ask: Ask): void {
    const port = this.#world.topology.ports.get(ask.port)
    if (port?.kind === 'router') this.ask(port, ask.address)
  }

  /** Sends a packet that the agent made out of a port. */
  #sendFrom(start: string, frame: Uint8Array): void {
    const parked = generatedPacket(frame, start, this.#world.now())
    if (parked !== undefined) this.#walk(parked, undefined)
  }

  #resume(released: readonly ParkedPacket[]): void {
    for (const parked of released) this.#enqueue(() => this.#walk(parked, undefined))
  }

  #giveUp({ port: id, address, tag }: Ask, parked: ParkedPacket): void {
    const port = this.#world.topology.ports.get(id)
    if (port?.kind === 'router') this.#walk(parked, { port, address, tag })
  }

  #walk(parked: ParkedPacket, unreachable: Missing | undefined): void {
    const { topology } = this.#world
    const { key, generated } = parked
    const port = topology.ports.get(parked.start)
    if (port === undefined && parked.start !== '') {
      this.#countDrop('port is gone')
      return
    }
    const isPatient = !generated && parked.hasWaited !== true
    const from = { port, generated, unreachable, isPatient }
    const outcome = this.#simulate(parked.packet, key, from)
    // Its port may have lost the vport meanwhile: then the key says nothing about the port.
    const isCurrent = topology.portOf(word(key, 0)) === port
    const installable = !generated && unreachable === undefined && isCurrent
    this.#settle(outcome, { ...parked, installable })
  }

  #countDrop(reason: string): void {
    this.#drops.set(reason, (this.#drops.get(reason) ?? 0) + 1)
  }
}

const noSources: readonly never[] = []
