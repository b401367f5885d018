/**
 * The bridge's part in IPv6: it answers neighbour solicitations for addresses that it knows, so
 * that they need not reach every port.
 *
 * A solicitation goes to a group that is formed of the last 24 bits of the address wanted. By them
 * alone most are known to be for nobody here, and are flooded by flows. The whole address is in the
 * packet and not in the flow key, so for the others the agent looks at each.
 */
import { wordsOf6 } from '../packet/address6.ts'
import type { flood } from './bridge.ts'
import { joinMac } from './mac-table.ts'
import type { VirtualBridgePort } from './port.ts'
import { type Simulation, word } from './simulation.ts'
import { solicitedTag } from './tag.ts'

const ethertypeIpv6 = 0x86dd
const protoIcmpv6 = 58
const solicitation = 135
/** The value of `flood`; the bridge imports this file. */
const toAll: typeof flood = { kind: 'flood' }

/** Takes a frame to a solicited-node group. Says which port it leaves by, if it does not end here. */
export function simulateSolicitation(
  sim: Simulation,
  ingress: VirtualBridgePort,
): typeof flood | undefined {
  const { bridge } = ingress
  const { work } = sim
  const low = word(work, 4) & 0xff_ffff
  sim.tag(solicitedTag(bridge.id, low))
  if (!bridge.solicited.has(low)) {
    sim.story?.push(`bridge ${bridge.name}: multicast goes to all ports`)
    return toAll
  }
  const asked = isSolicitation(sim) ? sim.passage.neighborMessage(sim) : undefined
  const entry = asked && bridge.addresses6.get(wordsOf6(asked.target))
  // A probe for one's own address must stay without an answer, or one would give it up.
  if (entry === undefined || entry.mac === joinMac(word(work, 5), word(work, 6))) return toAll
  const { mac, isRouter } = entry
  sim.effects.push({ kind: 'advertise', port: ingress, mac, isRouter })
  return sim.consume('neighbour solicitation is answered from what the bridge knows')
}

function isSolicitation(sim: Simulation): boolean {
  const { work } = sim
  sim.seeEthType()
  if (work[7] !== 0 || work[8] !== ethertypeIpv6) return false
  sim.seeProtocol()
  sim.seeFragment()
  if ((word(work, 9) & 0xff) !== protoIcmpv6 || word(work, 9) >>> 24 !== 0) return false
  sim.seeTpSrc()
  return (word(work, 18) & 0xffff) === solicitation
}
