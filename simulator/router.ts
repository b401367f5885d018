/**
 * The virtual router, for IPv4 (IPv6: router6.ts): answers ARP for its addresses, routes, decrements the TTL, finds the
 * next hop's MAC address and answers with the ICMP errors that RFC 1812 asks for.
 *
 * What needs an answer made from the packet's bytes (echo, errors) is an effect and makes no flow.
 * An ARP request for one of its addresses is rewritten into the reply, and that is a flow.
 */
import { broadcastOf, type Cidr, contains, networkOf } from '../packet/address.ts'
import { fields, fragLater, fragNone } from '../packet/flow-key.ts'
import type { VirtualBalancer } from './balancer.ts'
import { enterDevice, type Filtered, leaveDevice } from './filter.ts'
import { noteAnswer, type Probe } from './health.ts'
import { fitsLink, linkMtu } from './link-mtu.ts'
import { balance, leaveBalanced, wayBack } from './load-balancer.ts'
import { joinMac } from './mac-table.ts'
import { type NextHop, resolveNextHop } from './neighbor.ts'
import { isOrphan } from './orphan.ts'
import type { PortState } from './port.ts'
import type { RouteEntry, RouteTable } from './route-table.ts'
import type { RouteTable6 } from './route-table6.ts'
import type { RouterPort6 } from './router-port6.ts'
import { simulateIpv6 } from './router6.ts'
import { type Simulation, word } from './simulation.ts'
import type { Speaker } from './speaker.ts'
import { type AnyAddress, neighborTag } from './tag.ts'
import type { VirtualTrace } from './trace-request.ts'

export interface VirtualRouter extends Filtered {
  readonly id: string
  name: string
  adminUp: boolean
  readonly ports: Set<VirtualRouterPort>
  readonly routes: RouteTable
  readonly routes6: RouteTable6
  traces: readonly VirtualTrace[] | undefined
  /** Undefined when it has none that does anything. */
  balancer: VirtualBalancer | undefined
  /** Health checks under way, by source port. */
  probes: Map<number, Probe> | undefined
}

export interface VirtualRouterPort extends PortState {
  readonly kind: 'router'
  readonly router: VirtualRouter
  readonly mac: number
  readonly macHigh: number
  readonly macLow: number
  readonly addresses: readonly Cidr[]
  /** The largest IP packet that leaves by it; 0 for what the link says. */
  readonly mtu: number
  /** MAC addresses by IPv4 address as a signed number: configured ones, and ones learned by ARP. */
  readonly neighbors: ReadonlyMap<number, number>
  readonly learned: Map<number, LearnedNeighbor>
  /** Those that other hosts have learned. */
  readonly told: Map<number, number>
  /** What `resolveNextHop` found, until something it used changes. */
  readonly nextHops: Map<number, NextHop>
  /** Routes to the port's own addresses. */
  readonly localRoutes: readonly RouteEntry[]
  /** Routes that leave by this port: in the table while the port is active, as `routesUp` says. */
  readonly routes: Set<RouteEntry>
  routesUp: boolean
  /** Whether they leave by another host. */
  routesFar: boolean
  /** The routing daemon that speaks for it on this host. */
  speaker: Speaker | undefined
  /** What it has of IPv6; undefined when it speaks none. */
  readonly six: RouterPort6 | undefined
}

export interface LearnedNeighbor {
  readonly address: AnyAddress
  readonly mac: number
  learnedMs: number
}

const ethertypes = { ipv4: 0x0800, arp: 0x0806, ipv6: 0x86dd } as const
const protocols = { icmp: 1, tcp: 6, udp: 17, sctp: 132 } as const
const tcpRst = 0x04
const arpOps = { request: 1, reply: 2 } as const

/** ICMP types and codes, RFC 792 and RFC 1812 section 5.2.7. */
const icmp = {
  echoRequest: 8,
  unreachable: 3,
  timeExceeded: 11,
  network: 0,
  host: 1,
  protocol: 2,
  port: 3,
  tooBig: 4,
  prohibited: 13,
} as const

