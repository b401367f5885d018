/** Which MAC address a next hop on a router port's link has, from all that is known. */
import type { Action } from '../packet/action.ts'
import type { Words6 } from '../packet/address6.ts'
import type { VirtualBridge } from './bridge.ts'
import { macHigh, macLow } from './mac-table.ts'
import type { VirtualPort } from './port.ts'
import type { VirtualRouterPort } from './router.ts'
import { hasAddress6 } from './router-port6.ts'
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
 * bridge, or what ARP has taught this host or another, in this order. Undefined when none of them knows it.
 */
export function resolveNextHop(port: VirtualRouterPort, address: number): NextHop | undefined {
  const ready = port.nextHops.get(address | 0)
  if (ready !== undefined) return ready
  const found = findMac(port, address)
  if (found === undefined) return undefined
  const hop = hopTo(port, found.mac, found.tag)
  port.nextHops.set(address | 0, hop)
  return hop
}

/** The same for IPv6: configured, the other router's own, a station, or taught by discovery. */
export function resolveNextHop6(port: VirtualRouterPort, address: Words6): NextHop | undefined {
  const ready = port.six?.nextHops.get(address)
  if (ready !== undefined) return ready
  const found = findMac6(port, address)
  if (found === undefined) return undefined
  const hop = hopTo(port, found.mac, found.tag)
  port.six?.nextHops.set(address, hop)
  return hop
}

function hopTo(port: VirtualRouterPort, mac: number, tag: Tag): NextHop {
  return {
    action: Object.freeze({ kind: 'setEth', dst: mac, src: port.mac }),
    words: Uint32Array.of(macHigh(mac), macLow(mac), port.macHigh, port.macLow),
    tag,
  }
}

function findMac6(port: VirtualRouterPort, address: Words6): { mac: number; tag: Tag } | undefined {
  const tag = neighborTag(port.id, address)
  const configured = port.six?.neighbors.get(address)
  if (configured !== undefined) return { mac: configured, tag }
  const { peer } = port
  if (peer?.kind === 'router' && hasAddress6(peer, address)) return { mac: peer.mac, tag: peer.tag }
  const entry = bridgeOf(peer)?.addresses6.get(address)
  if (entry !== undefined) return { mac: entry.mac, tag: entry.tag }
  const mac = port.six?.learned.get(address)?.mac ?? port.six?.told.get(address)
  return mac === undefined ? undefined : { mac, tag }
}

function findMac(port: VirtualRouterPort, address: number): { mac: number; tag: Tag } | undefined {
  const tag = neighborTag(port.id, address)
  const configured = port.neighbors.get(address | 0)
  if (configured !== undefined) return { mac: configured, tag }
  const { peer } = port
  if (peer?.kind === 'router' && peer.addresses.some((cidr) => cidr.address === address))
    return { mac: peer.mac, tag: peer.tag }
  const entry = bridgeOf(peer)?.addresses.get(address | 0)
  if (entry !== undefined) return { mac: entry.mac, tag: entry.tag }
  const mac = port.learned.get(address | 0)?.mac ?? port.told.get(address | 0)
  return mac === undefined ? undefined : { mac, tag }
}

/** The bridge whose addresses are those of the link: it knows none of its VLANs. */
function bridgeOf(peer: VirtualPort | undefined): VirtualBridge | undefined {
  return peer?.kind === 'bridge' && peer.vlan === 0 ? peer.bridge : undefined
}
