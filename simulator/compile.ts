/** Objects of the store made into devices: text parsed once, tags and routes made beforehand. */
import { type Cidr, networkOf, parseCidr, parseIp, parseMac } from '../packet/address.ts'
import type { Bridge, BridgePort, Route, Router, RouterPort } from '../topology/model.ts'
import { AddressTable } from './address-table.ts'
import type { VirtualBridge } from './bridge.ts'
import { compileRouterPort6, connect6 } from './compile6.ts'
import type { Filtered } from './filter.ts'
import { MacTable, macHigh, macLow } from './mac-table.ts'
import type { Zone } from './passage.ts'
import type { Policies } from './policy.ts'
import type { VirtualBridgePort } from './port.ts'
import { type RouteEntry, RouteTable } from './route-table.ts'
import { RouteTable6 } from './route-table6.ts'
import type { VirtualRouter, VirtualRouterPort } from './router.ts'
import { floodTag, portTag } from './tag.ts'

/** Weights of the routes that a port's addresses make; configured ones have 0 and more. */
const localWeight = -1
const connectedWeight = 0

/** The chains of a device or port. */
interface Filters {
  readonly inboundChain?: string | undefined
  readonly outboundChain?: string | undefined
}

/** The chains that an object names; a rule's change is not theirs to follow. */
export function compileFilters(
  { inboundChain, outboundChain }: Filters,
  policies: Policies,
): Pick<Filtered, 'inbound' | 'outbound'> {
  return {
    inbound: inboundChain === undefined ? undefined : policies.chain(inboundChain),
    outbound: outboundChain === undefined ? undefined : policies.chain(outboundChain),
  }
}

export function compileBridge({ id, name, adminUp }: Bridge, zone: Zone): VirtualBridge {
  return {
    ...unfiltered,
    zone,
    id,
    name: name ?? id,
    adminUp,
    floodTag: floodTag(id),
    ports: [],
    accessPorts: 0,
    routerPorts: new Set(),
    macs: new MacTable(),
    learnedMacs: 0,
    formerMacs: new Set(),
    addresses: new Map(),
    addresses6: new AddressTable(),
    solicited: new Map(),
    dhcp: undefined,
    qos: undefined,
    mtu: 0,
    traces: undefined,
  }
}

export function compileRouter({ id, name, adminUp }: Router, zone: Zone): VirtualRouter {
  return {
    ...unfiltered,
    zone,
    id,
    name: name ?? id,
    adminUp,
    ports: new Set(),
    routes: new RouteTable(id),
    routes6: new RouteTable6(id),
    traces: undefined,
    balancer: undefined,
    probes: undefined,
  }
}

export function compileBridgePort(
  port: BridgePort,
  bridge: VirtualBridge,
  zone: Zone,
): VirtualBridgePort {
  return { kind: 'bridge', ...portState(port, zone), bridge, vlan: port.vlan ?? 0 }
}

export function compileRouterPort(
  port: RouterPort,
  router: VirtualRouter,
  zone: Zone,
): VirtualRouterPort {
  const mac = parseMac(port.mac) ?? 0
  const addresses = port.addresses.map(parseCidr).filter((cidr) => cidr !== undefined)
  const neighbors = new Map<number, number>()
  for (const neighbor of port.neighbors ?? []) {
    const address = parseIp(neighbor.address)
    const itsMac = parseMac(neighbor.mac)
    if (address !== undefined && itsMac !== undefined) neighbors.set(address | 0, itsMac)
  }
  const compiled: VirtualRouterPort = {
    kind: 'router',
    ...portState(port, zone),
    router,
    mac,
    macHigh: macHigh(mac),
    macLow: macLow(mac),
    addresses,
    mtu: port.mtu ?? 0,
    neighbors,
    learned: new Map(),
    told: new Map(),
    nextHops: new Map(),
    localRoutes: addresses.map((cidr, at) => localRoute(`local:${port.id}:${at}`, cidr)),
    routes: new Set(),
    routesUp: false,
    routesFar: false,
    speaker: undefined,
    six: compileRouterPort6(port),
  }
  connect6(compiled)
  for (const [at, cidr] of addresses.entries())
    if (cidr.prefixLength < 32)
      compiled.routes.add(connectedRoute(`connected:${port.id}:${at}`, cidr, compiled))
  return compiled
}

export function compileRoute(route: Route, port: VirtualRouterPort | undefined): RouteEntry {
  const dst = parseCidr(route.dst) ?? { address: 0, prefixLength: 0 }
  const src = parseCidr(route.src) ?? { address: 0, prefixLength: 0 }
  return {
    id: route.id,
    dst: networkOf(dst),
    dstLength: dst.prefixLength,
    src: networkOf(src),
    srcLength: src.prefixLength,
    weight: route.weight,
    action: route.action,
    port,
    gateway: route.gateway === undefined ? undefined : parseIp(route.gateway),
  }
}

const unfiltered = { inbound: undefined, outbound: undefined, mirrors: undefined } as const

/** Most ports are in no group; a set of its own would be a third of what one takes. */
const noGroups: ReadonlySet<string> = new Set()

function portState({ id, adminUp, portGroups }: BridgePort | RouterPort, zone: Zone) {
  return {
    ...unfiltered,
    zone,
    groups: portGroups === undefined ? noGroups : new Set(portGroups),
    id,
    tag: portTag(id),
    adminUp,
    peer: undefined,
    bound: false,
    remote: undefined,
    vport: 0,
    output: undefined,
    qos: undefined,
    meter: undefined,
    traces: undefined,
  }
}

function localRoute(id: string, { address }: Cidr): RouteEntry {
  const anywhere = { src: 0, srcLength: 0, gateway: undefined, port: undefined }
  return { ...anywhere, id, dst: address, dstLength: 32, weight: localWeight, action: 'local' }
}

function connectedRoute(id: string, cidr: Cidr, port: VirtualRouterPort): RouteEntry {
  return {
    id,
    dst: networkOf(cidr),
    dstLength: cidr.prefixLength,
    src: 0,
    srcLength: 0,
    weight: connectedWeight,
    action: 'port',
    port,
    gateway: undefined,
  }
}