/** Takes a frame in at port `ingress`. Says which port it leaves by; undefined when it ends here. */
export function simulateRouter(
  sim: Simulation,
  ingress: VirtualRouterPort,
): VirtualRouterPort | undefined {
  const { work } = sim
  sim.seeEthType()
  const vlan = word(work, 7)
  if (vlan !== 0) {
    // A tag with VLAN 0 carries a priority only (802.1Q).
    if ((vlan & 0xfff) !== 0) return sim.drop('router takes no VLAN-tagged frames')
    sim.setVlan(0)
  }
  sim.seeEthDst()
  if (work[8] === ethertypes.ipv6) return simulateIpv6(sim, ingress)
  const isArp = work[8] === ethertypes.arp
  if ((word(work, 3) & 0x100) !== 0) {
    if (isArp && work[3] === 0xffff && work[4] === 0xffff_ffff) return simulateArp(sim, ingress)
    return sim.drop('router takes no broadcasts but ARP')
  }
  if (work[3] !== ingress.macHigh || work[4] !== ingress.macLow)
    return sim.drop('frame is for another MAC address')
  if (isArp) return simulateArp(sim, ingress)
  if (work[8] === ethertypes.ipv4) return simulateIpv4(sim, ingress)
  return sim.drop('router forwards IP only')
}

function simulateArp(sim: Simulation, ingress: VirtualRouterPort): VirtualRouterPort | undefined {
  const { work } = sim
  if (!ingress.adminUp || !ingress.router.adminUp) return sim.drop('router or its port is down')
  sim.see(fields.arpOp)
  sim.see(fields.ipSrc)
  sim.see(fields.ipDst)
  const op = word(work, 19) >>> 16
  const sender = word(work, 10)
  const isOurs = answersFor(ingress, word(work, 14))
  const isNear = sharesLink(ingress, sender)
  if (isNear) noteNeighbor(sim, ingress, isOurs)
  if (!isOurs) return sim.drop('ARP is not for this router')
  if (op === arpOps.reply) return sim.consume('ARP reply is taken')
  // Address 0.0.0.0 asks whether an address is free (RFC 5227).
  if (op !== arpOps.request || !(isNear || sender === 0))
    return sim.drop('ARP sender is outside the link')
  sim.story?.push(`router ${ingress.router.name}: answers the ARP request for its own address`)
  sim.rewriteToArpReply(ingress.mac)
  return ingress
}

/** Learns the sender of ARP as RFC 826 says: when it asked for us, or is known already. */
function noteNeighbor(sim: Simulation, ingress: VirtualRouterPort, isOurs: boolean): void {
  const { work } = sim
  const address = word(work, 10)
  sim.tag(neighborTag(ingress.id, address))
  sim.see(fields.arpSha)
  const mac = joinMac(word(work, 11) & 0xffff, word(work, 12))
  const known = ingress.learned.get(address | 0)
  if (ingress.neighbors.has(address | 0) || hasAddress(ingress, address)) return
  if ((word(work, 11) & 0x100) !== 0 || mac === 0) return
  // A reply renews what is known: it says that the neighbour lives.
  const isReply = word(work, 19) >>> 16 === arpOps.reply
  if (known === undefined ? isOurs : known.mac !== mac || isReply)
    sim.effects.push({ kind: 'learnNeighbor', port: ingress, address, mac })
}

function simulateIpv4(sim: Simulation, ingress: VirtualRouterPort): VirtualRouterPort | undefined {
  const { work } = sim
  const { router } = ingress
  sim.seeIpSrc(8)
  if (isMartian(word(work, 10) >>> 24)) return sim.drop('source address cannot be routed')
  sim.seeIpDst(8)
  if (isMartian(word(work, 14) >>> 24)) return sim.drop('destination address cannot be routed')
  if (!router.adminUp) return prohibit(sim, ingress, 'router is down')
  if (!ingress.adminUp) return prohibit(sim, ingress, 'router port is down')
  const { balancer } = router
  const balanced = balancer === undefined ? 'none' : balance(sim, balancer, router.zone)
  if (balanced === 'dropped') return undefined
  if (balanced === 'refused') return refuse(sim, ingress, 'no member of the pool may have it')
  if (balanced === 'none') {
    if (!enterDevice(sim, router)) return undefined
    if (balancer !== undefined && isListening(sim, balancer)) return simulateLocal(sim, ingress)
  }

  const via = wayBack(sim.passage.frame.balance)
  const entered = sim.work
  const route = router.routes.lookup(word(entered, 10), word(entered, 14), sim, via)
  if (route === undefined) return unreachable(sim, ingress, icmp.network, 'no route')
  switch (route.action) {
    case 'blackhole':
      return sim.drop('blackhole route')
    case 'reject':
      return prohibit(sim, ingress, 'reject route')
    case 'local':
      return simulateLocal(sim, ingress)
    case 'port':
      return forwardIpv4(sim, ingress, route)
  }
}

