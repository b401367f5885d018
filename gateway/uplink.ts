/**
 * Uplinks as objects of the store: which routers need one on this host, and the transaction that
 * makes or removes router port, chains, binding and default route. Pure.
 */
import { createHash } from 'node:crypto'
import { type Cidr, formatIp } from '../packet/address.ts'
import type { Route, Uplink } from '../topology/model.ts'
import type { Draft, Reader } from '../topology/store.ts'
import { bindPort } from '../topology/tunnel.ts'
import { removeUplink, uplinkRoute } from '../topology/uplink.ts'
import { anywhere, chooseNetwork, defaultWeight, macOf, smallestMtu } from './addressing.ts'
import {
  hostIp,
  isServed,
  reachedSubnets,
  routerAddressOf,
  servedNetworks,
  toCidr,
} from './link.ts'
import { publicationsOf } from './publication.ts'
import { needsTenants, planTenants, tenantLinks } from './tenant.ts'
import { completeRules, hasItsRules, type TranslatingLink } from './uplink-chain.ts'
import { completeRoute6, hasItsRoute6, link6Of, withLink6 } from './uplink6.ts'

/** What of an uplink follows from host and router alone. */
interface Names {
  readonly id: string
  readonly router: string
  readonly interface: string
  readonly datapathInterface: string
  readonly hostMac: string
}

/** Ids of all routers that need an uplink. */
function routersServed(reader: Reader): ReadonlySet<string> {
  const served = new Set<string>()
  for (const network of reader.list('network'))
    if (isServed(network) && network.router !== undefined)
      served.add(network.provider ?? network.router)
  return served
}

/** Whether `planUplinks` would write anything: most changes need no transaction. */
export function needsPlan(reader: Reader, host: string): boolean {
  if (needsTenants(reader)) return true
  const served = routersServed(reader)
  const uplinks = uplinksOf(reader, host)
  if (uplinks.some((uplink) => !served.has(uplink.router) || !isWhole(reader, uplink))) return true
  return routersWithout(reader, host).length > 0
}

/** Routers that need an uplink on `host` and have none, each with the names its uplink will have. */
export function missingUplinks(
  reader: Reader,
  host: string,
): readonly (Names & { readonly mtu: number })[] {
  return routersWithout(reader, host).map((router) => ({
    ...namesFor(host, router),
    mtu: smallestMtu(servedNetworks(reader, router)),
  }))
}

function uplinksOf(reader: Reader, host: string): readonly Uplink[] {
  return reader.list('uplink').filter((uplink) => uplink.host === host)
}

function routersWithout(reader: Reader, host: string): readonly string[] {
  const present = new Set(uplinksOf(reader, host).map((uplink) => uplink.router))
  return [...routersServed(reader)].filter((router) => !present.has(router))
}

function isWhole(reader: Reader, uplink: Uplink): boolean {
  if (reader.get('binding', uplink.id) === undefined) return false
  const ours = reader.get('route', uplinkRoute(uplink.id)) !== undefined
  if (ours === hasOtherDefault(reader, uplink)) return false
  const link = describe(reader, uplink)
  const port = reader.get('port', uplink.id)
  const speaks = port?.kind === 'router' && port.addresses6 !== undefined
  if (speaks !== (link.link6 !== undefined)) return false
  return hasItsRoute6(reader, uplink, link.link6) && hasItsRules(reader, link)
}

/** Makes and removes uplinks of `host` in `draft`; new ones avoid the networks `taken`. */
export function planUplinks(draft: Draft, host: string, taken: readonly Cidr[]): void {
  const served = routersServed(draft)
  // First the links that uplinks lead to.
  planTenants(draft, taken)
  for (const uplink of uplinksOf(draft, host)) {
    if (served.has(uplink.router)) completeUplink(draft, uplink)
    else removeUplink(draft, uplink.id)
  }
  for (const router of routersWithout(draft, host))
    completeUplink(draft, newUplink(draft, host, router, taken))
}

function newUplink(draft: Draft, host: string, router: string, taken: readonly Cidr[]): Uplink {
  const { id, interface: name, hostMac } = namesFor(host, router)
  const others = draft.list('uplink').map((uplink) => toCidr(uplink.hostAddress))
  const network = chooseNetwork(id, [...taken, ...others, ...tenantLinks(draft)])
  return { id, router, host, interface: name, hostMac, hostAddress: `${formatIp(network + 1)}/30` }
}

/** The same host and router give the same names, so that a second try finds the first one's links. */
function namesFor(host: string, router: string): Names {
  const id = createHash('sha256').update(`${host}/${router}`).digest('hex').slice(0, 32)
  return {
    id,
    router,
    interface: `mu${id.slice(0, 11)}`,
    datapathInterface: datapathInterface({ id }),
    hostMac: macOf(id, 0),
  }
}

function completeUplink(draft: Draft, uplink: Uplink): void {
  const { id, router, host } = uplink
  const known = draft.get('port', id)
  if (known === undefined)
    draft.put('port', {
      id,
      kind: 'router',
      router,
      adminUp: true,
      mac: macOf(id, 1),
      addresses: [`${routerAddressOf(uplink)}/30`],
      neighbors: [{ address: hostIp(uplink), mac: uplink.hostMac }],
    })
  if (draft.get('uplink', id) === undefined) draft.put('uplink', uplink)
  if (draft.get('binding', id) === undefined)
    bindPort(draft, { id, host, interface: datapathInterface(uplink) })
  const link = describe(draft, uplink)
  const port = draft.get('port', id)
  if (port?.kind === 'router' && (port.addresses6 === undefined) !== (link.link6 === undefined)) {
    // The route rests on the address.
    if (link.link6 === undefined) completeRoute6(draft, uplink, undefined)
    draft.put('port', withLink6(port, uplink, link.link6))
  }
  completeRoute6(draft, uplink, link.link6)
  completeRules(draft, link)
  const ours = draft.get('route', uplinkRoute(id)) !== undefined
  const others = hasOtherDefault(draft, uplink)
  if (others && ours) draft.delete('route', uplinkRoute(id))
  if (!others && !ours) draft.put('route', defaultRoute(uplink))
}

function describe(reader: Reader, uplink: Uplink): TranslatingLink {
  const ends = { id: uplink.id, inside: routerAddressOf(uplink), outside: hostIp(uplink) }
  const link6 = link6Of(reader, uplink)
  const reached = reachedSubnets(reader, uplink.router)
  return { ...ends, publications: publicationsOf(reader, uplink), reached, link6 }
}

function defaultRoute(uplink: Uplink): Route {
  return {
    id: uplinkRoute(uplink.id),
    router: uplink.router,
    src: anywhere,
    dst: anywhere,
    action: 'port',
    port: uplink.id,
    gateway: hostIp(uplink),
    weight: defaultWeight,
  }
}

/** Whether somebody else gave the router a default route. Other hosts' uplinks are not somebody else. */
function hasOtherDefault(reader: Reader, uplink: Uplink): boolean {
  return reader.list('route').some(
    (route) =>
      route.router === uplink.router &&
      route.dst === anywhere &&
      route.src === anywhere &&
      // Ours are named after their port, and leave by it.
      (route.port === undefined || route.id !== uplinkRoute(route.port)),
  )
}

/** The end of the veth pair that the datapath takes. */
export function datapathInterface(uplink: { readonly id: string }): string {
  return `mn${uplink.id.slice(0, 11)}`
}
