/**
 * Where chains stand on a packet's way, each seeing it as changed so far:
 *
 *   port's inbound ─▶ device's inbound ─▶ device decides ─▶ device's outbound ─▶ port's outbound
 *
 * Frames with a VLAN tag pass them as others do. A bridge filters all frames, a router IP, but for
 * what finds neighbours.
 */
import { etherTypeIpv6, protoIcmp, protoIcmpv6, protoTcp } from '../packet/extract.ts'
import { isIcmpErrorType } from '../packet/icmp.ts'
import type { VirtualBridge } from './bridge.ts'
import { runChain } from './chain.ts'
import { isIp } from './condition.ts'
import { type MirrorPoints, mirrorAt } from './mirror.ts'
import type { Zone } from './passage.ts'
import type { VirtualChain } from './policy.ts'
import type { VirtualPort } from './port.ts'
import { type Simulation, word } from './simulation.ts'
import { isVlanAware } from './vlan.ts'

/** What has chains: a port, a bridge, a router. */
export interface Filtered {
  inbound: VirtualChain | undefined
  outbound: VirtualChain | undefined
  /** Undefined rather than empty, so that nobody who mirrors nothing looks. */
  mirrors: MirrorPoints | undefined
  readonly zone: Zone
}

/** A port's inbound chain. False when the packet ends there, here and below. */
export function passIn(sim: Simulation, port: VirtualPort, chain: VirtualChain): boolean {
  sim.passage.frame.isChanged = false
  return passPort(sim, port, chain)
}

/** A port's outbound chain. */
export function passOut(sim: Simulation, port: VirtualPort, chain: VirtualChain): boolean {
  return passPort(sim, port, chain)
}

function passPort(sim: Simulation, port: VirtualPort, chain: VirtualChain): boolean {
  const zone = port.kind === 'bridge' ? vlanZone(sim, port.zone, port.bridge) : port.zone
  sim.passage.begin(zone, sim.work)
  return run(sim, chain) && sim.passage.end(sim)
}

/** The zone of the frame's VLAN, where the bridge tells VLANs apart. */
export function vlanZone(sim: Simulation, zone: Zone, bridge: VirtualBridge): Zone {
  if (!isVlanAware(bridge)) return zone
  sim.seeVlan()
  return zone.zones.inVlan(zone, word(sim.work, 7) & 0xfff)
}

/** A device's inbound chain; `zone` is where it tells connections apart. */
export function enterDevice(sim: Simulation, device: Filtered, zone = device.zone): boolean {
  if (device.mirrors !== undefined) mirrorAt(sim, device, 'preIn')
  if (device.inbound !== undefined || device.outbound !== undefined) {
    sim.passage.begin(zone, sim.work)
    if (device.inbound !== undefined && !run(sim, device.inbound)) return false
  }
  if (device.mirrors !== undefined) mirrorAt(sim, device, 'postIn')
  return true
}

/** A device's outbound chain; `egress` undefined when copies leave by several ports. */
export function leaveDevice(
  sim: Simulation,
  device: Filtered,
  egress: VirtualPort | undefined,
): boolean {
  sim.passage.frame.outPort = egress
  if (device.mirrors !== undefined) mirrorAt(sim, device, 'preOut')
  if (device.inbound !== undefined || device.outbound !== undefined) {
    if (device.outbound !== undefined && !run(sim, device.outbound)) return false
    if (!sim.passage.end(sim)) return false
  }
  if (device.mirrors !== undefined) mirrorAt(sim, device, 'postOut')
  return true
}

function run(sim: Simulation, chain: VirtualChain): boolean {
  switch (runChain(sim, chain)) {
    case 'accept':
      return isClear(sim)
    case 'redirect':
      // It has passed the chain, and its connection is remembered; the walk goes on elsewhere.
      if (!isClear(sim) || !sim.passage.end(sim)) sim.redirection.port = undefined
      return false
    case 'drop':
      return false
    case 'reject':
      refuse(sim)
      return false
  }
}

/** Whether rules could see all that they asked for. */
function isClear(sim: Simulation): boolean {
  if (!sim.passage.isHidden) return true
  sim.drop('extension headers hide what rules ask for')
  return false
}

/** Drops the packet and tells its sender, where that makes sense. */
function refuse(sim: Simulation): void {
  const { frame } = sim.passage
  if (frame.inPort === undefined || !mayAnswer(sim)) {
    sim.drop('a rule rejects it')
    return
  }
  sim.refuse(frame.inPort, 'a rule rejects it')
}

/** Not about resets, ICMP errors or later fragments, nor to groups: RFC 1812, 4.3.2.7; RFC 4443. */
function mayAnswer(sim: Simulation): boolean {
  const { work } = sim
  if (!isIp(sim)) return false
  sim.seeEthDst()
  if ((word(work, 3) & 0x100) !== 0) return false
  sim.seeFragment()
  if (word(work, 9) >>> 24 === 2) return false
  sim.seeProtocol()
  const protocol = word(work, 9) & 0xff
  if (protocol === protoTcp) {
    sim.seeBits(19, tcpRst)
    return (word(work, 19) & tcpRst) === 0
  }
  const isIpv6 = work[8] === etherTypeIpv6
  if (protocol !== (isIpv6 ? protoIcmpv6 : protoIcmp)) return true
  sim.seeTpSrc()
  const type = word(work, 18) & 0xffff
  // Nor about redirects and the rest of neighbour discovery, 133 to 137.
  return isIpv6 ? type >= 128 && (type < 133 || type > 137) : !isIcmpErrorType(type)
}

const tcpRst = 0x04
