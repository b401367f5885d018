/**
 * The virtual bridge: a learning switch that knows most stations from the topology.
 *
 * It reads MAC addresses and, of broadcasts, ARP; of multicasts, neighbour solicitations. What it
 * does with tags is in vlan.ts. An ARP request for an address that it knows is turned into the reply
 * and sent back; as that is a flow like any other, the kernel goes on answering while the agent is
 * dead. Solicitations for addresses that it knows are answered in bridge6.ts.
 */

import { fields } from '../packet/flow-key.ts'
import type { QosPolicy } from '../topology/model.ts'
import type { AddressTable } from './address-table.ts'
import { simulateSolicitation } from './bridge6.ts'
import { type DhcpService, dhcpServerMac } from './dhcp.ts'
import type { Filtered } from './filter.ts'
import { joinMac, type MacTable } from './mac-table.ts'
import { isActive, type VirtualBridgePort } from './port.ts'
import type { VirtualRouterPort } from './router.ts'
import { type Simulation, word } from './simulation.ts'
import { readdressStale } from './stale.ts'
import { addressTag, macTag, type Tag } from './tag.ts'
import type { VirtualTrace } from './trace-request.ts'
import { floodScope, isCarried, isLinkLocal, isReached, vlanOf } from './vlan.ts'

/** Where a MAC address is. */
export interface MacEntry {
  readonly mac: number
  /** Where the bridge tells VLANs apart; 0 for untagged frames. */
  readonly vlan: number
  readonly port: VirtualBridgePort
  /** While it is learned; what is known from the topology rests on its port. */
  readonly tag: Tag
  /** Seen as a source, rather than known from the topology: it ages. */
  readonly learned: boolean
  lastSeenMs: number
  /** IPv4 addresses learned to be its: forgotten with it. */
  readonly addresses: number[]
}

/** Who has an IPv4 address. */
export interface AddressEntry {
  readonly mac: number
  readonly tag: Tag
  /** From a gratuitous ARP, rather than known from the topology. */
  readonly learned: boolean
}

/** Who has an IPv6 address; from the topology. */
export interface AddressEntry6 {
  readonly mac: number
  readonly tag: Tag
  readonly isRouter: boolean
}

export interface VirtualBridge extends Filtered {
  readonly id: string
  name: string
  adminUp: boolean
  readonly floodTag: Tag
  /** Ordered by id, so that floods always have the same order. */
  readonly ports: VirtualBridgePort[]
  /** How many of them have a VLAN: with any it is VLAN-aware. */
  accessPorts: number
  /** The router ports linked to this bridge: they take next hops from `addresses`. */
  readonly routerPorts: Set<VirtualRouterPort>
  readonly macs: MacTable<MacEntry>
  learnedMacs: number
  /** MAC addresses that stations of the topology had, in the order in which they were lost. */
  readonly formerMacs: Set<number>
  /** By address as a signed number, which a Map takes without boxing it. */
  readonly addresses: Map<number, AddressEntry>
  readonly addresses6: AddressTable<AddressEntry6>
  /** How many of these end in each 24 bits: by them neighbour discovery forms its groups. */
  readonly solicited: Map<number, number>
  dhcp: DhcpService | undefined
  /** Of ports that have none. */
  qos: QosPolicy | undefined
  /** The largest IP packet of its links; 0 when nobody says. */
  mtu: number
  traces: readonly VirtualTrace[] | undefined
}

/** The frame goes out of all ports but the one it came in by. */
export const flood = { kind: 'flood' } as const

const ethertypeArp = 0x0806
const arpRequest = 1

/**
 * Takes a frame in at port `ingress`. Says which port it leaves by; undefined when it ends here.
 * For the caller to tag: where it goes to a port, that port, as for all that goes out.
 */
export function simulateBridge(
  sim: Simulation,
  ingress: VirtualBridgePort,
): VirtualBridgePort | typeof flood | undefined {
  const { bridge } = ingress
  const { work } = sim
  sim.seeEthSrc()
  if (isGroup(word(work, 5))) return sim.drop('source is a group address')
  sim.seeEthDst()
  // Before the source is learned: a port that spanning trees block sends these, and nothing else.
  if (isLinkLocal(sim)) return simulateLinkLocal(sim, ingress)
  const vlan = vlanOf(sim, bridge)
  noteSource(sim, ingress, vlan)

  if (isGroup(word(work, 3))) {
    if (isBroadcast(sim)) return simulateBroadcast(sim, bridge, ingress)
    if (work[3] === 0x3333 && word(work, 4) >>> 24 === 0xff)
      return simulateSolicitation(sim, ingress)
    sim.story?.push(`bridge ${bridge.name}: multicast goes to all ports`)
    return flood
  }
  let entry = bridge.macs.find(vlan * 0x1_0000 + word(work, 3), word(work, 4))
  if (entry === undefined) {
    // The flood must end once the address is known.
    const mac = joinMac(word(work, 3), word(work, 4))
    sim.tag(macTag(bridge.id, mac, vlan))
    if (vlan === 0 && bridge.formerMacs.has(mac)) entry = readdressStale(sim, bridge)
  }
  if (entry === undefined) {
    sim.story?.push(`bridge ${bridge.name}: destination is unknown, so it goes to all ports`)
    return flood
  }
  if (entry.learned) sim.tag(entry.tag)
  if (entry.port === ingress) return sim.drop('destination is behind the ingress port')
  sim.story?.push(`bridge ${bridge.name}: destination is behind port ${entry.port.id}`)
  return entry.port
}

