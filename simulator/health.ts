/**
 * Looks after members of pools that have a health monitor: the router sends each a SYN from time to
 * time, as a client would through it. A SYN-ACK is a success, and is reset like all that comes to a
 * port where the router serves nothing; so no connection is made. Silence until the timeout, or a
 * reset, is a failure; so many in a row make the member inactive, one success makes it active again.
 *
 * One host judges a member: the one that its station is on, and the first of all hosts while it is
 * nowhere.
 */
import { contains } from '../packet/address.ts'
import { fragNone } from '../packet/flow-key.ts'
import { buildSyn } from '../packet/probe.ts'
import type { HealthMonitor, PoolMember } from '../topology/model.ts'
import { macHigh, macLow } from './mac-table.ts'
import { resolveNextHop } from './neighbor.ts'
import type { VirtualRouter, VirtualRouterPort } from './router.ts'
import { Simulation, word } from './simulation.ts'

export const limits = {
  /** Source ports of probes: below those that translations give. */
  firstPort: 512,
  lastPort: 1023,
  /** Members asked in one tick; further ones have their turn in the next. */
  perTick: 256,
} as const

/** A member to look after, as the store says. */
export interface Monitored {
  readonly member: PoolMember
  readonly address: number
  readonly router: string
  readonly monitor: HealthMonitor
}

/** What a member is found to be, other than the store says. */
export interface MemberHealth {
  readonly member: string
  readonly status: 'active' | 'inactive'
}

/** What is known of a member. */
export interface Probe {
  monitored: Monitored
  nextMs: number
  /** When its answer must have come; Infinity while none is due. */
  deadlineMs: number
  sourcePort: number
  /** For the simulator's effect to set. */
  isAnswered: boolean
  failures: number
}

export interface HealthWorld {
  readonly routers: ReadonlyMap<string, VirtualRouter>
  readonly isFirstHost: () => boolean
  readonly send: (port: string, frame: Uint8Array) => void
  readonly ask: (port: VirtualRouterPort, address: number) => void
}

export class HealthChecks {
  readonly #probes = new Map<string, Probe>()
  readonly #scratch = new Simulation()
  #known: readonly Monitored[] = []
  #sent = 0

  /** Members that are looked after. */
  get size(): number {
    return this.#probes.size
  }

  /** Asks whom it is time to ask; says who is not what the store says. */
  tick(monitored: readonly Monitored[], world: HealthWorld, nowMs: number): MemberHealth[] {
    if (monitored !== this.#known) this.#follow(monitored, world, nowMs)
    const found: MemberHealth[] = []
    let left: number = limits.perTick
    for (const probe of this.#probes.values()) {
      const status = judge(probe, nowMs)
      const { member } = probe.monitored
      if (status !== undefined && status !== member.status)
        found.push({ member: member.id, status })
      if (probe.nextMs <= nowMs && left-- > 0) this.#probe(probe, world, nowMs)
    }
    return found
  }

  #follow(monitored: readonly Monitored[], { routers }: HealthWorld, nowMs: number): void {
    this.#known = monitored
    const wanted = new Map(monitored.map((one) => [one.member.id, one]))
    for (const [id, probe] of this.#probes) {
      if (wanted.has(id)) continue
      this.#probes.delete(id)
      routers.get(probe.monitored.router)?.probes?.delete(probe.sourcePort)
    }
    for (const [id, one] of wanted) {
      const known = this.#probes.get(id)
      if (known !== undefined) known.monitored = one
      else this.#probes.set(id, { ...fresh, monitored: one, nextMs: nowMs })
    }
  }

  #probe(probe: Probe, world: HealthWorld, nowMs: number): void {
    const { monitored } = probe
    const { monitor, address } = monitored
    const timeoutMs = monitor.timeoutSeconds * 1000
    probe.nextMs = nowMs + Math.max(monitor.delaySeconds * 1000, timeoutMs)
    const router = world.routers.get(monitored.router)
    const port = router?.adminUp === true ? this.#egress(router, address) : undefined
    if (router === undefined || port === undefined) return
    if (!isOurs(port, address, world.isFirstHost())) return
    probe.deadlineMs = nowMs + timeoutMs
    probe.isAnswered = false
    router.probes ??= new Map()
    router.probes.delete(probe.sourcePort)
    const { firstPort, lastPort } = limits
    probe.sourcePort = firstPort + (this.#sent++ % (lastPort - firstPort + 1))
    router.probes.set(probe.sourcePort, probe)
    const hop = resolveNextHop(port, address)
    const own = port.addresses.find((cidr) => contains(cidr, address)) ?? port.addresses[0]
    if (hop === undefined || own === undefined) {
      world.ask(port, address)
      return
    }
    const from = { src: own.address, srcMac: port.mac, srcPort: probe.sourcePort }
    const to = { dst: address, dstMac: hop.action.dst, dstPort: monitored.member.port }
    world.send(port.id, buildSyn({ ...from, ...to, sequence: Math.imul(this.#sent, 64_021) >>> 0 }))
  }

  /** The port whose link a member is on; those behind another router are not looked after. */
  #egress(router: VirtualRouter, address: number): VirtualRouterPort | undefined {
    this.#scratch.tagCount = 0
    const route = router.routes.lookup(0, address, this.#scratch)
    return route?.action === 'port' && route.gateway === undefined ? route.port : undefined
  }
}

const fresh = {
  deadlineMs: Number.POSITIVE_INFINITY,
  sourcePort: 0,
  isAnswered: false,
  failures: 0,
} as const

/** What the last answer, or its absence, makes of a member; undefined while that is open. */
function judge(probe: Probe, nowMs: number): MemberHealth['status'] | undefined {
  if (probe.deadlineMs === Number.POSITIVE_INFINITY) return undefined
  if (!probe.isAnswered && nowMs < probe.deadlineMs) return undefined
  probe.deadlineMs = Number.POSITIVE_INFINITY
  probe.failures = probe.isAnswered ? 0 : probe.failures + 1
  if (probe.isAnswered) return 'active'
  return probe.failures >= probe.monitored.monitor.maxRetries ? 'inactive' : undefined
}

/** Whether this host is to judge who is at an address of a port's link. */
function isOurs(port: VirtualRouterPort, address: number, isFirstHost: boolean): boolean {
  const bridge = port.peer?.kind === 'bridge' ? port.peer.bridge : undefined
  const mac = bridge?.addresses.get(address | 0)?.mac
  const station = mac === undefined ? undefined : bridge?.macs.find(macHigh(mac), macLow(mac))
  const place = bridge === undefined ? port : station?.port
  if (place !== undefined && (place.vport !== 0 || place.bound)) return place.vport !== 0
  return isFirstHost
}

/** Notes an answer to a probe among the packets for a router's own addresses. */
export function noteAnswer(sim: Simulation, probes: ReadonlyMap<number, Probe>): void {
  const { work } = sim
  sim.seeFragment()
  if (word(work, 9) >>> 24 !== fragNone) return
  sim.seeIpSrc(32)
  sim.seeTpSrc()
  sim.seeTpDst()
  sim.seeBits(19, synAck)
  if ((word(work, 19) & synAck) !== synAck) return
  const probe = probes.get(word(work, 18) >>> 16)
  if (probe === undefined || probe.monitored.address !== word(work, 10)) return
  if (probe.monitored.member.port === (word(work, 18) & 0xffff))
    sim.effects.push({ kind: 'probeAnswer', probe })
}

const synAck = 0x12
