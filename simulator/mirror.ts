/**
 * Copies of packets as they are at some point of their way, before or after a filter.
 *
 *   preIn ▷ inbound chain ▷ postIn ▷ … ▷ preOut ▷ outbound chain ▷ postOut
 *
 * A copy leaves by the mirror's port. Where that is linked to a bridge, the copy goes to all other
 * ports of it: nothing is learned from copies, nobody answers them, no chain and no mirror takes
 * them, and they end at routers. So a copy changes nothing but where it is sent, and the packet
 * itself fares as it would without.
 */
import type { Mirror } from '../topology/model.ts'
import { compileChecks, meets } from './condition.ts'
import type { Filtered } from './filter.ts'
import { fragmentsOf, type VirtualRule } from './policy.ts'
import type { VirtualBridgePort, VirtualPort } from './port.ts'
import { type Simulation, limits as simulationLimits, word } from './simulation.ts'
import { enterVlan, isReached, leaveVlan, vlanScope } from './vlan.ts'

export const limits = {
  /** Ports that all copies of one packet may leave by; where bridges form a loop it ends there. */
  copies: 256,
} as const

type Wanted = Pick<VirtualRule, 'fragments' | 'checks' | 'invert'>
type Point = Mirror['point']

export interface VirtualMirror {
  readonly mirror: Mirror
  /** Empty for every packet. */
  readonly conditions: readonly Wanted[]
  readonly to: VirtualPort
}

/** The mirrors of one device. */
export type MirrorPoints = Readonly<Record<Point, readonly VirtualMirror[]>>

export function compileMirror(mirror: Mirror, to: VirtualPort): VirtualMirror {
  const conditions = (mirror.conditions ?? []).map((condition) => ({
    invert: condition.invert === true,
    fragments: fragmentsOf({ condition }),
    checks: compileChecks(condition),
  }))
  return { mirror, conditions, to }
}

/** Sends the copies that mirrors want of the packet as it is now. */
export function mirrorAt(sim: Simulation, device: Filtered, point: Point): void {
  const mirrors = device.mirrors?.[point]
  if (mirrors === undefined) return
  // Conditions on address groups look them up in a zone.
  sim.passage.zone ??= device.zone
  for (const one of mirrors)
    if (isWanted(sim, one)) {
      sim.story?.push(`mirror ${one.mirror.name ?? one.mirror.id}: a copy leaves`)
      copyOut(sim, one.to, 0)
    }
}

function isWanted(sim: Simulation, { conditions }: VirtualMirror): boolean {
  if (conditions.length === 0) return true
  for (const condition of conditions) if (meets(sim, condition)) return true
  return false
}

/** A copy leaves by a port. Of the packet only the tag may change on the way: it is put back. */
function copyOut(sim: Simulation, port: VirtualPort, depth: number): void {
  sim.tag(port.tag)
  if (!port.adminUp || sim.copies >= limits.copies) return
  sim.copies++
  const tag = word(sim.work, 7)
  if (port.kind === 'bridge') leaveVlan(sim, port)
  if (port.output !== undefined) {
    sim.story?.push(`port ${port.id}: the copy is sent out of vport ${port.vport}`)
    sim.outputCopy(port.output)
  } else if (port.remote?.way !== undefined && port.remote.tunnel !== undefined) {
    sim.outputCopy(port.remote.tunnel)
    sim.outputCopy(port.remote.way.output)
  } else if (port.peer?.kind === 'bridge') copyIn(sim, port.peer, depth + 1)
  if (sim.work[7] !== tag) sim.setVlan(tag)
}

/** A copy comes to a bridge, over a link: its port there shares the tag of the one that it left by. */
function copyIn(sim: Simulation, ingress: VirtualBridgePort, depth: number): void {
  const { bridge } = ingress
  sim.tag(bridge.floodTag)
  if (depth > simulationLimits.devices || !ingress.adminUp || !bridge.adminUp) return
  const { reason } = sim
  const isTaken = enterVlan(sim, ingress)
  sim.reason = reason
  if (!isTaken) return
  const scope = vlanScope(sim, bridge)
  for (const port of bridge.ports)
    if (port !== ingress && isReached(port, scope)) copyOut(sim, port, depth)
}
