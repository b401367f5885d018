/**
 * VLANs on a bridge. A bridge is VLAN-aware while one of its ports has a VLAN.
 *
 *   tenant bridge ── access port, VLAN 7 ──┐         ┌── trunk ── VLAN switch
 *   tenant bridge ── access port, VLAN 8 ──┴─ bridge ┴── trunk ── VLAN switch
 *
 * A port with a VLAN is an access port: frames get that VLAN's tag where they come in and lose it
 * where they leave. The others are trunks: they carry all VLANs, tagged; untagged frames are a VLAN
 * of their own there, and so are those with a tag that holds a priority only. Each VLAN has its own
 * MAC addresses. Between trunks spanning-tree frames go through, so that switches behind two
 * trunks see the loop and block one; no other port gets any.
 *
 * A bridge that is not VLAN-aware reads no tag: tagged frames cross it as they are.
 */
import type { VirtualBridge } from './bridge.ts'
import type { VirtualBridgePort } from './port.ts'
import { type Simulation, word } from './simulation.ts'

/** Ports that a flood may reach, besides those of one VLAN. */
const allPorts = -1
const trunksOnly = -2

export function isVlanAware({ accessPorts }: VirtualBridge): boolean {
  return accessPorts > 0
}

/** Tags what comes in by an access port. False when the port does not take the frame. */
export function enterVlan(sim: Simulation, { vlan, bridge }: VirtualBridgePort): boolean {
  if (!isVlanAware(bridge)) return true
  sim.seeVlan()
  if (vlan === 0) return true
  const tag = word(sim.work, 7)
  if ((tag & 0xfff) !== 0) {
    sim.drop(`access port of VLAN ${vlan} takes no VLAN-tagged frames`)
    return false
  }
  // The priority of the tag stays (802.1Q, 6.9.1).
  sim.setVlan((tag & 0xe000) | 0x1000 | vlan)
  sim.story?.push(`bridge ${bridge.name}: frame is of VLAN ${vlan}`)
  return true
}

/** Takes the tag off what leaves by an access port. */
export function leaveVlan(sim: Simulation, { vlan }: VirtualBridgePort): void {
  if (vlan === 0) return
  // A mirror's copy comes here without a bridge having looked.
  sim.seeVlan()
  if (sim.work[7] !== 0) sim.setVlan(0)
}

/** The VLAN of a frame on a bridge: 0 for untagged ones, and where VLANs are not told apart. */
export function vlanOf({ work }: Simulation, bridge: VirtualBridge): number {
  return isVlanAware(bridge) ? word(work, 7) & 0xfff : 0
}

/** Whether the frame is for the neighbour on the link alone (802.1Q, 8.6.3), not for bridges. */
export function isLinkLocal({ work }: Simulation): boolean {
  return work[3] === 0x0180 && (word(work, 4) & 0xffff_fff0) >>> 0 === 0xc200_0000
}

/** Whether such a frame is one of spanning trees that goes from trunk to trunk. */
export function isCarried(sim: Simulation, { vlan, bridge }: VirtualBridgePort): boolean {
  return isVlanAware(bridge) && vlan === 0 && isSpanningTree(sim)
}

/** What `isReached` needs to tell which ports a flood reaches. */
export function floodScope(sim: Simulation, bridge: VirtualBridge): number {
  return isVlanAware(bridge) && isSpanningTree(sim) ? trunksOnly : vlanScope(sim, bridge)
}

/** The same for all ports that carry the frame's VLAN, whatever the frame is. */
export function vlanScope({ work }: Simulation, bridge: VirtualBridge): number {
  return isVlanAware(bridge) ? word(work, 7) & 0xfff : allPorts
}

export function isReached({ vlan }: VirtualBridgePort, scope: number): boolean {
  return vlan === 0 || vlan === scope || scope === allPorts
}

function isSpanningTree({ work }: Simulation): boolean {
  return work[3] === 0x0180 && work[4] === 0xc200_0000
}
