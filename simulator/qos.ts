/** Marks and limits on what enters by a port. A port's own policy counts, else its bridge's. */
import type { Action } from '../packet/action.ts'
import type { QosPolicy } from '../topology/model.ts'
import type { VirtualBridgePort, VirtualPort } from './port.ts'
import type { Simulation } from './simulation.ts'

const ethertypeIpv4 = 0x0800

/** The policy of what enters by a port. */
export function policyOf(port: VirtualPort): QosPolicy | undefined {
  return port.kind === 'bridge' ? (port.qos ?? port.bridge.qos) : port.qos
}

/** Marks an IPv4 packet that has passed the port's chain. */
export function markIn(sim: Simulation, port: VirtualBridgePort): void {
  const dscp = policyOf(port)?.dscp
  if (dscp === undefined) return
  sim.seeEthType()
  if (sim.work[8] !== ethertypeIpv4) return
  sim.story?.push(`port ${port.id}: marked with DSCP ${dscp}`)
  sim.rewriteDscp(dscp)
}

/** Limits what comes in from an interface. */
export function meterIn(sim: Simulation, meter: Action): void {
  sim.story?.push('passes the meter of the port')
  sim.passMeter(meter)
}