/**
 * Sends a frame to the exterior ports of a flood that this host has; the caller walks on to the
 * interior ones. `ingress` is undefined for a flood that another host began.
 * `depart` takes a copy out by a port that does something with it.
 */
export function floodExterior(
  sim: Simulation,
  bridge: VirtualBridge,
  ingress: VirtualBridgePort | undefined,
  depart: (sim: Simulation, port: VirtualBridgePort) => void,
): void {
  sim.tag(bridge.floodTag)
  const scope = floodScope(sim, bridge)
  for (const port of bridge.ports) {
    if (port === ingress || port.output === undefined || !isActive(port)) continue
    if (!isReached(port, scope)) continue
    if (port.outbound !== undefined || port.vlan !== 0 || port.mirrors !== undefined) {
      const { devices } = sim
      sim.save()
      depart(sim, port)
      if (sim.looped || sim.missing !== undefined) return
      sim.restore(devices)
      continue
    }
    sim.story?.push(`port ${port.id}: sent out of vport ${port.vport}`)
    sim.output(port.output)
  }
}

/** Of frames that are not for bridges to pass on, only those of spanning trees go, over trunks. */
function simulateLinkLocal(sim: Simulation, ingress: VirtualBridgePort): typeof flood | undefined {
  if (!isCarried(sim, ingress)) return sim.drop('frame is for the link alone')
  sim.story?.push(`bridge ${ingress.bridge.name}: spanning-tree frame goes to all other trunks`)
  return flood
}

/**
 * Notes who sent the frame. The tag also lies on flows *from* an address: when it has moved, the
 * next frame from its old place must come to the agent again, to be learned there again.
 */
function noteSource(sim: Simulation, ingress: VirtualBridgePort, vlan: number): void {
  const { bridge } = ingress
  const high = word(sim.work, 5)
  const low = word(sim.work, 6)
  const entry = bridge.macs.find(vlan * 0x1_0000 + high, low)
  if (entry === undefined) {
    const mac = joinMac(high, low)
    sim.tag(macTag(bridge.id, mac, vlan))
    sim.effects.push({ kind: 'learnMac', port: ingress, mac, vlan })
    return
  }
  // The walk rests on the ingress port already.
  if (!entry.learned && entry.port === ingress) return
  sim.tag(placeTag(entry))
  if (!entry.learned) return
  if (entry.port === ingress) sim.sources.push(entry)
  else sim.effects.push({ kind: 'learnMac', port: ingress, mac: entry.mac, vlan })
}

function simulateBroadcast(
  sim: Simulation,
  bridge: VirtualBridge,
  ingress: VirtualBridgePort,
): VirtualBridgePort | typeof flood | undefined {
  const { work } = sim
  sim.seeEthType()
  if (work[7] !== 0 || work[8] !== ethertypeArp) {
    sim.story?.push(`bridge ${bridge.name}: broadcast goes to all ports`)
    return flood
  }
  sim.see(fields.arpOp)
  sim.see(fields.ipSrc)
  sim.see(fields.ipDst)
  if (work[10] === work[14]) return simulateGratuitousArp(sim, bridge, ingress)
  if (word(work, 19) >>> 16 !== arpRequest) return flood
  return answerArp(sim, bridge, ingress)
}

/** A station tells its address, for others to renew theirs. The topology knows better if it knows. */
function simulateGratuitousArp(
  sim: Simulation,
  bridge: VirtualBridge,
  ingress: VirtualBridgePort,
): typeof flood {
  const { work } = sim
  const address = word(work, 10)
  const entry = bridge.addresses.get(address | 0)
  sim.tag(entry?.tag ?? addressTag(bridge.id, address))
  sim.see(fields.arpSha)
  const mac = joinMac(word(work, 11) & 0xffff, word(work, 12))
  const honest = work[11] === work[5] && work[12] === work[6]
  if (honest && address !== 0 && (entry === undefined || (entry.learned && entry.mac !== mac)))
    sim.effects.push({ kind: 'learnAddress', port: ingress, address, mac })
  sim.story?.push(`bridge ${bridge.name}: gratuitous ARP goes to all ports`)
  return flood
}

function answerArp(
  sim: Simulation,
  bridge: VirtualBridge,
  ingress: VirtualBridgePort,
): VirtualBridgePort | typeof flood {
  const { work } = sim
  const address = word(work, 14)
  const entry = bridge.addresses.get(address | 0)
  sim.tag(entry?.tag ?? addressTag(bridge.id, address))
  if (entry === undefined && bridge.dhcp?.servers.includes(address) === true) {
    sim.story?.push(`bridge ${bridge.name}: answers the ARP request for its DHCP server`)
    sim.rewriteToArpReply(dhcpServerMac)
    return ingress
  }
  if (entry === undefined) {
    sim.story?.push(`bridge ${bridge.name}: ARP for an unknown address goes to all ports`)
    return flood
  }
  // A probe for one's own address must stay without an answer, or one would give it up.
  sim.see(fields.arpSha)
  const asker = joinMac(word(work, 11) & 0xffff, word(work, 12))
  if (entry.mac === asker) return flood
  sim.story?.push(`bridge ${bridge.name}: answers the ARP request from what it knows`)
  sim.rewriteToArpReply(entry.mac)
  return ingress
}

/** The tag of where a MAC address is. */
export function placeTag({ learned, port, tag }: MacEntry): Tag {
  return learned ? tag : port.tag
}

function isGroup(high: number): boolean {
  return (high & 0x100) !== 0
}

function isBroadcast(sim: Simulation): boolean {
  return sim.work[3] === 0xffff && sim.work[4] === 0xffff_ffff
}
