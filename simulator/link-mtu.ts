/**
 * Path MTU: what is too big for the link behind a router's port.
 *
 * A packet's length is no field of the flow key, so a simulation for a flow does not know it: it
 * notes the least MTU on the way, and the flow hands what is longer to the agent. The agent walks
 * such a packet again, by itself and with its length known: then the router that would have to
 * send it answers that it is too big, or lets it be cut where its sender allows that.
 *
 * The same goes for the way to another host, whose underlay may have a narrower link that cuts no
 * packet. No router is there to say so: it is said in the name of the packet's receiver.
 *
 * Where the link that a packet came in by carries nothing bigger than the one it leaves by, flows
 * ask nothing: a link's MTU is a promise of what comes in by it, too, and interfaces keep it.
 */
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
