/**
 * Packets to an address that a router only gives as a source (SNAT), of connections that nobody
 * knows: they would go back out where they came from. Who sends them hears so instead.
 */
import type { VirtualChain } from './policy.ts'
import type { VirtualRouterPort } from './router.ts'
import { type Simulation, word } from './simulation.ts'

const protocols = { tcp: 6, udp: 17 } as const

/** Whether a packet that would leave by the port it came in by is for such an address. */
export function isOrphan(sim: Simulation, port: VirtualRouterPort): boolean {
  const { outbound, router } = port
  if (outbound === undefined && router.outbound === undefined) return false
  sim.seeProtocol()
  const protocol = word(sim.work, 9) & 0xff
  if (protocol !== protocols.tcp && protocol !== protocols.udp) return false
  sim.seeIpDst(32)
  const seen = new Set<VirtualChain>()
  return givesSource(sim, outbound, seen) || givesSource(sim, router.outbound, seen)
}

/** Whether a rule of a chain, or of one it jumps to, gives the packet's destination as a source. */
function givesSource(
  sim: Simulation,
  chain: VirtualChain | undefined,
  seen: Set<VirtualChain>,
): boolean {
  if (chain === undefined || seen.has(chain)) return false
  seen.add(chain)
  sim.tag(chain.tag)
  const address = word(sim.work, 14)
  for (const { action } of chain.rules) {
    if (action.kind === 'jump' && givesSource(sim, action.chain, seen)) return true
    if (action.kind !== 'snat') continue
    for (const { base, firstAddress, lastAddress } of action.targets)
      if (base === undefined && address >= firstAddress && address <= lastAddress) return true
  }
  return false
}
