/**
 * What a Docker network is in the topology, written on a draft.
 *
 *   bridge ── port `<network>:bridge` ── port `<network>:router` ── router
 *
 * With a provider, the router gets a link to the provider's (gateway/tenant.ts) and no uplink of its
 * own. Bridge and router have the network's id unless an option names them. Made ones are deleted with
 * the last network that uses them; ones that were there before stay.
 */
import { parseCidr } from '../packet/address.ts'
import { contains6, formatCidr6, networkOf6, parseCidr6 } from '../packet/address6.ts'
import type { Bridge, Endpoint, Network, Router } from '../topology/model.ts'
import type { Draft } from '../topology/store.ts'
import { clusterMtu } from '../topology/tunnel.ts'
import { removeTenantLink, removeUplink } from '../topology/uplink.ts'
import { deleteEndpoint } from './endpoint.ts'
import { DriverError } from './error.ts'
import { macOfGateway } from './mac.ts'
import { limits, type NetworkOptions } from './options.ts'
import { findProvider, putProvider } from './provider.ts'
import { removeServices } from './service.ts'
import { refuseOverlap, subnetOf, type TakenSpace } from './subnet.ts'

export interface NetworkPlan {
  readonly id: string
  readonly options: NetworkOptions
  readonly subnets: Network['subnets']
  readonly subnets6: Network['subnets6']
  /** What this host uses of the address space. */
  readonly host: readonly TakenSpace[]
  /** Whose Docker asks; none for Swarm's networks. */
  readonly hostId?: string | undefined
  /** One for all hosts of a Swarm. */
  readonly swarm?: boolean
  /** Whether a CNI runtime asks, and not Docker. */
  readonly isCni?: boolean
  /** Ids for a named bridge or router that must be made. */
  readonly newId: () => string
}

/** Writes a network; the same again changes nothing. @throws DriverError `OVERLAP`, `CONFLICT` */
export function createNetwork(draft: Draft, plan: NetworkPlan): Network {
  const existing = draft.get('network', plan.id)
  if (existing !== undefined) {
    if (isSame(existing, plan)) return existing
    const what = `midonet: network ${plan.id.slice(0, 12)} exists with other settings`
    throw new DriverError('CONFLICT', `${what}; remove it first`)
  }
  const bridge = findBridge(draft, plan)
  const twin = findTwin(draft, plan, bridge.device.id)
  const router = twin?.router ?? findRouter(draft, plan)
  const network: Network = {
    id: plan.id,
    ...(plan.hostId !== undefined && { host: plan.hostId }),
    ...(plan.swarm === true && { swarm: true }),
    bridge: bridge.device.id,
    ownsBridge: bridge.owned,
    ...(router !== undefined && {
      router: router.device.id,
      ownsRouter: router.owned,
      routerPort: twin?.routerPort ?? `${plan.id}:router`,
      ...findProvider(draft, plan, router.device),
    }),
    subnets: [...plan.subnets],
    subnets6: [...plan.subnets6],
    internal: plan.options.internal,
    gatewayMode: plan.options.gatewayMode,
    mtu: mtuOf(draft, plan),
    options: { ...plan.options.given },
  }
  refuseOverlap(network, draft.list('network'), plan.host)
  // Routers tell senders of larger networks the MTU of this one.
  if (draft.get('bridge', bridge.device.id) === undefined)
    draft.put('bridge', { ...bridge.device, mtu: network.mtu })
  if (router !== undefined) {
    if (draft.get('router', router.device.id) === undefined) draft.put('router', router.device)
    putProvider(draft, network, plan.options.provider)
    if (twin === undefined) putGateway(draft, network, router.device.id)
  }
  draft.put('network', network)
  return network
}

/** What was asked for; else what fits into the tunnels between hosts; else the usual. */
function mtuOf(draft: Draft, { options }: NetworkPlan): number {
  const isAsked = Object.keys(options.given).some((key) => key.endsWith('mtu'))
  const fits = isAsked ? undefined : clusterMtu(draft)
  return fits === undefined ? options.mtu : Math.min(Math.max(fits, limits.mtuMin), limits.mtuMax)
}

interface Twin {
  readonly router: Found<Router>
  readonly routerPort: string
}

/**
 * The same network of another host, or of Docker beside CNI: same bridge, same subnets; it shares
 * the gateway.
 */
function findTwin(draft: Draft, plan: NetworkPlan, bridge: string): Twin | undefined {
  for (const other of draft.list('network')) {
    if (other.bridge !== bridge || other.id === plan.id) continue
    const isOfOurs = other.host === plan.hostId
    if (isOfOurs && (other.cni !== undefined) === (plan.isCni === true)) continue
    if (JSON.stringify(other.subnets) !== JSON.stringify(plan.subnets)) continue
    const device = other.router === undefined ? undefined : draft.get('router', other.router)
    if (device === undefined || other.routerPort === undefined) continue
    const named = plan.options.router
    if (named !== undefined && named !== device.name) continue
    return { router: { device, owned: other.ownsRouter ?? false }, routerPort: other.routerPort }
  }
  return undefined
}

