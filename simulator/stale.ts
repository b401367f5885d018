/**
 * Frames of senders that have not heard yet that an address has moved: to a MAC address that a station
 * of the topology had and nobody has now, for an IP address that the topology says another station has.
 * They get that one's MAC address; Linux would ask for it after half a minute at best.
 */
import type { VirtualBridge } from './bridge.ts'
import { joinMac, type MacTable, macHigh, macLow } from './mac-table.ts'
import { type Simulation, word } from './simulation.ts'
import { addressTag } from './tag.ts'

const ethertypes = { ipv4: 0x0800, ipv6: 0x86dd } as const

type Found<T> = T extends MacTable<infer Entry> ? Entry : never

/** Where the frame in work belongs, which is readdressed; undefined when it is of no such sender. */
export function readdressStale(
  sim: Simulation,
  bridge: VirtualBridge,
): Found<VirtualBridge['macs']> | undefined {
  const { work } = sim
  const mac = ownerOf(sim, bridge)
  if (mac === undefined) return undefined
  const station = bridge.macs.find(macHigh(mac), macLow(mac))
  if (station === undefined) return undefined
  sim.story?.push(`bridge ${bridge.name}: the address has moved, the sender has not heard of it`)
  const src = joinMac(word(work, 5), word(work, 6))
  const words = Uint32Array.of(macHigh(mac), macLow(mac), word(work, 5), word(work, 6))
  sim.rewriteEth(Object.freeze({ kind: 'setEth', dst: mac, src }), words)
  return station
}

/** The MAC address that the topology gives for the packet's destination. */
function ownerOf(sim: Simulation, bridge: VirtualBridge): number | undefined {
  const { work } = sim
  sim.seeEthType()
  // A bridge knows addresses of untagged frames only.
  if (work[7] !== 0) return undefined
  if (work[8] === ethertypes.ipv4) {
    sim.seeIpDst(32)
    const address = word(work, 14)
    const entry = bridge.addresses.get(address | 0)
    sim.tag(entry?.tag ?? addressTag(bridge.id, address))
    return entry?.learned === false ? entry.mac : undefined
  }
  if (work[8] !== ethertypes.ipv6) return undefined
  sim.seeIpv6Dst(128)
  const words = [word(work, 14), word(work, 15), word(work, 16), word(work, 17)] as const
  const entry = bridge.addresses6.get(words)
  sim.tag(entry?.tag ?? addressTag(bridge.id, words))
  return entry?.mac
}
