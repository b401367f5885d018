/**
 * The facts that forwarding rests on, kept in the compiled devices: who is where on a bridge, which
 * ports are linked, which routes stand. Each function pushes the tags of what it changed.
 */
import { type MacEntry, placeTag, type VirtualBridge } from './bridge.ts'
import { addAddress6, removeAddress6 } from './facts6.ts'
import { macLow, scopedHigh } from './mac-table.ts'
import { isActive, type VirtualBridgePort, type VirtualPort } from './port.ts'
import type { VirtualRouter, VirtualRouterPort } from './router.ts'
import { addressTag, macTag, neighborTag, portTag, type Tag } from './tag.ts'

export const limits = {
  /** Learned MAC addresses of a bridge; beyond it frames to further ones are flooded. */
  learnedMacs: 10_000,
  /** Learned addresses of a bridge, and learned neighbours of a router port. */
  learnedAddresses: 10_000,
  /** MAC addresses of a bridge that are remembered when their stations are gone. */
  formerMacs: 1024,
} as const

/** Says that `mac` is behind `port`, in its VLAN if it has one, known from the topology. */
export function addStation(port: VirtualBridgePort, mac: number, tags: Tag[]): void {
  const { bridge, vlan } = port
  const high = scopedHigh({ mac, vlan })
  const old = bridge.macs.find(high, macLow(mac))
  if (old?.learned === true) bridge.learnedMacs--
  const tag = old?.tag ?? macTag(bridge.id, mac, vlan)
  bridge.macs.set(high, macLow(mac), {
    mac,
    vlan,
    port,
    tag,
    learned: false,
    // A fraction as times are: an object whose number becomes one is made anew when it is met next.
    lastSeenMs: Number.NEGATIVE_INFINITY,
    addresses: [],
  })
  // Of the unknown or learned address, and of the port that had it before.
  tags.push(tag)
  if (old !== undefined) tags.push(placeTag(old))
}

export function removeStation(port: VirtualBridgePort, mac: number, tags: Tag[]): void {
  const entry = port.bridge.macs.find(scopedHigh({ mac, vlan: port.vlan }), macLow(mac))
  if (entry?.port === port) forgetMac(entry, tags)
}

export function learnMac(
  port: VirtualBridgePort,
  { mac, vlan }: Pick<MacEntry, 'mac' | 'vlan'>,
  nowMs: number,
  tags: Tag[],
): MacEntry | undefined {
  const { bridge } = port
  const high = scopedHigh({ mac, vlan })
  const old = bridge.macs.find(high, macLow(mac))
  if (old !== undefined && !old.learned) return undefined
  if (old === undefined && bridge.learnedMacs >= limits.learnedMacs) return undefined
  if (old === undefined) bridge.learnedMacs++
  const tag = old?.tag ?? macTag(bridge.id, mac, vlan)
  const addresses = old?.addresses ?? []
  const entry: MacEntry = { mac, vlan, port, tag, learned: true, lastSeenMs: nowMs, addresses }
  bridge.macs.set(high, macLow(mac), entry)
  tags.push(tag)
  return entry
}

/** Forgets where a MAC address is, and with it the IPv4 addresses learned to be its. */
export function forgetMac(entry: MacEntry, tags: Tag[]): void {
  const { bridge } = entry.port
  if (!bridge.macs.delete(scopedHigh(entry), macLow(entry.mac))) return
  tags.push(placeTag(entry))
  if (entry.learned) bridge.learnedMacs--
  else if (entry.vlan === 0) rememberMac(bridge, entry.mac, tags)
  for (const address of entry.addresses) {
    const known = bridge.addresses.get(address | 0)
    if (known?.learned === true && known.mac === entry.mac) removeAddress(bridge, address, tags)
  }
}

/** Some may still send to the MAC address: see stale.ts. */
function rememberMac(bridge: VirtualBridge, mac: number, tags: Tag[]): void {
  const { formerMacs } = bridge
  formerMacs.delete(mac)
  formerMacs.add(mac)
  for (const oldest of formerMacs) {
    if (formerMacs.size <= limits.formerMacs) return
    formerMacs.delete(oldest)
    tags.push(macTag(bridge.id, oldest, 0))
  }
}

export function addAddress(
  bridge: VirtualBridge,
  address: number,
  mac: number,
  learned: boolean,
  tags: Tag[],
): void {
  const old = bridge.addresses.get(address | 0)
  const tag = old?.tag ?? addressTag(bridge.id, address)
  bridge.addresses.set(address | 0, { mac, tag, learned })
  noteAddress(bridge, address, tag, tags)
}

/** Learns from a gratuitous ARP, which is untagged; kept as long as the MAC address is. */
export function learnAddress(
  bridge: VirtualBridge,
  address: number,
  mac: number,
  tags: Tag[],
): void {
  const station = bridge.macs.find(scopedHigh({ mac, vlan: 0 }), macLow(mac))
  const old = bridge.addresses.get(address | 0)
  if (station === undefined || old?.learned === false) return
  if (old === undefined && bridge.addresses.size >= limits.learnedAddresses) return
  if (!station.addresses.includes(address)) station.addresses.push(address)
  addAddress(bridge, address, mac, true, tags)
}