/** Whether a network was made from the same request. */
function isSame(network: Network, plan: NetworkPlan): boolean {
  const { options } = plan
  // An MTU that was asked for is among the options.
  const asked = [plan.subnets, plan.subnets6, options.internal, sorted(options.given)]
  const made = [network.subnets, network.subnets6, network.internal, sorted(network.options)]
  return JSON.stringify(asked) === JSON.stringify(made)
}

function sorted(record: Readonly<Record<string, string>>): readonly (readonly string[])[] {
  return Object.entries(record).sort(([a], [b]) => (a < b ? -1 : 1))
}

interface Found<T> {
  readonly device: T
  /** Made for Docker's networks, now or by an earlier one. */
  readonly owned: boolean
}

function findBridge(draft: Draft, plan: NetworkPlan): Found<Bridge> {
  const name = plan.options.bridge
  if (name === undefined) return { device: { id: plan.id, adminUp: true }, owned: true }
  const device = draft.get('bridge', name) ?? draft.list('bridge').find((b) => b.name === name)
  if (device === undefined) {
    if (name.length > 63)
      throw new DriverError('NOT_FOUND', `midonet: no bridge has the id ${name}; give its name`)
    return { device: { id: plan.newId(), name, adminUp: true }, owned: true }
  }
  const users = draft.list('network').filter((network) => network.bridge === device.id)
  return { device, owned: users.some((network) => network.ownsBridge) }
}

function findRouter(draft: Draft, plan: NetworkPlan): Found<Router> | undefined {
  const name = plan.options.router
  const all = [...plan.subnets, ...plan.subnets6]
  const hasGateway = all.some(({ gateway }) => gateway !== undefined)
  if (name === undefined) {
    // Of Swarm's an internal one needs it for the addresses of its services.
    if (!hasGateway || (plan.options.internal && plan.swarm !== true)) return undefined
    return { device: { id: plan.id, adminUp: true }, owned: true }
  }
  if (!hasGateway)
    throw new DriverError(
      'INVALID_OPTION',
      `midonet: router ${name} needs a gateway on this network; give --subnet or name no router`,
    )
  const device = draft.list('router').find((router) => router.name === name)
  if (device === undefined)
    return { device: { id: plan.newId(), name, adminUp: true }, owned: true }
  const users = draft.list('network').filter((network) => network.router === device.id)
  return { device, owned: users.some((network) => network.ownsRouter === true) }
}

/** Links bridge and router, with the gateway addresses on the router's side. */
function putGateway(draft: Draft, network: Network, router: string): void {
  const gateways = network.subnets.flatMap(({ gateway }) => gateway ?? [])
  const gateways6 = network.subnets6.flatMap(({ gateway }) => gateway ?? [])
  const mac = macOfGateway(gateways[0] ?? gateways6[0] ?? '')
  const bridgePort = `${network.id}:bridge`
  const routerPort = `${network.id}:router`
  draft.put('port', {
    id: bridgePort,
    kind: 'bridge',
    bridge: network.bridge,
    adminUp: true,
    peer: routerPort,
  })
  draft.put('port', {
    id: routerPort,
    kind: 'router',
    router,
    adminUp: true,
    peer: bridgePort,
    mac,
    addresses: gateways,
    // No router advertisements: Docker sets addresses and routes itself, and a container does not
    // start when its kernel has learned the same default route just before.
    ...(gateways6.length > 0 && { addresses6: gateways6 }),
  })
  if (network.internal) refuseWayOut(draft, network, router)
}

/** An internal network may share a router that has a way out; its own packets must not take it. */
function refuseWayOut(draft: Draft, network: Network, router: string): void {
  const own = [...network.subnets, ...network.subnets6]
  own.forEach(({ subnet }, index) => {
    draft.put('route', {
      id: `${network.id}:internal:${index}`,
      router,
      src: networkText(subnet),
      dst: subnet.includes(':') ? '::/0' : '0.0.0.0/0',
      action: 'reject',
      // Before any default route: at equal prefixes the lowest weight wins.
      weight: 0,
    })
  })
}

/** Docker may give an IPv6 network with host bits. */
function networkText(subnet: string): string {
  const cidr = parseCidr6(subnet)
  return cidr === undefined ? subnet : formatCidr6({ ...cidr, address: networkOf6(cidr) })
}

