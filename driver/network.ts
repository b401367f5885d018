/**
 * What a Docker network is in the topology, written on a draft.
 *
 *   bridge ── port `<network>:bridge` ── port `<network>:router` ── router
 *
 * Bridge and router have the network's id unless an option names them. Made ones are deleted with
 * the last network that uses them; ones that were there before stay.
 */
import { parseCidr } from '../packet/address.ts'
import type { Bridge, Network, Router } from '../topology/model.ts'
import type { Draft } from '../topology/store.ts'
import { clusterMtu } from '../topology/tunnel.ts'
import { deleteEndpoint } from './endpoint.ts'
import { DriverError } from './error.ts'
import { macOfGateway } from './mac.ts'
import { limits, type NetworkOptions } from './options.ts'
import { refuseOverlap, subnetOf, type TakenSpace } from './subnet.ts'

export interface NetworkPlan {
  readonly id: string
  readonly options: NetworkOptions
  readonly subnets: Network['subnets']
  readonly subnets6: Network['subnets6']
  /** What this host uses of the address space. */
  readonly host: readonly TakenSpace[]
  /** Whose Docker asks. */
  readonly hostId?: string | undefined
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
    bridge: bridge.device.id,
    ownsBridge: bridge.owned,
    ...(router !== undefined && {
      router: router.device.id,
      ownsRouter: router.owned,
      routerPort: twin?.routerPort ?? `${plan.id}:router`,
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

/** The same network of another host's Docker: same bridge, same subnets; it shares the gateway. */
function findTwin(draft: Draft, plan: NetworkPlan, bridge: string): Twin | undefined {
  for (const other of draft.list('network')) {
    if (other.bridge !== bridge || other.host === plan.hostId || other.id === plan.id) continue
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
  const hasGateway = plan.subnets.some(({ gateway }) => gateway !== undefined)
  if (name === undefined) {
    if (plan.options.internal || !hasGateway) return undefined
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
  const mac = macOfGateway(gateways[0] ?? '')
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
  })
  if (network.internal) refuseWayOut(draft, network, router)
}

/** An internal network may share a router that has a way out; its own packets must not take it. */
function refuseWayOut(draft: Draft, network: Network, router: string): void {
  network.subnets.forEach(({ subnet }, index) => {
    draft.put('route', {
      id: `${network.id}:internal:${index}`,
      router,
      src: subnet,
      dst: '0.0.0.0/0',
      action: 'reject',
      // Before any default route: at equal prefixes the lowest weight wins.
      weight: 0,
    })
  })
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
  const router = network.router
  if (router !== undefined && network.ownsRouter === true)
    if (!others.some((other) => other.router === router)) deleteRouter(draft, router)
  return links
}

/** The first of the hosts' networks gave its id to what the last of them takes away. */
function deleteGateway(draft: Draft, network: Network): void {
  const base = (network.routerPort ?? `${network.id}:router`).replace(/:router$/, '')
  network.subnets.forEach((_, index) => {
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
  const uplinks = draft.list('uplink').filter((uplink) => uplink.router === id)
  const ports = draft.list('port').filter((port) => port.kind === 'router' && port.router === id)
  if (ports.some((port) => !uplinks.some((uplink) => uplink.id === port.id))) return
  for (const route of draft.list('route')) if (route.router === id) draft.delete('route', route.id)
  for (const uplink of uplinks) {
    draft.delete('binding', uplink.id)
    draft.delete('uplink', uplink.id)
    draft.delete('port', uplink.id)
  }
  draft.delete('router', id)
}

/** The subnets behind the same router, with the next hop of each for an endpoint at `address`. */
export function siblingRoutes(
  draft: { list: Draft['list'] },
  network: Network,
  gateway: string | undefined,
): readonly { readonly subnet: string; readonly nextHop: string }[] {
  if (network.router === undefined || gateway === undefined) return []
  return draft
    .list('network')
    .filter((other) => other.router === network.router && other.routerPort !== network.routerPort)
    .flatMap((other) => other.subnets.map(({ subnet }) => ({ subnet, nextHop: gateway })))
}

/** The gateway, without prefix length, of the subnet that `address` is in. */
export function gatewayFor(network: Network, address: string | undefined): string | undefined {
  const parsed = parseCidr(address ?? '')
  if (parsed === undefined || network.routerPort === undefined) return undefined
  return subnetOf(network, parsed.address)?.gateway?.split('/')[0]
}