function forwardIpv4(
  sim: Simulation,
  ingress: VirtualRouterPort,
  route: RouteEntry,
): VirtualRouterPort | undefined {
  const { work } = sim
  const { router } = ingress
  const egress = route.port
  if (egress === undefined) return unreachable(sim, ingress, icmp.network, 'route has no port')
  sim.seeTtl()
  const ttl = (word(work, 9) >>> 16) & 0xff
  if (ttl <= 1) return icmpError(sim, ingress, icmp.timeExceeded, 0, 'TTL is used up')

  if (egress === ingress && sim.passage.frame.balance === undefined && isOrphan(sim, ingress))
    return refuse(sim, ingress, 'no such connection')

  const address = route.gateway ?? word(work, 14)
  if (route.gateway === undefined) {
    sim.seeIpDst(32)
    if (isDirectedBroadcast(egress, address)) return sim.drop('directed broadcast')
  }
  if (!fitsLink(sim, ingress, egress, sim.mayCut)) return tooBig(sim, ingress, linkMtu(egress))
  const todo = sim.passage.frame.balance
  if (
    todo !== undefined
      ? !leaveBalanced(sim, todo, ingress, egress)
      : !leaveDevice(sim, router, egress)
  ) {
    // Rules may have asked what port it would leave by.
    sim.tag(egress.tag)
    return undefined
  }
  const hop = resolveNextHop(egress, address)
  if (hop === undefined) return waitForNeighbor(sim, ingress, egress, address, route)
  sim.tag(hop.tag)
  sim.story?.push(`router ${router.name}: ${describe(route)}, out of port ${egress.id}`)
  sim.rewriteTtl(ttl - 1)
  sim.rewriteEth(hop.action, hop.words)
  return egress
}

function waitForNeighbor(
  sim: Simulation,
  ingress: VirtualRouterPort,
  egress: VirtualRouterPort,
  address: number,
  route: RouteEntry,
): undefined {
  const tag = neighborTag(egress.id, address)
  if (sim.unreachable?.tag === tag) {
    const code = route.gateway === undefined ? icmp.host : icmp.network
    return unreachable(sim, ingress, code, 'next hop does not answer ARP')
  }
  sim.missing = { port: egress, address, tag }
  sim.story?.push(`router ${ingress.router.name}: waits for the next hop to answer ARP`)
  return undefined
}

/** A packet for one of the router's own addresses. */
function simulateLocal(sim: Simulation, ingress: VirtualRouterPort): undefined {
  const { work } = sim
  sim.seeIpDst(32)
  sim.seeProtocol()
  sim.seeFragment()
  const protocol = word(work, 9) & 0xff
  const { probes } = ingress.router
  if (probes !== undefined && protocol === protocols.tcp) noteAnswer(sim, probes)
  if (protocol !== protocols.icmp)
    return refuse(sim, ingress, 'router serves nothing on this address')
  if (word(work, 9) >>> 24 !== fragNone) return sim.drop('router does not reassemble fragments')
  sim.seeTpSrc()
  sim.seeTpDst()
  if (work[18] !== icmp.echoRequest) return sim.drop('ICMP message needs no answer')
  sim.effects.push({ kind: 'echo', port: ingress, changes: sim.changes(sim.entered) })
  return sim.consume('echo request is answered')
}

