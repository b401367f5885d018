/**
 * Walks one packet through the topology. Devices say where it goes next; this loop takes it there.
 *
 *   vport ─ port → device → port ─ peer port → device → … → port ─ vport
 */
import type { FlowKey } from '../packet/flow-key.ts'
import { flood, floodExterior, simulateBridge } from './bridge.ts'
import { takesDhcp } from './dhcp.ts'
import { enterDevice, leaveDevice, passIn } from './filter.ts'
import { leavePort, type VirtualBridgePort, type VirtualPort } from './port.ts'
import { markIn, meterIn } from './qos.ts'
import { simulateRouter } from './router.ts'
import { limits, type OutcomeKind, type Simulation, word } from './simulation.ts'
import { vportTag } from './tag.ts'
import { noteTraces } from './trace-request.ts'

/** Finds the port that a vport stands for. */
export interface PortFinder {
  portOf(vport: number): VirtualPort | undefined
}

/** Simulates the packet of `key`, as received; all it leads to is in `sim`. */
export function simulate(topology: PortFinder, key: FlowKey, sim: Simulation): OutcomeKind {
  sim.start(key)
  const port = topology.portOf(word(key, 0))
  if (port === undefined) {
    sim.tag(vportTag(word(key, 0)))
    sim.drop('no port is bound to the vport')
  } else walk(sim, port)
  return finish(sim)
}

/** Simulates a packet that a device made itself, from where it leaves by `port`. */
export function simulateGenerated(port: VirtualPort, key: FlowKey, sim: Simulation): OutcomeKind {
  sim.start(key)
  sim.passage.generated = true
  const next = leavePort(sim, port)
  if (next !== undefined) walk(sim, next)
  return finish(sim)
}

/** The same as `simulate`, with next hop `unreachable` taken as silent: for a packet that waited. */
export function simulateAgain(
  start: VirtualPort,
  generated: boolean,
  key: FlowKey,
  unreachable: Simulation['unreachable'],
  sim: Simulation,
): OutcomeKind {
  sim.start(key)
  sim.unreachable = unreachable
  sim.passage.generated = generated
  const entered = generated ? leavePort(sim, start) : start
  if (entered !== undefined) walk(sim, entered)
  return finish(sim)
}

function finish(sim: Simulation): OutcomeKind {
  if (sim.actionCount === 0 && sim.reason === '' && sim.missing === undefined)
    sim.drop('no port to send it to')
  return sim.outcome
}

function walk(sim: Simulation, start: VirtualPort): void {
  let port: VirtualPort | undefined = start
  while (port !== undefined) {
    if (++sim.devices > limits.devices || ++sim.steps > limits.steps) {
      sim.looped = true
      sim.drop(`more than ${limits.devices} devices: a loop`)
      return
    }
    sim.story?.push(`port ${port.id}: enters ${port.kind}`)
    sim.tag(port.tag)
    sim.passage.enter(sim.devices, port)
    if (!serve(sim, port)) return
    if (port.inbound !== undefined && port.adminUp && !passIn(sim, port, port.inbound)) return
    if (port.kind === 'bridge') markIn(sim, port)
    sim.passage.frame.entered.set(sim.work)
    const egress: VirtualPort | typeof flood | undefined =
      port.kind === 'router' ? simulateRouter(sim, port) : enterBridge(sim, port)
    if (egress === undefined) return
    if (egress === flood) {
      if (port.kind === 'bridge') floodFrom(sim, port)
      return
    }
    port = leavePort(sim, egress)
  }
}

/** What a port does before any chain: traces, the meter, DHCP. False when the packet is taken. */
function serve(sim: Simulation, port: VirtualPort): boolean {
  const device = port.kind === 'bridge' ? port.bridge : port.router
  if (port.traces !== undefined) noteTraces(sim, port, port.traces)
  if (device.traces !== undefined) noteTraces(sim, port, device.traces)
  if (port.meter !== undefined) meterIn(sim, port.meter)
  if (port.kind === 'router' || port.peer !== undefined) return true
  const { dhcp } = port.bridge
  return dhcp === undefined || !takesDhcp(sim, port, dhcp)
}

function enterBridge(sim: Simulation, port: VirtualBridgePort) {
  if (!port.adminUp) return sim.drop('port is down')
  const { bridge } = port
  sim.tag(bridge.tag)
  if (!bridge.adminUp) return sim.drop('bridge is down')
  if (!enterDevice(sim, bridge)) return undefined
  const egress = simulateBridge(sim, port)
  if (egress === undefined) return undefined
  return leaveDevice(sim, bridge, egress === flood ? undefined : egress) ? egress : undefined
}

/** Copies to all ports: first the exterior ones, then one walk for each interior one. */
function floodFrom(sim: Simulation, ingress: VirtualBridgePort): void {
  floodExterior(sim, ingress)
  const { devices } = sim
  for (const port of ingress.bridge.ports) {
    if (port === ingress || port.peer === undefined || !port.adminUp) continue
    sim.save()
    const next = leavePort(sim, port)
    if (next !== undefined) walk(sim, next)
    if (sim.looped || sim.missing !== undefined) return
    sim.restore(devices)
  }
}
