/**
 * Walks one packet through the topology. Devices say where it goes next; this loop takes it there.
 *
 *   vport ─ port → device → port ─ peer port → device → … → port ─ vport
 */
import type { FlowKey } from '../packet/flow-key.ts'
import { type flood, floodExterior, simulateBridge } from './bridge.ts'
import { takesDhcp } from './dhcp.ts'
import { enterDevice, leaveDevice, passIn, vlanZone } from './filter.ts'
import { mirrorAt } from './mirror.ts'
import { exitPort, leavePort, type VirtualBridgePort, type VirtualPort } from './port.ts'
import { markIn, meterIn } from './qos.ts'
import { simulateRouter, type VirtualRouterPort } from './router.ts'
import { limits, type OutcomeKind, type Simulation, word } from './simulation.ts'
import { speak, takesSpeech } from './speaker.ts'
import { vportTag } from './tag.ts'
import { noteTraces } from './trace-request.ts'
import { emerge, floodPeers, type TunnelFinder } from './tunnel.ts'
import { enterVlan, floodScope, isReached } from './vlan.ts'

/** Finds the port that a vport stands for. */
export interface PortFinder extends TunnelFinder {
  portOf(vport: number): VirtualPort | undefined
  /** The port that the routing daemon behind a vport speaks for. */
  spokenFor(vport: number): VirtualRouterPort | undefined
}

/** Simulates the packet of `key`, as received; all it leads to is in `sim`. */
export function simulate(topology: PortFinder, key: FlowKey, sim: Simulation): OutcomeKind {
  start(sim, key)
  const port = topology.portOf(word(key, 0))
  if (port !== undefined) walk(sim, port)
  else if (!emerge(sim, topology, depart)) enterUnbound(sim, topology.spokenFor(word(key, 0)))
  return finish(sim)
}

/** The vport is no port's: it may be that of a routing daemon. */
function enterUnbound(sim: Simulation, port: VirtualRouterPort | undefined): void {
  sim.tag(vportTag(word(sim.key, 0)))
  if (port === undefined) sim.drop('no port is bound to the vport')
  else {
    const next = speak(sim, port)
    if (next !== undefined) walk(sim, next)
  }
}

/** Simulates a packet that a device made itself, from where it leaves by `port`. */
export function simulateGenerated(port: VirtualPort, key: FlowKey, sim: Simulation): OutcomeKind {
  start(sim, key)
  sim.passage.generated = true
  depart(sim, port)
  return finish(sim)
}

/** The same as `simulate`, with next hop `unreachable` taken as silent: for a packet that waited. */
export function simulateAgain(
  from: VirtualPort,
  generated: boolean,
  key: FlowKey,
  unreachable: Simulation['unreachable'],
  sim: Simulation,
): OutcomeKind {
  start(sim, key)
  sim.unreachable = unreachable
  sim.passage.generated = generated
  if (generated) depart(sim, from)
  else walk(sim, from)
  return finish(sim)
}

function start(sim: Simulation, key: FlowKey): void {
  sim.start(key)
  sim.redirection.port = undefined
}

function finish(sim: Simulation): OutcomeKind {
  if (sim.actionCount === 0 && sim.reason === '' && sim.missing === undefined)
    sim.drop('no port to send it to')
  return sim.outcome
}

/** Walks on from where a packet leaves by a port. */
function depart(sim: Simulation, egress: VirtualPort): void {
  const next = leavePort(sim, egress)
  if (next !== undefined) walk(sim, next)
  else if (sim.redirection.port !== undefined) divert(sim)
}

/** Walks on from where a chain has redirected the packet to. */
function divert(sim: Simulation): void {
  const { port, isInward } = sim.redirection
  sim.redirection.port = undefined
  if (port === undefined) return
  sim.story?.push(`redirected: ${isInward ? 'in by' : 'out of'} port ${port.id}`)
  const next = isInward ? port : exitPort(sim, port)
  if (next !== undefined) walk(sim, next, isInward)
}