/** Nobody serves the packet: a reset of TCP, else "unreachable" for port or protocol. */
function refuse(sim: Simulation, ingress: VirtualRouterPort, reason: string): undefined {
  const { work } = sim
  const protocol = word(work, 9) & 0xff
  if (protocol === protocols.tcp && word(work, 9) >>> 24 !== fragLater) {
    sim.seeBits(19, tcpRst)
    if ((word(work, 19) & tcpRst) !== 0) return sim.drop('router has no such connection')
    return sim.refuse(ingress, reason)
  }
  const code = protocol === protocols.udp ? icmp.port : icmp.protocol
  return unreachable(sim, ingress, code, reason)
}

/** Whether the packet is for an address that only the load balancer has. */
function isListening(sim: Simulation, balancer: VirtualBalancer): boolean {
  sim.seeIpDst(balancer.listening.bitsFor(word(sim.work, 14)))
  return balancer.listens(word(sim.work, 14))
}

function prohibit(sim: Simulation, ingress: VirtualRouterPort, reason: string): undefined {
  return unreachable(sim, ingress, icmp.prohibited, reason)
}

/** RFC 1191 section 4: fragmentation needed, with the MTU of the next hop. */
function tooBig(sim: Simulation, ingress: VirtualRouterPort, mtu: number): undefined {
  const reason = 'packet is too big for the next link'
  return icmpError(sim, ingress, icmp.unreachable, icmp.tooBig, reason, mtu)
}

function unreachable(
  sim: Simulation,
  ingress: VirtualRouterPort,
  code: number,
  reason: string,
): undefined {
  return icmpError(sim, ingress, icmp.unreachable, code, reason)
}

/** Drops the packet and tells its sender, where RFC 1812 section 4.3.2.7 allows that. */
function icmpError(
  sim: Simulation,
  ingress: VirtualRouterPort,
  type: number,
  code: number,
  reason: string,
  parameter = 0,
): undefined {
  const source = sourceFor(ingress, word(sim.work, 10))
  sim.seeIpSrc(32)
  if (source === undefined || !maySendError(sim)) return sim.drop(reason)
  sim.consumed = true
  sim.effects.push({
    kind: 'icmpError',
    port: ingress,
    changes: sim.changes(sim.entered),
    type,
    code,
    source,
    parameter,
    reason,
  })
  return sim.drop(reason)
}

/** Neither about an ICMP error nor about a later fragment. Odd addresses were dropped before. */
function maySendError(sim: Simulation): boolean {
  const { work } = sim
  sim.seeFragment()
  if (word(work, 9) >>> 24 === fragLater) return false
  sim.seeProtocol()
  if ((word(work, 9) & 0xff) !== protocols.icmp) return true
  sim.seeTpSrc()
  const type = word(work, 18) & 0xffff
  return type === 0 || type === 8 || type >= 13
}

/** Of the ingress port's addresses the one nearest to whom it writes. */
function sourceFor(port: VirtualRouterPort, address: number): number | undefined {
  const near = port.addresses.find((cidr) => contains(cidr, address))
  return (near ?? port.addresses[0])?.address
}

/** First octets 0, 127 and 224 upward: this network, loopback, multicast, reserved, broadcast. */
function isMartian(octet: number): boolean {
  return octet === 0 || octet === 127 || octet >= 224
}

function isDirectedBroadcast(port: VirtualRouterPort, address: number): boolean {
  for (const cidr of port.addresses) {
    if (cidr.prefixLength > 30) continue
    if (address === broadcastOf(cidr) || address === networkOf(cidr)) return true
  }
  return false
}

function hasAddress(port: VirtualRouterPort, address: number): boolean {
  for (const cidr of port.addresses) if (cidr.address === address) return true
  return false
}

/** Whether a port says that an address is its own: one of the load balancer's on the link too. */
function answersFor(port: VirtualRouterPort, address: number): boolean {
  if (hasAddress(port, address)) return true
  return port.router.balancer?.listens(address) === true && sharesLink(port, address)
}

function sharesLink(port: VirtualRouterPort, address: number): boolean {
  for (const cidr of port.addresses) if (contains(cidr, address)) return true
  return false
}

function describe(route: RouteEntry): string {
  return route.id.startsWith('connected:') ? 'destination is on the link' : `route ${route.id}`
}
