/**
 * DHCP of a bridge, at the exterior port where a client is: before the port's chains, so that these
 * need not let it through. A client that no subnet knows gets no answer from here; what it sends
 * goes on as any broadcast does, to a server of its own if the network has one.
 *
 * Few flows pay for it with their masks: broadcasts, and what is sent to a server's MAC address as
 * far as the IP address goes that tells it from the server's.
 */
import type { DhcpLease } from '../packet/dhcp-reply.ts'
import { fragNone } from '../packet/flow-key.ts'
import type { VirtualBridge } from './bridge.ts'
import { joinMac, macHigh, macLow } from './mac-table.ts'
import type { VirtualBridgePort } from './port.ts'
import { type Simulation, word } from './simulation.ts'
import { addressTag, dhcpTag } from './tag.ts'

/** What a bridge that has subnets answers. */
export interface DhcpService {
  /** Servers' addresses as numbers. */
  readonly servers: readonly number[]
  /** By MAC address. */
  readonly leases: Map<number, DhcpLease>
}

/** Of servers whose address no router has. */
export const dhcpServerMac = 0x02a8_9cde_3927

const etherTypeIpv4 = 0x0800
const protocolUdp = 17
/** Destination 67 and source 68, as the key has them. */
const portsOfClient = (67 << 16) | 68

/** Whether the packet is a client's that this bridge knows: then it is taken. */
export function takesDhcp(sim: Simulation, port: VirtualBridgePort, service: DhcpService): boolean {
  const { bridge } = port
  const { work } = sim
  if (!port.adminUp || !bridge.adminUp) return false
  if (!isForServer(sim, bridge, service)) return false
  sim.seeProtocol()
  sim.seeFragment()
  if ((word(work, 9) & 0xff) !== protocolUdp || word(work, 9) >>> 24 !== fragNone) return false
  sim.seeTpSrc()
  sim.seeTpDst()
  if (word(work, 18) !== portsOfClient) return false
  sim.seeEthSrc()
  const mac = joinMac(word(work, 5), word(work, 6))
  sim.tag(dhcpTag(bridge.id, mac))
  const lease = service.leases.get(mac)
  if (lease === undefined) {
    sim.story?.push(`bridge ${bridge.name}: no DHCP host has the source's MAC address`)
    return false
  }
  sim.effects.push({ kind: 'dhcp', port, lease, serverMac: serverMacOf(sim, bridge, lease.server) })
  sim.consume('DHCP message is answered')
  return true
}

/** Whether it is untagged IPv4 to a server or to all. */
function isForServer(sim: Simulation, bridge: VirtualBridge, { servers }: DhcpService): boolean {
  const { work } = sim
  sim.seeEthDst()
  const isBroadcast = work[3] === 0xffff && work[4] === 0xffff_ffff
  let found = isBroadcast
  for (const server of isBroadcast ? [] : servers) {
    const mac = serverMacOf(sim, bridge, server)
    if (work[3] !== macHigh(mac) || work[4] !== macLow(mac)) continue
    sim.seeEthType()
    if (work[7] !== 0 || work[8] !== etherTypeIpv4) return false
    const difference = word(work, 14) ^ server
    sim.seeIpDst(Math.min(32, Math.clz32(difference) + 1))
    found ||= difference === 0
  }
  if (!found) return false
  sim.seeEthType()
  return work[7] === 0 && work[8] === etherTypeIpv4
}

function serverMacOf(sim: Simulation, bridge: VirtualBridge, server: number): number {
  const entry = bridge.addresses.get(server | 0)
  sim.tag(entry?.tag ?? addressTag(bridge.id, server))
  return entry?.mac ?? dhcpServerMac
}