/** `isPast` says that the packet comes in past the port's own chain. */
function walk(sim: Simulation, start: VirtualPort, isPast = false): void {
  let port: VirtualPort | undefined = start
  let isFiltered = isPast
  // Stands for its device, too. A port that is reached over a link shares the tag of its peer, which
  // the packet has left by.
  sim.tag(port.tag)
  while (port !== undefined) {
    if (++sim.devices > limits.devices || ++sim.steps > limits.steps) {
      sim.looped = true
      sim.drop(`more than ${limits.devices} devices: a loop`)
      return
    }
    sim.story?.push(`port ${port.id}: enters ${port.kind}`)
    sim.passage.enter(sim.devices, port)
    if (!isFiltered && !(serve(sim, port) && filterIn(sim, port))) break
    isFiltered = false
    if (port.mirrors !== undefined && port.adminUp) mirrorAt(sim, port, 'postIn')
    if (port.kind === 'bridge') markIn(sim, port)
    sim.passage.frame.isChanged = false
    const egress: VirtualPort | typeof flood | undefined =
      port.kind === 'router' ? simulateRouter(sim, port) : enterBridge(sim, port)
    if (egress?.kind === 'flood') {
      if (port.kind === 'bridge') floodFrom(sim, port)
      return
    }
    port = egress && leavePort(sim, egress)
  }
  if (sim.redirection.port !== undefined) divert(sim)
}

/** The chain of the port that a packet comes in by. */
function filterIn(sim: Simulation, port: VirtualPort): boolean {
  if (!port.adminUp) return true
  if (port.mirrors !== undefined) mirrorAt(sim, port, 'preIn')
  return port.inbound === undefined || passIn(sim, port, port.inbound)
}

/** What a port does before any chain: traces, the meter, DHCP. False when the packet is taken. */
function serve(sim: Simulation, port: VirtualPort): boolean {
  const device = port.kind === 'bridge' ? port.bridge : port.router
  if (port.traces !== undefined) noteTraces(sim, port, port.traces)
  if (device.traces !== undefined) noteTraces(sim, port, device.traces)
  if (port.meter !== undefined) meterIn(sim, port.meter)
  if (port.kind === 'router')
    return port.speaker === undefined || !takesSpeech(sim, port, port.speaker)
  if (port.peer !== undefined) return true
  const { dhcp } = port.bridge
  return dhcp === undefined || !takesDhcp(sim, port, dhcp)
}

function enterBridge(sim: Simulation, port: VirtualBridgePort) {
  if (!port.adminUp) return sim.drop('port is down')
  const { bridge } = port
  if (!bridge.adminUp) return sim.drop('bridge is down')
  if (!enterVlan(sim, port) || !enterDevice(sim, bridge, vlanZone(sim, bridge.zone, bridge)))
    return undefined
  const egress = simulateBridge(sim, port)
  if (egress === undefined) return undefined
  if (egress.kind === 'flood') return leaveDevice(sim, bridge, undefined) ? egress : undefined
  if (leaveDevice(sim, bridge, egress)) return egress
  sim.tag(egress.tag)
  return undefined
}

/** Copies to all ports: first the exterior ones, then one walk for each interior one. */
function floodFrom(sim: Simulation, ingress: VirtualBridgePort): void {
  floodExterior(sim, ingress.bridge, ingress, depart)
  floodPeers(sim, ingress)
  if (sim.looped || sim.missing !== undefined) return
  const { devices } = sim
  const scope = floodScope(sim, ingress.bridge)
  for (const port of ingress.bridge.ports) {
    if (port === ingress || port.peer === undefined || !port.adminUp) continue
    if (!isReached(port, scope)) continue
    sim.save()
    depart(sim, port)
    if (sim.looped || sim.missing !== undefined) return
    sim.restore(devices)
  }
}
