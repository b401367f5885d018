/** What router ports and routes have of IPv6, made ready. */
import { parseIpv6, parseMac } from '../packet/address.ts'
import { linkLocalOf, networkOf6, parseCidr6, wordsOf6 } from '../packet/address6.ts'
import type { Route, RouterPort } from '../topology/model.ts'
import { AddressTable } from './address-table.ts'
import type { RouteEntry6 } from './route-table6.ts'
import type { VirtualRouterPort } from './router.ts'
import type { Advertisement, PortAddress6, RouterPort6 } from './router-port6.ts'

const localWeight = -1
const connectedWeight = 0

/** By default, in seconds. */
const defaults = { interval: 200, valid: 2_592_000, preferred: 604_800 } as const

/** The port's own part; `connect6` adds the routes that lead out of it. */
export function compileRouterPort6(port: RouterPort): RouterPort6 | undefined {
  if (port.addresses6 === undefined) return undefined
  const linkLocal = portAddress(linkLocalOf(parseMac(port.mac) ?? 0), 64)
  const configured = port.addresses6
    .flatMap((text) => parseCidr6(text) ?? [])
    .map(({ address, prefixLength }) => portAddress(address, prefixLength))
  const addresses = [...configured, linkLocal]
  const neighbors = new AddressTable<number>()
  for (const { address, mac } of port.neighbors6 ?? []) {
    const [words, number] = [parseIpv6(address), parseMac(mac)]
    if (words !== undefined && number !== undefined) neighbors.set(wordsOf6(words), number)
  }
  return {
    addresses,
    linkLocal,
    neighbors,
    learned: new AddressTable(),
    told: new AddressTable(),
    nextHops: new AddressTable(),
    // The same link-local address on two ports is two addresses: the ingress port knows its own.
    localRoutes: configured
      .filter(isRouted)
      .map((own, at) => localRoute(`local6:${port.id}:${at}`, own)),
    routes: new Set(),
    advertisement: compileAdvertisement(port),
    advertiseMs: 0,
  }
}

/** The routes to the networks of the port. */
export function connect6(port: VirtualRouterPort): void {
  const { six } = port
  if (six === undefined) return
  for (const [at, own] of six.addresses.filter(isRouted).entries())
    if (own.prefixLength < 128)
      six.routes.add({
        ...anywhere,
        id: `connected6:${port.id}:${at}`,
        dst: wordsOf6(networkOf6(own)),
        dstLength: own.prefixLength,
        weight: connectedWeight,
        action: 'port',
        port,
      })
}

/** Undefined when the route is one of IPv4. */
export function compileRoute6(
  route: Route,
  port: VirtualRouterPort | undefined,
): RouteEntry6 | undefined {
  const [src, dst] = [parseCidr6(route.src), parseCidr6(route.dst)]
  if (src === undefined || dst === undefined) return undefined
  const gateway = route.gateway === undefined ? undefined : parseIpv6(route.gateway)
  return {
    id: route.id,
    dst: wordsOf6(networkOf6(dst)),
    dstLength: dst.prefixLength,
    src: wordsOf6(networkOf6(src)),
    srcLength: src.prefixLength,
    weight: route.weight,
    action: route.action,
    port,
    gateway: gateway === undefined ? undefined : wordsOf6(gateway),
  }
}

function compileAdvertisement({ advertisement }: RouterPort): Advertisement | undefined {
  if (advertisement?.enabled !== true) return undefined
  const interval = advertisement.intervalSeconds ?? defaults.interval
  return {
    interval,
    lifetime: advertisement.lifetimeSeconds ?? 3 * interval,
    managed: advertisement.managed === true,
    otherConfiguration: advertisement.otherConfiguration === true,
    autonomous: advertisement.autonomous !== false,
    valid: advertisement.validSeconds ?? defaults.valid,
    preferred: advertisement.preferredSeconds ?? defaults.preferred,
  }
}

function portAddress(address: bigint, prefixLength: number): PortAddress6 {
  return { words: wordsOf6(address), address, prefixLength }
}

function isRouted({ address }: PortAddress6): boolean {
  return address >> 118n !== 0xfe80n >> 6n
}

const anywhere = { src: [0, 0, 0, 0], srcLength: 0, gateway: undefined, port: undefined } as const

function localRoute(id: string, { words }: PortAddress6): RouteEntry6 {
  return { ...anywhere, id, dst: words, dstLength: 128, weight: localWeight, action: 'local' }
}
