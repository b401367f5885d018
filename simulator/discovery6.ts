/**
 * Neighbour discovery at a router port, RFC 4861: answers solicitations of its addresses and of
 * routers, learns neighbours from what they say of themselves.
 *
 * Who is sought or found stands in the packet and not in the flow key, so the agent handles each.
 */
import { wordsOf6 } from '../packet/address6.ts'
import type { NeighborMessage } from '../packet/build6.ts'
import { fragNone } from '../packet/flow-key.ts'
import type { VirtualRouterPort } from './router.ts'
import { hasAddress6, sharesLink6 } from './router-port6.ts'
import { type Simulation, word } from './simulation.ts'

const protoIcmpv6 = 58
const types = { routerSolicitation: 133, solicitation: 135, advertisement: 136 } as const
const hopLimitMax = 255

/** Whether the packet is one of RFC 4861: types 133 to 137. */
export function isDiscovery(sim: Simulation): boolean {
  const { work } = sim
  sim.seeProtocol()
  if ((word(work, 9) & 0xff) !== protoIcmpv6) return false
  sim.seeTpSrc()
  const type = word(work, 18) & 0xffff
  return type >= 133 && type <= 137
}

/** Takes such a packet; it ends here. */
export function simulateDiscovery(sim: Simulation, ingress: VirtualRouterPort): undefined {
  const { work } = sim
  if (!ingress.adminUp || !ingress.router.adminUp) return sim.drop('router or its port is down')
  sim.seeTtl()
  sim.seeFragment()
  sim.seeTpDst()
  const isFromLink = ((word(work, 9) >>> 16) & 0xff) === hopLimitMax
  if (!isFromLink || word(work, 9) >>> 24 !== fragNone || word(work, 18) >>> 16 !== 0)
    return sim.drop('neighbour discovery from beyond the link')
  switch (word(work, 18) & 0xffff) {
    case types.routerSolicitation:
      if (ingress.six?.advertisement === undefined)
        return sim.drop('router port advertises nothing')
      sim.effects.push({ kind: 'advertiseRouter', port: ingress })
      return sim.consume('router solicitation is answered')
    case types.solicitation:
    case types.advertisement:
      return takeMessage(sim, ingress)
    default:
      return sim.drop('router takes no redirects and no advertisements of routers')
  }
}

function takeMessage(sim: Simulation, ingress: VirtualRouterPort): undefined {
  const message = sim.passage.neighborMessage(sim)
  if (message === undefined) return sim.drop('neighbour discovery is malformed')
  return message.kind === 'neighborSolicitation'
    ? answer(sim, ingress, message)
    : learn(sim, ingress, message)
}

function answer(
  sim: Simulation,
  ingress: VirtualRouterPort,
  { src, target, linkMac }: NeighborMessage,
): undefined {
  if (!hasAddress6(ingress, wordsOf6(target)))
    return sim.drop('neighbour solicitation is not for this router')
  const sender = wordsOf6(src)
  // Who has no address yet asks whether this one is free.
  if (src !== 0n && !sharesLink6(ingress, sender))
    return sim.drop('neighbour solicitation is from outside the link')
  if (src !== 0n && linkMac !== undefined) note(sim, ingress, sender, linkMac)
  sim.effects.push({ kind: 'advertise', port: ingress, mac: ingress.mac, isRouter: true })
  return sim.consume('neighbour solicitation is answered')
}

/** RFC 4861 section 7.2.5, of which a router needs: who is where, and that it still is. */
function learn(
  sim: Simulation,
  ingress: VirtualRouterPort,
  { target, linkMac, solicited, override }: NeighborMessage,
): undefined {
  const words = wordsOf6(target)
  if (hasAddress6(ingress, words)) return sim.drop('another station has the address of this router')
  if (!sharesLink6(ingress, words))
    return sim.drop('neighbour advertisement is from outside the link')
  const known = ingress.six?.learned.get(words)
  const mac = linkMac ?? known?.mac
  const isNews = known === undefined ? solicited : override || known.mac === mac
  if (mac !== undefined && isNews) note(sim, ingress, words, mac)
  return sim.consume('neighbour advertisement is taken')
}

/** What is configured or the router's own is not learned. */
function note(
  sim: Simulation,
  port: VirtualRouterPort,
  address: ReturnType<typeof wordsOf6>,
  mac: number,
): void {
  if (port.six?.neighbors.get(address) !== undefined || hasAddress6(port, address)) return
  sim.effects.push({ kind: 'learnNeighbor6', port, address, mac })
}
