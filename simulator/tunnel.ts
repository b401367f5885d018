/**
 * Packets to ports of other hosts, and from other hosts to ports of this one.
 *
 *   host A: port ▷ … ▷ bridge ─ header: key of p ═ tunnel ═ host B: p's chain ▷ p
 *
 * The sender decides all but what the port itself does: its chain and its mirrors are the
 * receiver's. A flood goes to each host once that has ports it reaches; the receiver copies it.
 */
import { floodExterior, type VirtualBridge } from './bridge.ts'
import { fitsWay } from './link-mtu.ts'
import { floodBit, type TunnelEnd } from './peers.ts'
import type { VirtualBridgePort, VirtualPort } from './port.ts'
import { type Simulation, word } from './simulation.ts'
import { tunnelKeyTag, tunnelSourceTag, vportTag } from './tag.ts'
import { noteTraces } from './trace-request.ts'
import { floodScope, isReached, isVlanAware } from './vlan.ts'

/** Finds what tunnels and their keys lead to. */
export interface TunnelFinder {
  tunnelOf(vport: number): TunnelEnd | undefined
  /** The port of this host that a key names. */
  portOfKey(key: number): VirtualPort | undefined
}

type Depart = (sim: Simulation, port: VirtualPort) => void

/** Sends one copy of a flood to each other host with ports that it reaches. */
export function floodPeers(sim: Simulation, ingress: VirtualBridgePort): void {
  const { bridge } = ingress
  const scope = floodScope(sim, bridge)
  let reached: Set<string> | undefined
  for (const port of bridge.ports) {
    const { remote } = port
    if (remote?.way === undefined || remote.flood === undefined) continue
    if (!port.adminUp || port.peer !== undefined || !isReached(port, scope)) continue
    reached ??= new Set()
    if (reached.has(remote.host)) continue
    reached.add(remote.host)
    sim.story?.push(`bridge ${bridge.name}: out to host ${remote.host}, for all ports it has there`)
    if (fitsWay(sim, port, remote.way)) sim.send(remote.host, remote.flood, remote.way.output)
  }
}

/** Sends something that each host tells its own stations. */
export function stayHere(sim: Simulation, send: () => unknown): void {
  sim.staysHere = true
  try {
    send()
  } finally {
    sim.staysHere = false
  }
}

/** Takes a packet out of a tunnel. False when the vport is no tunnel's. */
export function emerge(sim: Simulation, tunnels: TunnelFinder, depart: Depart): boolean {
  const vport = word(sim.key, 0)
  const tunnel = tunnels.tunnelOf(vport)
  if (tunnel === undefined) return false
  sim.tag(vportTag(vport))
  sim.seeTunnel()
  const [id, source] = [word(sim.key, 1), word(sim.key, 2)]
  const host = tunnel.hosts.get(source)
  sim.tag(tunnelSourceTag(tunnel.name, source))
  if (host === undefined) {
    sim.drop('the tunnel comes from no member of the zone')
    return true
  }
  const key = (id & ~floodBit) >>> 0
  const port = tunnels.portOfKey(key)
  sim.tag(tunnelKeyTag(key))
  if (port === undefined) sim.drop('the tunnel key names no port of this host')
  else if (id === key) {
    sim.story?.push(`from host ${host} by tunnel key ${key}: for port ${port.id}`)
    traceArrival(sim, port)
    depart(sim, port)
  } else if (port.kind !== 'bridge') sim.drop('a flood for a port that is on no bridge')
  else {
    sim.story?.push(`from host ${host}: for all ports of bridge ${port.bridge.name} here`)
    sim.tag(port.tag)
    if (port.bridge.traces !== undefined) noteTraces(sim, port, port.bridge.traces)
    seeScope(sim, port.bridge)
    floodExterior(sim, port.bridge, undefined, depart)
  }
  return true
}

/** Requests for the port or its device want to hear of the rest of the way, too. */
function traceArrival(sim: Simulation, port: VirtualPort): void {
  const { traces } = port.kind === 'bridge' ? port.bridge : port.router
  if (port.traces !== undefined) noteTraces(sim, port, port.traces)
  if (traces !== undefined) noteTraces(sim, port, traces)
}

/** What tells which ports a flood reaches; where it began, the bridge has read it before. */
function seeScope(sim: Simulation, bridge: VirtualBridge): void {
  if (!isVlanAware(bridge)) return
  sim.seeVlan()
  sim.seeEthDst()
}
