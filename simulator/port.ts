/**
 * A port: where packets enter and leave a device. Interior ports lead to their peer, exterior ones
 * to a vport of the datapath.
 */
import type { Action } from '../packet/action.ts'
import type { QosPolicy } from '../topology/model.ts'
import type { VirtualBridge } from './bridge.ts'
import { type Filtered, passOut } from './filter.ts'
import { fitsWay } from './link-mtu.ts'
import { mirrorAt } from './mirror.ts'
import type { RemotePort } from './peers.ts'
import type { VirtualRouterPort } from './router.ts'
import type { Simulation } from './simulation.ts'
import type { Tag } from './tag.ts'
import type { VirtualTrace } from './trace-request.ts'
import { leaveVlan } from './vlan.ts'

/** What ports of all devices have. */
export interface PortState extends Filtered {
  readonly id: string
  /** Linked ports share one: a walk over the link rests on both. */
  tag: Tag
  adminUp: boolean
  /** Of an interior port: the port it is linked to. */
  peer: VirtualPort | undefined
  /** Whether a binding, on whatever host, makes this port exterior. */
  bound: boolean
  /** Of a port that another host has. */
  remote: RemotePort | undefined
  /** Of an exterior port: its vport; 0 while it has none on this host. */
  vport: number
  /** Ids of the port groups it is in. */
  groups: ReadonlySet<string>
  /** Sends out of the vport. */
  output: Action | undefined
  qos: QosPolicy | undefined
  /** Limits what comes in, while the datapath has such a meter. */
  meter: Action | undefined
  /** Undefined rather than empty, so that nobody who traces nothing looks. */
  traces: readonly VirtualTrace[] | undefined
}

export interface VirtualBridgePort extends PortState {
  readonly kind: 'bridge'
  readonly bridge: VirtualBridge
  /** Of an access port; 0 of a trunk, and where the bridge tells no VLANs apart. */
  readonly vlan: number
}

export type VirtualPort = VirtualBridgePort | VirtualRouterPort

/** Whether what is sent to the port arrives anywhere. */
export function isActive(port: VirtualPort): boolean {
  return port.adminUp && (port.peer !== undefined || port.output !== undefined || isFar(port))
}

/**
 * Whether another host has it. A router's routes go by another port while that host's agent is
 * dead; stations on a bridge have no other place, and its kernel may well go on forwarding.
 */
function isFar({ kind, remote }: VirtualPort): boolean {
  return remote?.way !== undefined && (kind === 'bridge' || remote.isAlive)
}

/** Lets the packet out by a port. Returns the port where it enters the next device, if it does. */
export function leavePort(sim: Simulation, port: VirtualPort): VirtualPort | undefined {
  sim.tag(port.tag)
  if (!port.adminUp) return sim.drop('port is down')
  sim.passage.frame.outPort = port
  if (port.kind === 'bridge') leaveVlan(sim, port)
  // Its chain and its mirrors are the other host's.
  if (port.remote !== undefined) return exitPort(sim, port)
  if (port.mirrors !== undefined) mirrorAt(sim, port, 'preOut')
  if (port.outbound !== undefined && !passOut(sim, port, port.outbound)) return undefined
  return exitPort(sim, port)
}

/** The same past its filters. */
export function exitPort(sim: Simulation, port: VirtualPort): VirtualPort | undefined {
  if (port.remote !== undefined) return sendAway(sim, port, port.remote)
  if (port.mirrors !== undefined) mirrorAt(sim, port, 'postOut')
  if (port.peer !== undefined) {
    sim.story?.push(`port ${port.id}: linked to port ${port.peer.id}`)
    return port.peer
  }
  if (port.output === undefined)
    return sim.drop(port.bound ? 'port has no interface on this host' : 'port is not plugged in')
  sim.story?.push(`port ${port.id}: sent out of vport ${port.vport}`)
  sim.output(port.output)
  return undefined
}

function sendAway(sim: Simulation, port: VirtualPort, remote: RemotePort): undefined {
  const { id } = port
  const { host, key, tunnel, way } = remote
  if (tunnel === undefined || way === undefined)
    return sim.drop('port is on another host that no tunnel leads to')
  sim.story?.push(`port ${id}: out to host ${host} by tunnel key ${key}`)
  if (fitsWay(sim, port, way)) sim.send(host, tunnel, way.output)
  return undefined
}
