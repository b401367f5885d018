/**
 * Uplinks as objects of the store: which routers need one on this host, and the transaction that
 * makes or removes router port, binding and default route. Pure.
 */
import { createHash } from 'node:crypto'
import {
  type Cidr,
  formatCidr,
  formatIp,
  networkOf,
  overlaps,
  parseCidr,
} from '../packet/address.ts'
import type { Network, Route, Uplink } from '../topology/model.ts'
import type { Draft, Reader } from '../topology/store.ts'
import { bindPort } from '../topology/tunnel.ts'
import { GatewayError } from './error.ts'

export const limits = {
  /** Link-local /30s: 169.254.0.0 to 169.254.255.255, less what is reserved. */
  pool: 16_384,
} as const

/** What of an uplink follows from host and router alone. */
interface Names {
  readonly id: string
  readonly router: string
  readonly interface: string
  readonly datapathInterface: string
  readonly hostMac: string
}

/** An operator's default route has any weight below this and so goes first. */
const defaultWeight = 1000
const anywhere = '0.0.0.0/0'
/** RFC 3927 reserves the first and last 256 addresses; clouds answer metadata at 169.254.169.254. */
const reserved = ['169.254.0.0/24', '169.254.169.0/24', '169.254.255.0/24'].map(toCidr)

/** Networks of router `id` that leave through our uplink. */
export function servedNetworks(reader: Reader, router: string): readonly Network[] {
  return reader.list('network').filter((network) => isServed(network) && network.router === router)
}

/** Ids of all routers that need an uplink. */
function routersServed(reader: Reader): ReadonlySet<string> {
  const served = new Set<string>()
  for (const network of reader.list('network'))
    if (isServed(network) && network.router !== undefined) served.add(network.router)
  return served
}

function isServed(network: Network): boolean {
  return !network.internal && network.gatewayMode === 'virtual' && network.subnets.length > 0
}

/** Whether `planUplinks` would write anything: most changes need no transaction. */
export function needsPlan(reader: Reader, host: string): boolean {
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
    mtu: uplinkMtu(servedNetworks(reader, router)),
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
  const ours = reader.get('route', routeId(uplink.id)) !== undefined
  return ours !== hasOtherDefault(reader, uplink)
}

/** Makes and removes uplinks of `host` in `draft`; new ones avoid the networks `taken`. */
export function planUplinks(draft: Draft, host: string, taken: readonly Cidr[]): void {
  const served = routersServed(draft)
  for (const uplink of uplinksOf(draft, host)) {
    if (served.has(uplink.router)) completeUplink(draft, uplink)
    else removeUplink(draft, uplink.id)
  }
  for (const router of routersWithout(draft, host))
    completeUplink(draft, newUplink(draft, host, router, taken))
}

/** Removes an uplink and what it consists of. */
export function removeUplink(draft: Draft, id: string): void {
  draft.delete('route', routeId(id))
  draft.delete('binding', id)
  draft.delete('uplink', id)
  draft.delete('port', id)
}

function newUplink(draft: Draft, host: string, router: string, taken: readonly Cidr[]): Uplink {
  const { id, interface: name, hostMac } = namesFor(host, router)
  const others = draft.list('uplink').map((uplink) => toCidr(uplink.hostAddress))
  const network = chooseNetwork(id, [...reserved, ...taken, ...others])
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

/** The first free /30 of 169.254.0.0/16, from a place that the id decides. */
function chooseNetwork(id: string, taken: readonly Cidr[]): number {
  const base = networkOf(toCidr('169.254.0.0/16'))
  const start = Number.parseInt(id.slice(0, 8), 16)
  for (let step = 0; step < limits.pool; step++) {
    const address = base + ((start + step) % limits.pool) * 4
    const candidate = { address, prefixLength: 30 }
    if (!taken.some((cidr) => overlaps(cidr, candidate))) return address
  }
  throw new GatewayError(
    'NO_ADDRESS',
    'no free network of 4 addresses is left in 169.254.0.0/16 for an uplink; remove routers or addresses of that range',
  )
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
  const ours = draft.get('route', routeId(id)) !== undefined
  const others = hasOtherDefault(draft, uplink)
  if (others && ours) draft.delete('route', routeId(id))
  if (!others && !ours) draft.put('route', defaultRoute(uplink))
}

function defaultRoute(uplink: Uplink): Route {
  return {
    id: routeId(uplink.id),
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
      (route.port === undefined || route.id !== routeId(route.port)),
  )
}

function routeId(id: string): string {
  return `${id}-default`
}

/** The smallest of the networks': the host answers larger packets with "fragmentation needed". */
export function uplinkMtu(networks: readonly Network[]): number {
  return Math.min(65_535, ...networks.map(({ mtu }) => mtu))
}

/** The end of the veth pair that the datapath takes. */
export function datapathInterface(uplink: { readonly id: string }): string {
  return `mn${uplink.id.slice(0, 11)}`
}

export function hostIp(uplink: Uplink): string {
  return formatIp(toCidr(uplink.hostAddress).address)
}

/** The router's address on the link: the /30's other host. */
export function routerAddressOf(uplink: Uplink): string {
  return formatIp(networkOf(toCidr(uplink.hostAddress)) + 2)
}

/** A locally administered MAC address made from an id. */
function macOf(id: string, end: number): string {
  const digits = createHash('sha256').update(`${id}/${end}`).digest('hex')
  return `02${[0, 2, 4, 6, 8].map((at) => `:${digits.slice(at, at + 2)}`).join('')}`
}

/** A network that the schema has checked. */
export function toCidr(text: string): Cidr {
  const cidr = parseCidr(text)
  if (cidr !== undefined) return cidr
  throw new GatewayError('FAILED', `${text} is not an IPv4 network`)
}

/** `10.1.0.0/24` of `10.1.0.1/24`. */
export function subnetOf(text: string): string {
  const cidr = toCidr(text)
  return formatCidr({ address: networkOf(cidr), prefixLength: cidr.prefixLength })
}

/** The address of `10.1.0.5/24`. */
export function addressOf(text: string): string {
  return formatIp(toCidr(text).address)
}
