/** Which MAC address a next hop on a router port's link has, from all that is known. */
import type { Action } from '../packet/action.ts'
import { macHigh, macLow } from './mac-table.ts'
import type { VirtualRouterPort } from './router.ts'
import { neighborTag, type Tag } from './tag.ts'

/** A next hop ready for use: the rewrite of both MAC addresses toward it, and what it rests on. */
export interface NextHop {
  readonly action: Extract<Action, { kind: 'setEth' }>
  /** Destination's high and low word, source's high and low word. */
  readonly words: Uint32Array
  readonly tag: Tag
}

/**
 * Finds a next hop: a configured neighbour, the other router's own address, a station of the linked
 * bridge, or what ARP has taught, in this order. Undefined when none of them knows it.
 */
export function resolveNextHop(port: VirtualRouterPort, address: number): NextHop | undefined {
  const ready = port.nextHops.get(address | 0)
  if (ready !== undefined) return ready
  const found = findMac(port, address)
  if (found === undefined) return undefined
  const { mac, tag } = found
  const hop: NextHop = {
    action: Object.freeze({ kind: 'setEth', dst: mac, src: port.mac }),
    words: Uint32Array.of(macHigh(mac), macLow(mac), port.macHigh, port.macLow),
    tag,
  }
  port.nextHops.set(address | 0, hop)
  return hop
}

function findMac(port: VirtualRouterPort, address: number): { mac: number; tag: Tag } | undefined {
  const tag = neighborTag(port.id, address)
  const configured = port.neighbors.get(address | 0)
  if (configured !== undefined) return { mac: configured, tag }
  const { peer } = port
  if (peer?.kind === 'router' && peer.addresses.some((cidr) => cidr.address === address))
    return { mac: peer.mac, tag: peer.tag }
  const entry = peer?.kind === 'bridge' ? peer.bridge.addresses.get(address | 0) : undefined
  if (entry !== undefined) return { mac: entry.mac, tag: entry.tag }
  const learned = port.learned.get(address | 0)
  return learned === undefined ? undefined : { mac: learned.mac, tag }
}
