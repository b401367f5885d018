/**
 * The forwarding side of one host: takes packets that no flow matched, simulates them, installs the
 * flow and sends the packet on. Synchronous; its only outside is the datapath and the clock given.
 *
 *   store ──apply──▶ topology ──tags──▶ flow table ──remove──▶ datapath
 *   datapath ──round──▶ simulate ──▶ effects, flow, packet ──▶ datapath
 */
import createDebug from 'debug'
import type { Datapath, Upcall } from '../datapath/datapath.ts'
import type { ChangeBatch } from '../topology/store.ts'
import { adoptFlows } from './adoption.ts'
import { Delivery, type DeliveryCounters } from './delivery.ts'
import { type FlowCounters, FlowInstaller } from './flow-installer.ts'
import { Learning } from './learning.ts'
import { Meters } from './meters.ts'
import { Simulation } from './simulation.ts'
import type { Tag } from './tag.ts'
import { type TraceResult, tracePacket } from './trace.ts'
import type { Story } from './trace-request.ts'
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
  readonly misses: number
  /** Bindings of this host. */
  readonly ports: readonly PortStatus[]
  /** Of them those whose interface does not exist. */
  readonly pendingPorts: number
  /** MAC addresses and neighbours that packets taught. */
  readonly learned: number
  /** Connections and translations that chains remember. */
  readonly connections: number
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
  readonly #flows: FlowInstaller
  readonly #vports: Vports
  readonly #meters: Meters
  readonly #learning: Learning
  readonly #delivery: Delivery
  readonly #sim = new Simulation()
  #nextTickMs = 0
  #nextCheckMs = 0

  constructor({ datapath, host, now, flowLimit = limits.flows }: ForwarderOptions) {
    const topology = new VirtualTopology(host)
    const flows = new FlowInstaller(datapath, now, flowLimit)
    const learning = new Learning({
      flows: flows.table,
      refresh: (flow) => flows.refresh(flow),
      ask: (port, address) => this.#delivery.ask(port, address),
    })
    this.topology = topology
    this.#datapath = datapath
    this.#now = now
    this.#flows = flows
    this.#vports = new Vports(datapath, topology)
    this.#meters = new Meters(datapath, topology)
    this.#learning = learning
    this.#delivery = new Delivery({ datapath, topology, flows, learning, sim: this.#sim, now })
  }

  /** Follows the store: ports come and go, flows that rest on what changed are removed. */
  apply(batch: ChangeBatch): void {
    const { tags, bindings } = this.topology.apply(batch)
    this.#flows.invalidate(tags)
    this.#flows.invalidate(this.#vports.change(bindings))
    this.#flows.invalidate(this.#meters.sync())
    this.#delivery.retryParked()
  }

  /**
   * Takes over what an agent before this one left in the datapath, once, after the first snapshot.
   * Flows that a simulation of today would install too stay as they are; traffic notices nothing.
   */
  adopt(): void {
    const strangers = this.#vports.removeStrangers()
    this.#meters.removeStrangers()
    const { kept, removed } = adoptFlows({
      datapath: this.#datapath,
      topology: this.topology,
      flows: this.#flows,
      learning: this.#learning,
      sim: this.#sim,
      nowMs: this.#now(),
    })
    log('adopted %d flows, removed %d flows and %d ports', kept, removed, strangers)
  }

  /** Handles up to `budget` waiting packets without blocking; says how many. */
  round(budget: number): number {
    return this.#datapath.receive(budget, this.#receive)
  }

  /** Does what time alone brings about. Cheap when nothing is due: call it after every round. */
  tick(): void {
    const nowMs = this.#now()
    if (nowMs >= this.#delivery.parking.nextMs()) this.#delivery.tick(nowMs)
    if (nowMs < this.#nextTickMs) return
    this.#nextTickMs = nowMs + limits.tickMs
    this.#flows.sweep()
    if (nowMs < this.#nextCheckMs) return
    this.#nextCheckMs = nowMs + limits.checkMs
    this.#follow(this.#vports.check())
    this.#follow(this.#vports.retry())
    this.#follow(this.#meters.sync())
    this.#follow(this.#learning.sweep(nowMs))
    this.#follow(this.topology.state.sweep(nowMs, this.#flows))
    this.#delivery.tick(nowMs)
    this.#delivery.announce(nowMs)
  }

  /** How long nothing is due here; Infinity when only packets and changes can bring work. */
  nextTimeoutMs(): number {
    const kept = this.#learning.size + this.topology.state.size
    const isIdle = this.#flows.table.size + kept + this.#vports.size === 0
    const tickMs = isIdle ? Number.POSITIVE_INFINITY : this.#nextTickMs
    return Math.max(0, Math.min(tickMs, this.#delivery.parking.nextMs()) - this.#now())
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
    const { masks, upcalls, lost, misses } = this.#datapath.counters()
    return {
      datapath: this.#datapath.kind,
      flows: this.#flows.table.size,
      flowLimit: this.#flows.limit,
      masks,
      upcalls,
      lost,
      misses,
      ports: this.#vports.status(),
      pendingPorts: this.#vports.pending,
      learned: this.topology.countLearned(),
      connections: this.topology.state.size,
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