/** Removes a network with all that is its own. Returns the links that are left without a use. */
export function deleteNetwork(draft: Draft, id: string): readonly string[] {
  const network = draft.get('network', id)
  if (network === undefined) return []
  const links = draft
    .list('endpoint')
    .filter((endpoint) => endpoint.network === id)
    .flatMap((endpoint) => deleteEndpoint(draft, endpoint.id))
  draft.delete('network', id)
  const others = draft.list('network')
  if (!others.some(({ routerPort }) => routerPort && routerPort === network.routerPort))
    deleteGateway(draft, network)
  const usesBridge = others.some((other) => other.bridge === network.bridge)
  if (network.ownsBridge && !usesBridge) deleteBridge(draft, network.bridge)
  const { router, provider } = network
  const isUsed = (id: string) =>
    others.some((other) => other.router === id || other.provider === id)
  if (router !== undefined && !others.some((other) => other.router === router)) {
    removeTenantLink(draft, router)
    if (network.ownsRouter === true && !isUsed(router)) deleteRouter(draft, router)
  }
  if (provider !== undefined && network.ownsProvider === true && !isUsed(provider))
    deleteRouter(draft, provider)
  return links
}

/** Removes an endpoint, and with the last of a network that Swarm has freed the network. */
export function releaseEndpoint(draft: Draft, id: string): readonly string[] {
  const network = draft.get('endpoint', id)?.network
  const links = deleteEndpoint(draft, id)
  if (network === undefined || draft.get('network', network)?.freed !== true) return links
  return [...links, ...freeNetwork(draft, network)]
}

/**
 * Swarm has a network no more. It does so seconds before its last tasks end, so the network stays
 * until they have left. Returns the links that are left without a use.
 */
export function freeNetwork(draft: Draft, id: string): readonly string[] {
  const network = draft.get('network', id)
  if (network === undefined) return []
  if (!draft.list('endpoint').some((endpoint) => endpoint.network === id))
    return deleteNetwork(draft, id)
  if (network.freed !== true) draft.put('network', { ...network, freed: true })
  return []
}

/** The first of the hosts' networks gave its id to what the last of them takes away. */
function deleteGateway(draft: Draft, network: Network): void {
  const base = (network.routerPort ?? `${network.id}:router`).replace(/:router$/, '')
  const own = [...network.subnets, ...network.subnets6]
  own.forEach((_, index) => {
    draft.delete('route', `${base}:internal:${index}`)
  })
  draft.delete('port', `${base}:bridge`)
  draft.delete('port', `${base}:router`)
}

function deleteBridge(draft: Draft, id: string): void {
  const ports = draft.list('port').filter((port) => port.kind === 'bridge' && port.bridge === id)
  // Somebody else has built on it since.
  if (ports.length === 0) draft.delete('bridge', id)
}

/** A router's uplinks go with it; a router with other ports belongs to somebody by now. */
function deleteRouter(draft: Draft, id: string): void {
  removeServices(draft, id)
  const uplinks = draft.list('uplink').filter((uplink) => uplink.router === id)
  const ports = draft.list('port').filter((port) => port.kind === 'router' && port.router === id)
  if (ports.some((port) => !uplinks.some((uplink) => uplink.id === port.id))) return
  for (const route of draft.list('route')) if (route.router === id) draft.delete('route', route.id)
  for (const uplink of uplinks) removeUplink(draft, uplink.id)
  draft.delete('router', id)
}

/** The subnets behind the same router, with the next hop of each for an endpoint at `address`. */
export function siblingRoutes(
  draft: { list: Draft['list'] },
  network: Network,
  gateways: Gateways,
): readonly { readonly subnet: string; readonly nextHop: string }[] {
  if (network.router === undefined) return []
  const { four, six } = gateways
  const by = (subnets: Network['subnets'], nextHop: string | undefined) =>
    nextHop === undefined ? [] : subnets.map(({ subnet }) => ({ subnet, nextHop }))
  return draft
    .list('network')
    .filter((other) => other.router === network.router && other.routerPort !== network.routerPort)
    .flatMap((other) => [...by(other.subnets, four), ...by(other.subnets6, six)])
}

/** The gateway of an endpoint in each family, without prefix length. */
export interface Gateways {
  readonly four: string | undefined
  readonly six: string | undefined
}

/** The gateways of the subnets that an endpoint's addresses are in. */
export function gatewaysFor(network: Network, endpoint: Endpoint): Gateways {
  if (network.routerPort === undefined) return { four: undefined, six: undefined }
  const four = parseCidr(endpoint.address ?? '')
  const six = parseCidr6(endpoint.address6 ?? '')
  const subnet6 = network.subnets6.find(({ subnet }) => {
    const cidr = parseCidr6(subnet)
    return cidr !== undefined && six !== undefined && contains6(cidr, six.address)
  })
  return {
    four: four && subnetOf(network, four.address)?.gateway?.split('/')[0],
    six: subnet6?.gateway?.split('/')[0],
  }
}
