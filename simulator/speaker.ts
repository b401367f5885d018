/**
 * The end of a router port where a routing daemon speaks in the router's name. It has the port's
 * MAC and IP addresses in a namespace of its own, behind a vport that belongs to no port:
 *
 *   peer ── vport of the port ═ router port ─ router
 *                 ▲ │ BGP and BFD of peers to the port's own address, ARP replies
 *                 │ ▼
 *          vport of the speaker ── daemon
 *
 * Both ways pass no chain: whoever configures a peer wants to hear it. Nothing else reaches the
 * daemon, and what it sends leaves by the port as it is.
 */
import type { Action } from '../packet/action.ts'
import { fields, fragLater } from '../packet/flow-key.ts'
import type { Distinguisher } from './distinguisher.ts'
import { joinMac } from './mac-table.ts'
import { exitPort, type VirtualPort } from './port.ts'
import type { VirtualRouterPort } from './router.ts'
import { type Simulation, word } from './simulation.ts'

export interface Speaker {
  /** Addresses of the peers on the port's network, as signed numbers. */
  readonly peers: ReadonlySet<number>
  /** The port's own addresses. */
  readonly own: Distinguisher
  /** 0 while the daemon's link is not there. */
  vport: number
  /** Sends to the daemon. */
  output: Action | undefined
}

const etherTypes = { ipv4: 0x0800, arp: 0x0806 } as const
const protocols = { tcp: 6, udp: 17 } as const
const arpReply = 2
const bgp = 179
/** RFC 5881 (control, echo), RFC 5883 (over several hops). */
const bfdPorts: readonly number[] = [3784, 3785, 4784]

/** Whether a packet that comes in by the port is the daemon's alone; an ARP reply is not. */
export function takesSpeech(sim: Simulation, port: VirtualRouterPort, speaker: Speaker): boolean {
  const { work } = sim
  const { output } = speaker
  if (output === undefined || !port.adminUp || !port.router.adminUp) return false
  sim.seeEthDst()
  if (work[3] !== port.macHigh || work[4] !== port.macLow) return false
  sim.seeEthType()
  if (work[7] !== 0) return false
  if (work[8] === etherTypes.arp) {
    sim.see(fields.arpOp)
    if (word(work, 19) >>> 16 !== arpReply) return false
    sim.see(fields.ipSrc)
    // The router learns from it as well.
    if (speaker.peers.has(word(work, 10) | 0)) sim.output(output)
    return false
  }
  if (work[8] !== etherTypes.ipv4 || !isSpeech(sim, speaker)) return false
  sim.story?.push(`port ${port.id}: sent to the routing daemon, vport ${speaker.vport}`)
  sim.output(output)
  return true
}

function isSpeech(sim: Simulation, { own, peers }: Speaker): boolean {
  const { work } = sim
  const bits = own.bitsFor(word(work, 14))
  sim.seeIpDst(bits)
  if (bits < 32 || !own.has(word(work, 14))) return false
  sim.seeIpSrc(32)
  if (!peers.has(word(work, 10) | 0)) return false
  sim.seeProtocol()
  sim.seeFragment()
  if (word(work, 9) >>> 24 === fragLater) return false
  const protocol = word(work, 9) & 0xff
  if (protocol !== protocols.tcp && protocol !== protocols.udp) return false
  sim.seeTpSrc()
  sim.seeTpDst()
  const [src, dst] = [word(work, 18) & 0xffff, word(work, 18) >>> 16]
  return protocol === protocols.tcp ? src === bgp || dst === bgp : bfdPorts.includes(dst)
}

/** Takes what the daemon sends out of its port. Returns where it goes on, if it does. */
export function speak(sim: Simulation, port: VirtualRouterPort): VirtualPort | undefined {
  const { work } = sim
  sim.tag(port.tag)
  if (!port.adminUp || !port.router.adminUp) return sim.drop('router or its port is down')
  sim.seeEthSrc()
  if (joinMac(word(work, 5), word(work, 6)) !== port.mac)
    return sim.drop('the routing daemon uses another MAC address')
  sim.seeEthType()
  const isUntagged = word(work, 7) === 0
  if (!isUntagged || (work[8] !== etherTypes.ipv4 && work[8] !== etherTypes.arp))
    return sim.drop('the routing daemon speaks IPv4 only')
  sim.story?.push(`port ${port.id}: the routing daemon sends`)
  return exitPort(sim, port)
}
