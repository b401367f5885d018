/**
 * The forwarding side of one host: takes packets that no flow matched, simulates them, installs the
 * flow and sends the packet on. Synchronous; its only outside is the datapath and the clock given.
 *
 *   store ──apply──▶ topology ──tags──▶ flow table ──remove──▶ datapath
 *   datapath ──round──▶ simulate ──▶ effects, flow, packet ──▶ datapath
 */
import createDebug from 'debug'
import type { Datapath, Upcall } from '../datapath/datapath.ts'
import { parseIp, parseIpv6, parseMac } from '../packet/address.ts'
import { wordsOf6 } from '../packet/address6.ts'
import { MalformedError } from '../packet/bytes.ts'
import type { ChangeBatch } from '../topology/store.ts'
import { adoptFlows } from './adoption.ts'
import { Delivery } from './delivery.ts'
import { type FlowCounters, FlowInstaller } from './flow-installer.ts'
import { HealthChecks, type HealthWorld, type MemberHealth } from './health.ts'
import { Learning } from './learning.ts'
import { Meters } from './meters.ts'
import type { DeliveryCounters } from './packet-in-hand.ts'
import { type SharedFact, Sharing } from './sharing.ts'
import { Simulation } from './simulation.ts'
import { StateLink } from './state-link.ts'
import { type Remembered, recallState, statePages } from './state-memory.ts'
import { type SharingCounters, StateSharing } from './state-sharing.ts'
import type { Tag } from './tag.ts'
import { type TraceResult, tracePacket } from './trace.ts'
import type { Story } from './trace-request.ts'
import { noDevices, type TunnelDevices, type TunnelStatus, Tunnels } from './tunnels.ts'
import { VirtualTopology } from './virtual-topology.ts'
import { type PortStatus, Vports } from './vports.ts'

const log = createDebug('midonet:simulator')

export const limits = {
  flows: 65_000,
  tickMs: 250,
  /** How often lost and missing interfaces are looked for, and learned facts age. */
  checkMs: 1_000,
} as const

export interface ForwarderOptions {
  readonly datapath: Datapath
  /** Id of this host. */
  readonly host: string
  /** A clock that never goes back, in milliseconds. */
  readonly now: () => number
  readonly flowLimit?: number
  /** Makes tunnel interfaces, where the datapath's have to be made. */
  readonly tunnels?: TunnelDevices
  /** Names this run among others of the host's agents: a random number of 32 bits. */
  readonly epoch: number
}

/** What `midonet status` tells of forwarding. */
export interface ForwarderStatus extends DeliveryCounters, FlowCounters {
  readonly datapath: Datapath['kind']
  readonly flows: number
  readonly flowLimit: number
  readonly masks: number
  readonly upcalls: number
  /** Upcalls lost between kernel and agent. */
  readonly lost: number
  /** Times that a socket of the kernel module's upcalls was full. */
  readonly overruns: number | undefined
  readonly misses: number
  /** Bindings of this host. */
  readonly ports: readonly PortStatus[]
  /** Of them those whose interface does not exist. */
  readonly pendingPorts: number
  readonly tunnels: readonly TunnelStatus[]
  /** MAC addresses and neighbours that packets taught. */
  readonly learned: number
  /** Connections and translations that chains remember. */
  readonly connections: number
  /** What was told of them between this host and others. */
  readonly stateMessages: SharingCounters
  /** Meters of ports with a bandwidth limit. */
  readonly meters: number
  /** Why ports with a bandwidth limit have none. */
  readonly meterProblem: string | undefined
}

/** A trace request as it stands on this host. */
export interface TraceRequestStatus {
  readonly id: string
  /** Packets that it still wants. */
  readonly left: number
}

export class Forwarder {
  readonly topology: VirtualTopology
  readonly #datapath: Datapath
  readonly #now: () => number
  /** When the round under way began: for its packets no time passes. 0 outside of rounds. */
  #roundMs = 0
  readonly #flows: FlowInstaller
  readonly #vports: Vports
  readonly #tunnels: Tunnels
  readonly #meters: Meters
  readonly #learning: Learning
  readonly #states: StateSharing
  readonly #delivery: Delivery
  readonly #sharing: Sharing
  #wasSharing = false
  readonly #healthWorld: HealthWorld
  readonly #sim = new Simulation()
  readonly #health = new HealthChecks()
  #foundHealth: MemberHealth[] = []
  /** What an agent before this one left has been looked at. */
  #isSettled = false
  #nextTickMs = 0
  #nextCheckMs = 0

