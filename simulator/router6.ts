/**
 * The virtual router, for IPv6: takes part in neighbour discovery (discovery6.ts), routes,
 * decrements the hop limit, finds the next hop's MAC address and answers with the ICMPv6 errors
 * that RFC 4443 asks for.
 *
 * Link-local packets stay on their link. Groups are not routed.
 */
import { addressOf6, isLinkLocal6, type Words6 } from '../packet/address6.ts'
import { fragLater, fragNone } from '../packet/flow-key.ts'
import { isDiscovery, simulateDiscovery } from './discovery6.ts'
import { enterDevice, leaveDevice } from './filter.ts'
import { fitsLink, linkMtu } from './link-mtu.ts'
import { resolveNextHop6 } from './neighbor.ts'
import type { RouteEntry6 } from './route-table6.ts'
import type { VirtualRouterPort } from './router.ts'
import { hasAddress6, sourceFor6 } from './router-port6.ts'
import { type Simulation, word } from './simulation.ts'
import { neighborTag } from './tag.ts'

const protocols = { tcp: 6, udp: 17, fragment: 44, icmp: 58, none: 59 } as const
const tcpRst = 0x04
const echoRequest = 128

/** ICMPv6 types, and codes of "unreachable": RFC 4443 section 3. */
const icmp = {
  unreachable: 1,
  tooBig: 2,
  timeExceeded: 3,
  parameterProblem: 4,
  noRoute: 0,
  prohibited: 1,
  beyondScope: 2,
  address: 3,
  port: 4,
  rejected: 6,
  unknownHeader: 1,
} as const

/** Takes an IPv6 packet in at a port; its MAC addresses and EtherType are seen. */
export function simulateIpv6(
  sim: Simulation,
  ingress: VirtualRouterPort,
): VirtualRouterPort | undefined {
  const { work } = sim
  if (ingress.six === undefined) return sim.drop('router port speaks no IPv6')
  if ((word(work, 3) & 0x100) !== 0) {
    if (work[3] !== 0x3333) return sim.drop('router takes no IPv6 but to its groups')
  } else if (work[3] !== ingress.macHigh || work[4] !== ingress.macLow)
    return sim.drop('frame is for another MAC address')
  if (isDiscovery(sim)) return simulateDiscovery(sim, ingress)
  if (work[3] === 0x3333) return sim.drop('router forwards no multicast')
  if (isMartian(sim, 10, seeSrc)) return sim.drop('source address cannot be routed')
  if (isMartian(sim, 14, seeDst)) return sim.drop('destination address cannot be routed')
  const { router } = ingress
  if (!router.adminUp) return prohibit(sim, ingress, 'router is down')
  if (!ingress.adminUp) return prohibit(sim, ingress, 'router port is down')
  if (!enterDevice(sim, router)) return undefined
  sim.seeIpv6Dst(16)
  if (isLinkLocal6(word(sim.work, 14))) {
    sim.seeIpv6Dst(128)
    if (hasAddress6(ingress, addressAt(sim, 14))) return simulateLocal(sim, ingress)
    return sim.drop('link-local destination is not on this port')
  }
  const route = router.routes6.lookup(sim.work, sim)
  if (route === undefined) return error(sim, ingress, icmp.unreachable, icmp.noRoute, 'no route')
  switch (route.action) {
    case 'blackhole':
      return sim.drop('blackhole route')
    case 'reject':
      return error(sim, ingress, icmp.unreachable, icmp.rejected, 'reject route')
    case 'local':
      return simulateLocal(sim, ingress)
    case 'port':
      return forward(sim, ingress, route)
  }
}

function forward(
  sim: Simulation,
  ingress: VirtualRouterPort,
  route: RouteEntry6,
): VirtualRouterPort | undefined {
  const { work } = sim
  const { router } = ingress
  const egress = route.port
  if (egress?.six === undefined)
    return error(sim, ingress, icmp.unreachable, icmp.noRoute, 'route has no port for IPv6')
  sim.seeIpv6Src(16)
  if (isLinkLocal6(word(work, 10))) {
    const reason = 'link-local source stays on its link'
    return error(sim, ingress, icmp.unreachable, icmp.beyondScope, reason)
  }
  sim.seeTtl()
  const hopLimit = (word(work, 9) >>> 16) & 0xff
  if (hopLimit <= 1) return error(sim, ingress, icmp.timeExceeded, 0, 'hop limit is used up')
  if (route.gateway === undefined) sim.seeIpv6Dst(128)
  const address = route.gateway ?? addressAt(sim, 14)
  if (!fitsLink(sim, ingress, egress, false)) {
    const reason = 'packet is too big for the next link'
    return error(sim, ingress, icmp.tooBig, 0, reason, linkMtu(egress))
  }
  if (!leaveDevice(sim, router, egress)) {
    // Rules may have asked what port it would leave by.
    sim.tag(egress.tag)
    return undefined
  }
  const hop = resolveNextHop6(egress, address)
  if (hop === undefined) return waitForNeighbor(sim, ingress, egress, address)
  sim.tag(hop.tag)
  sim.story?.push(`router ${router.name}: ${describe(route)}, out of port ${egress.id}`)
  sim.rewriteTtl(hopLimit - 1)
  sim.rewriteEth(hop.action, hop.words)
  return egress
}

