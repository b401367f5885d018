import type { Way } from './peers.ts'
import type { VirtualPort } from './port.ts'
import type { VirtualRouterPort } from './router.ts'
import type { Simulation } from './simulation.ts'

/** A VLAN tag goes through a tunnel within the frame. */
const tagSize = 4

/** The largest IP packet of the link behind a router's port; 0 when nobody says. */
export function linkMtu({ mtu, peer }: VirtualRouterPort): number {
  if (mtu !== 0) return mtu
  if (peer === undefined) return 0
  return peer.kind === 'bridge' ? peer.bridge.mtu : peer.mtu
}

/**
 * Whether a packet may leave by `egress`, as far as its length goes. When it may not, the caller
 * tells its sender the MTU of the link. `mayCut` when the packet may be cut on its way (IPv4
 * without DF).
 */
export function fitsLink(
  sim: Simulation,
  ingress: VirtualRouterPort,
  egress: VirtualRouterPort,
  mayCut: boolean,
): boolean {
  const mtu = linkMtu(egress)
  if (mtu === 0) return true
  const from = linkMtu(ingress)
  if (from !== 0 && from <= mtu) return true
  if (sim.length > mtu) {
    if (!mayCut) return false
    sim.story?.push(`router ${egress.router.name}: cut into fragments for an MTU of ${mtu}`)
  }
  if (sim.pathMtu === 0 || mtu < sim.pathMtu) sim.pathMtu = mtu
  return true
}

/**
 * Whether a packet may go to another host that has `port`, as far as its length goes. When it may
 * not, its sender is told.
 */
export function fitsWay(sim: Simulation, port: VirtualPort, { host, mtu }: Way): boolean {
  const promised = port.kind === 'bridge' ? port.bridge.mtu : port.mtu
  if (mtu === 0 || (promised !== 0 && promised <= mtu - tagSize)) return true
  sim.seeVlan()
  const lengthMax = sim.work[7] === 0 ? mtu : mtu - tagSize
  if (promised !== 0 && promised <= lengthMax) return true
  if (sim.length > lengthMax && !sim.mayCut) {
    const { inPort } = sim.passage.frame
    const reason = 'packet is too big for the way to another host'
    sim.story?.push(`host ${host}: the way there takes packets of up to ${lengthMax} bytes`)
    if (inPort === undefined || sim.consumed) sim.drop(reason)
    else sim.refuse(inPort, reason, lengthMax)
    return false
  }
  if (sim.lengthMax === 0 || lengthMax < sim.lengthMax) sim.lengthMax = lengthMax
  return true
}