  constructor(options: ForwarderOptions) {
    const { datapath, host, flowLimit = limits.flows, tunnels = noDevices } = options
    // Whole milliseconds: flows and connections keep times, and a fraction is an object of its own.
    const now = (): number => (this.#roundMs === 0 ? Math.floor(options.now()) : this.#roundMs)
    const topology = new VirtualTopology(host)
    const flows = new FlowInstaller(datapath, now, flowLimit)
    const sharing = new Sharing(host, () => topology.peers.ways.size > 0)
    const learning = new Learning({
      sharing,
      flows: flows.table,
      refresh: (flow) => flows.refresh(flow),
      ask: (port, address) => this.#delivery.ask(port, address),
      portOf: (id) => topology.ports.get(id),
    })
    this.topology = topology
    this.#sharing = sharing
    this.#datapath = datapath
    this.#now = now
    this.#flows = flows
    this.#vports = new Vports(datapath, topology, sharing)
    this.#tunnels = new Tunnels(datapath, topology, tunnels)
    this.#meters = new Meters(datapath, topology)
    this.#learning = learning
    const states = new StateSharing({
      topology,
      link: new StateLink(datapath, topology.peers),
      epoch: options.epoch,
      now,
      follow: (changed) => this.#delivery.invalidate(changed),
      settled: () => this.#delivery.retryAwaiting(),
    })
    this.#states = states
    this.#delivery = new Delivery({
      datapath,
      topology,
      flows,
      learning,
      states,
      sim: this.#sim,
      now,
    })
    const { routers } = topology
    this.#healthWorld = {
      routers,
      isFirstHost: () => topology.isFirstHost,
      send: (port, frame) => this.#delivery.send(port, frame),
      ask: (port, address) => this.#delivery.ask(port, address),
    }
  }

  /** Follows the store: ports come and go, flows that rest on what changed are removed. */
  apply(batch: ChangeBatch): void {
    const { tags, bindings, moved } = this.topology.apply(batch)
    this.#flows.invalidate(tags)
    this.#flows.invalidate(this.#vports.change(bindings))
    this.#flows.invalidate(this.#tunnels.sync())
    this.#flows.invalidate(this.#meters.sync())
    this.#states.inherit(moved)
    if (this.#isSettled) this.#states.meet()
    this.#delivery.retryParked()
  }

  /**
   * Takes over what an agent before this one left in the datapath, once, after the first snapshot.
   * Flows that a simulation of today would install too stay as they are; traffic notices nothing.
   * `remembered` is what that agent wrote down of its `statePages`. What is left of it is no worse
   * for ending early: what cannot be read ends it, and is told.
   */
  adopt(remembered?: Remembered): void {
    const strangers = this.#vports.removeStrangers(this.#tunnels.vports)
    this.#tunnels.removeStrangers()
    this.#meters.removeStrangers()
    // Flows over narrow ways are taken over only where it is known that these are.
    this.#flows.invalidate(this.#tunnels.check())
    this.#inherit()
    const { kept, removed } = adoptFlows({
      datapath: this.#datapath,
      topology: this.topology,
      flows: this.#flows,
      learning: this.#learning,
      sim: this.#sim,
      nowMs: this.#now(),
      recall: () => this.#recall(remembered),
    })
    this.#isSettled = true
    this.#states.meet()
    log('adopted %d flows, removed %d flows and %d ports', kept, removed, strangers)
  }

  #recall(remembered: Remembered | undefined): void {
    if (remembered === undefined) return
    try {
      const count = recallState(remembered, this.topology, this.#now())
      log('remembered %d connections', count)
    } catch (error) {
      if (!(error instanceof MalformedError)) throw error
      log('what was written down of connections ends early: %s', error.message)
    }
  }

  get hasState(): boolean {
    return this.topology.state.size > 0
  }

  /** Flow state for an agent after this one, as messages; see `statePages`. */
  statePages(): IterableIterator<Uint8Array> {
    return statePages(this.topology, this.#now)
  }

  /**
   * Learns what an agent of this host has told the others: it has to be seen again soon. What it told
   * of a port that is gone is taken back: nobody else does.
   */
  #inherit(): void {
    const { foreign, ports } = this.topology
    const nowMs = this.#now()
    for (const { kind, value } of [...foreign.own]) {
      const port = ports.get(value.port)
      const mac = parseMac(value.mac)
      if (port === undefined) this.#sharing.drop(kind, value.id)
      if (port === undefined || mac === undefined) continue
      if (kind === 'learnedMac' && port.kind === 'bridge' && port.vport !== 0)
        this.#learning.inheritMac(port, mac, value.vlan, nowMs)
      if (kind !== 'learnedNeighbor' || port.kind !== 'router') continue
      const address = parseIp(value.address) ?? parseIpv6(value.address)
      if (address === undefined) continue
      const known = typeof address === 'number' ? address : wordsOf6(address)
      this.#learning.inherit(port, known, mac, nowMs)
    }
  }

  /** Handles up to `budget` waiting packets without blocking; says how many. */
  round(budget: number): number {
    this.#roundMs = this.#now()
    try {
      const handled = this.#datapath.receive(budget, this.#receive)
      if (handled > 0) this.#states.flush()
      return handled
    } finally {
      this.#roundMs = 0
    }
  }

  /** Does what time alone brings about. Cheap when nothing is due: call it after every round. */
  tick(): void {
    const nowMs = this.#now()
    if (nowMs >= this.#delivery.nextMs()) this.#delivery.tick(nowMs)
    if (nowMs >= this.#states.nextMs()) this.#states.tick(nowMs)
    if (nowMs < this.#nextTickMs) return
    this.#nextTickMs = nowMs + limits.tickMs
    this.#flows.sweep()
    this.#checkHealth(nowMs)
    if (nowMs < this.#nextCheckMs) return
    this.#nextCheckMs = nowMs + limits.checkMs
    this.#follow(this.#vports.check())
    this.#follow(this.#vports.retry())
    this.#follow(this.#tunnels.check())
    this.#follow(this.#meters.sync())
    this.#follow(this.#learning.sweep(nowMs))
    if (this.#sharing.isOn && !this.#wasSharing) {
      this.#learning.shareAll()
      this.#vports.shareAll()
    }
    this.#wasSharing = this.#sharing.isOn
    if (this.#isSettled) this.#states.meet()
    this.#follow(this.topology.state.sweep(nowMs, this.#flows, this.#states.renew))
    this.#states.tick(nowMs)
    this.topology.balancers.sweep(nowMs)
    this.#delivery.tick(nowMs)
    this.#delivery.announce(nowMs)
  }

  /** What other hosts should know, since the last time. */
  takeFacts(): readonly SharedFact[] {
    return this.#sharing.take()
  }

  /** Members of pools that were found other than the store says, since the last time. */
  takeHealth(): readonly MemberHealth[] {
    if (this.#foundHealth.length === 0) return noHealth
    const found = this.#foundHealth
    this.#foundHealth = []
    return found
  }

  #checkHealth(nowMs: number): void {
    const { monitored } = this.topology.balancers
    if (monitored.length + this.#health.size === 0) return
    const found = this.#health.tick(monitored, this.#healthWorld, nowMs)
    this.#foundHealth.push(...found)
    this.#delivery.tick(nowMs)
  }

  /** How long nothing is due here; Infinity when only packets and changes can bring work. */
  nextTimeoutMs(): number {
    const kept = this.#learning.size + this.topology.state.size + this.#health.size
    const isIdle = this.#flows.table.size + kept + this.#vports.size === 0
    const tickMs = isIdle ? Number.POSITIVE_INFINITY : this.#nextTickMs
    const nextMs = Math.min(tickMs, this.#delivery.nextMs(), this.#states.nextMs())
    return Math.max(0, nextMs - this.#now())
  }

  /** Says that the interface behind a vport has gone. */
  handleLinkGone(vport: number): void {
    this.#follow(this.#vports.lose(vport))
  }

  /** What would happen to a packet that enters port `port`, and why; nothing is done to it. */
  trace(port: string, packet: string): TraceResult {
    return tracePacket(this.topology, port, packet)
  }

  /** Trace requests that still want packets. */
  traceRequests(): readonly TraceRequestStatus[] {
    return this.topology.services.traces.map(({ id, left }) => ({ id, left }))
  }

  /** What a trace request's packets have told. */
  stories(request: string): readonly Story[] {
    return this.topology.services.stories.of(request)
  }

  status(): ForwarderStatus {
    const { masks, upcalls, lost, overruns, misses } = this.#datapath.counters()
    return {
      datapath: this.#datapath.kind,
      flows: this.#flows.table.size,
      flowLimit: this.#flows.limit,
      masks,
      upcalls,
      lost,
      overruns,
      misses,
      ports: this.#vports.status(),
      pendingPorts: this.#vports.pending,
      tunnels: this.#tunnels.status(),
      learned: this.topology.countLearned(),
      connections: this.topology.state.size,
      stateMessages: this.#states.counters,
      meters: this.#meters.count,
      meterProblem: this.#meters.problem,
      ...this.#delivery.counters,
      ...this.#flows.counters,
    }
  }

  readonly #receive = (upcall: Upcall): void => this.#delivery.receive(upcall)

  #follow(tags: readonly Tag[]): void {
    if (tags.length > 0) this.#delivery.invalidate(tags)
  }
}

const noHealth: readonly MemberHealth[] = []