export function removeAddress(bridge: VirtualBridge, address: number, tags: Tag[]): void {
  const entry = bridge.addresses.get(address | 0)
  if (entry === undefined) return
  bridge.addresses.delete(address | 0)
  noteAddress(bridge, address, entry.tag, tags)
}

/** Routers on the bridge find their next hops among its addresses. */
function noteAddress(bridge: VirtualBridge, address: number, tag: Tag, tags: Tag[]): void {
  tags.push(tag)
  for (const port of bridge.routerPorts) {
    port.nextHops.delete(address | 0)
    tags.push(neighborTag(port.id, address))
  }
}

export function learnNeighbor(
  port: VirtualRouterPort,
  address: number,
  mac: number,
  nowMs: number,
  tags: Tag[],
): void {
  const old = port.learned.get(address | 0)
  if (old === undefined && port.learned.size >= limits.learnedAddresses) return
  port.learned.set(address | 0, { address, mac, learnedMs: nowMs })
  if (old?.mac === mac) return
  port.nextHops.delete(address | 0)
  tags.push(neighborTag(port.id, address))
}

export function forgetNeighbor(port: VirtualRouterPort, address: number, tags: Tag[]): void {
  if (!port.learned.delete(address | 0)) return
  port.nextHops.delete(address | 0)
  tags.push(neighborTag(port.id, address))
}

/** Links two ports. A bridge knows the router at the other end as a station. */
export function linkPorts(a: VirtualPort, b: VirtualPort, tags: Tag[]): void {
  a.peer = b
  b.peer = a
  tags.push(b.tag)
  b.tag = a.tag
  introduce(a, b, tags)
  introduce(b, a, tags)
  notePort(a, tags)
  notePort(b, tags)
}

export function unlinkPorts(a: VirtualPort, b: VirtualPort, tags: Tag[]): void {
  a.peer = undefined
  b.peer = undefined
  tags.push(a.tag)
  a.tag = portTag(a.id)
  b.tag = portTag(b.id)
  retire(a, b, tags)
  retire(b, a, tags)
  notePort(a, tags)
  notePort(b, tags)
}

function introduce(port: VirtualPort, peer: VirtualPort, tags: Tag[]): void {
  if (port.kind !== 'bridge' || peer.kind !== 'router') return
  port.bridge.routerPorts.add(peer)
  addStation(port, peer.mac, tags)
  // A bridge answers for untagged frames only, so it must not know addresses of VLANs.
  if (port.vlan !== 0) return
  for (const { address } of peer.addresses) addAddress(port.bridge, address, peer.mac, false, tags)
  for (const { words } of peer.six?.addresses ?? [])
    addAddress6(port.bridge, words, { mac: peer.mac, isRouter: true }, tags)
}

function retire(port: VirtualPort, peer: VirtualPort, tags: Tag[]): void {
  if (port.kind !== 'bridge' || peer.kind !== 'router') return
  removeStation(port, peer.mac, tags)
  port.bridge.routerPorts.delete(peer)
  if (port.vlan !== 0) return
  for (const { address } of peer.addresses) removeAddress(port.bridge, address, tags)
  for (const { words } of peer.six?.addresses ?? []) removeAddress6(port.bridge, words, tags)
}

/**
 * Says that a device deals with packets in another way now. What walks through a bridge or router
 * comes by one of its ports, and rests on the port.
 */
export function noteDevice(device: VirtualBridge | VirtualRouter | VirtualPort, tags: Tag[]): void {
  if ('kind' in device) tags.push(device.tag)
  else for (const port of device.ports) tags.push(port.tag)
}

/** Says that a port is another one now: up or down, linked, bound, of another vport. */
export function notePort(port: VirtualPort, tags: Tag[]): void {
  tags.push(port.tag)
  if (port.kind === 'bridge') tags.push(port.bridge.floodTag)
  else {
    port.nextHops.clear()
    port.six?.nextHops.clear()
    refreshRoutes(port, tags)
  }
}

/** Routes that leave by a port stand while the port is active; their rank is of where it is. */
function refreshRoutes(port: VirtualRouterPort, tags: Tag[]): void {
  const [up, far] = [isActive(port), port.remote !== undefined]
  if (up === port.routesUp && far === port.routesFar) return
  if (port.routesUp) changeRoutes(port, false, tags)
  port.routesUp = up
  port.routesFar = far
  if (up) changeRoutes(port, true, tags)
}

function changeRoutes(port: VirtualRouterPort, up: boolean, tags: Tag[]): void {
  const { routes: table, routes6: table6 } = port.router
  for (const route of port.routes) {
    const tag = up ? table.add(route) : table.remove(route)
    if (tag !== undefined) tags.push(tag)
  }
  for (const route of port.six?.routes ?? []) {
    const tag = up ? table6.add(route) : table6.remove(route)
    if (tag !== undefined) tags.push(tag)
  }
}