function waitForNeighbor(
  sim: Simulation,
  ingress: VirtualRouterPort,
  egress: VirtualRouterPort,
  address: Words6,
): undefined {
  const tag = neighborTag(egress.id, address)
  if (sim.unreachable?.tag === tag) {
    const reason = 'next hop does not answer neighbour discovery'
    return error(sim, ingress, icmp.unreachable, icmp.address, reason)
  }
  sim.missing = { port: egress, address, tag }
  sim.story?.push(`router ${ingress.router.name}: waits for the next hop to answer`)
  return undefined
}

/** A packet for one of the router's own addresses. */
function simulateLocal(sim: Simulation, ingress: VirtualRouterPort): undefined {
  const { work } = sim
  sim.seeIpv6Dst(128)
  sim.seeProtocol()
  sim.seeFragment()
  if (word(work, 9) >>> 24 !== fragNone) return sim.drop('router does not reassemble fragments')
  const protocol = word(work, 9) & 0xff
  const reason = 'router serves nothing on this address'
  switch (protocol) {
    case protocols.tcp:
      sim.seeBits(19, tcpRst)
      if ((word(work, 19) & tcpRst) !== 0) return sim.drop('router has no such connection')
      return sim.refuse(ingress, reason)
    case protocols.udp:
      return errorFrom(sim, ingress, icmp.unreachable, icmp.port, reason, addressAt(sim, 14))
    case protocols.icmp:
      break
    case protocols.none:
      return sim.drop(reason)
    default: {
      const [type, code] = [icmp.parameterProblem, icmp.unknownHeader]
      return errorFrom(sim, ingress, type, code, reason, addressAt(sim, 14))
    }
  }
  sim.seeTpSrc()
  sim.seeTpDst()
  if (work[18] !== echoRequest) return sim.drop('ICMP message needs no answer')
  sim.effects.push({ kind: 'echo', port: ingress, changes: sim.changes(sim.entered) })
  return sim.consume('echo request is answered')
}

function prohibit(sim: Simulation, ingress: VirtualRouterPort, reason: string): undefined {
  return error(sim, ingress, icmp.unreachable, icmp.prohibited, reason)
}

/** Drops the packet and tells its sender, from the address of the port nearest to it. */
function error(
  sim: Simulation,
  ingress: VirtualRouterPort,
  type: number,
  code: number,
  reason: string,
  parameter = 0,
): undefined {
  sim.seeIpv6Src(128)
  const source = sourceFor6(ingress, addressAt(sim, 10))
  if (source === undefined) return sim.drop(reason)
  return errorFrom(sim, ingress, type, code, reason, source.words, parameter)
}

function errorFrom(
  sim: Simulation,
  ingress: VirtualRouterPort,
  type: number,
  code: number,
  reason: string,
  source: Words6,
  parameter = 0,
): undefined {
  if (!maySendError(sim)) return sim.drop(reason)
  sim.consumed = true
  sim.effects.push({
    kind: 'icmp6Error',
    port: ingress,
    changes: sim.changes(sim.entered),
    type,
    code,
    source: addressOf6(source),
    parameter,
    reason,
  })
  return sim.drop(reason)
}

/** Neither about an ICMPv6 error or redirect, nor about a later fragment, which may be of one. */
function maySendError(sim: Simulation): boolean {
  const { work } = sim
  sim.seeFragment()
  if (word(work, 9) >>> 24 === fragLater) return false
  if ((word(work, 9) & 0xff) !== protocols.icmp) return true
  sim.seeTpSrc()
  const type = word(work, 18) & 0xffff
  return type >= 128 && type !== 137
}

type See = (sim: Simulation, bits: number) => void
const seeSrc: See = (sim, bits) => sim.seeIpv6Src(bits)
const seeDst: See = (sim, bits) => sim.seeIpv6Dst(bits)

/** Groups, and the first 32 bits 0: nobody, loopback, IPv4 addresses in IPv6 clothes. */
function isMartian(sim: Simulation, at: 10 | 14, see: See): boolean {
  see(sim, 8)
  const first = word(sim.work, at)
  if (first >>> 24 === 0xff) return true
  if (first >>> 24 !== 0) return false
  see(sim, 32)
  return first === 0
}

function addressAt({ work }: Simulation, at: 10 | 14): Words6 {
  return [word(work, at), word(work, at + 1), word(work, at + 2), word(work, at + 3)]
}

function describe(route: RouteEntry6): string {
  return route.id.startsWith('connected6:') ? 'destination is on the link' : `route ${route.id}`
}
