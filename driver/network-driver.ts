/**
 * Docker's NetworkDriver calls. Each may come again, in any order, for ids that are unknown; those
 * that undo (Leave, Delete…, Revoke…) succeed always, since Docker shows their errors to nobody and
 * never repeats them.
 */
import { formatCidr, formatIpv6, networkOf, parseCidr, parseMac } from '../packet/address.ts'
import { parseCidr6 } from '../topology/address6.ts'
import type { Endpoint, Network, Publication } from '../topology/model.ts'
import { type Call, type DriverContext, within } from './context.ts'
import {
  bindEndpoint,
  createEndpoint,
  deleteEndpoint,
  holderOf,
  linkNames,
  publish,
  requireEndpoint,
  requireNetwork,
  unbindEndpoint,
} from './endpoint.ts'
import { DriverError } from './error.ts'
import { createNetwork, deleteNetwork, gatewayFor, siblingRoutes } from './network.ts'
import { checkEndpointOptions, readNetworkOptions } from './options.ts'
import { choosePublications } from './publication.ts'
import { readPortMap, readRequest, requests } from './request.ts'
import { takenByHost } from './subnet.ts'

export const limits = {
  /** The datapath and the gateway have taken a change by then, or the call is taken back. */
  settleMs: 12_000,
} as const

/** The turn of those who choose host ports; no id of Docker's looks like it. */
const publishing = '/publications'

/** By name, as Docker calls them. */
export const networkCalls: Readonly<Record<string, Call>> = {
  'NetworkDriver.CreateNetwork': createNetworkCall,
  'NetworkDriver.DeleteNetwork': deleteNetworkCall,
  'NetworkDriver.CreateEndpoint': createEndpointCall,
  'NetworkDriver.DeleteEndpoint': deleteEndpointCall,
  'NetworkDriver.Join': joinCall,
  'NetworkDriver.Leave': leaveCall,
  'NetworkDriver.ProgramExternalConnectivity': publishCall,
  'NetworkDriver.RevokeExternalConnectivity': revokeCall,
  'NetworkDriver.AllocateNetwork': () => {
    throw new DriverError(
      'INVALID_REQUEST',
      'midonet: networks are local to one host in this version; leave out --scope swarm',
    )
  },
  'NetworkDriver.FreeNetwork': () => ({}),
}

/** An error of these would stop a container's start (EndpointOperInfo), or be of use to nobody. */
export const lenientNetworkCalls: Readonly<Record<string, Call>> = {
  'NetworkDriver.EndpointOperInfo': operInfoCall,
  'NetworkDriver.DiscoverNew': () => ({}),
  'NetworkDriver.DiscoverDelete': () => ({}),
}

async function createNetworkCall(context: DriverContext, body: unknown): Promise<object> {
  const request = readRequest('CreateNetwork', requests.createNetwork, body)
  const plan = {
    id: request.NetworkID,
    options: readNetworkOptions(request.Options),
    subnets: request.IPv4Data.flatMap(readSubnet),
    subnets6: request.IPv6Data.map(({ Pool, Gateway }) => ({
      subnet: Pool,
      ...(Gateway ? { gateway: Gateway } : {}),
    })),
    host: takenByHost(context.links),
    newId: () => crypto.randomUUID(),
  }
  context.recent.touch(plan.id)
  await context.turns.take(plan.id, () =>
    context.store.transact((draft) => createNetwork(draft, plan)),
  )
  return {}
}

function readSubnet({ Pool, Gateway }: { Pool: string; Gateway?: string | null | undefined }) {
  // IPAM driver null: the network has no addresses.
  if (Pool === '0.0.0.0/0') return []
  const pool = parseCidr(Pool)
  if (pool === undefined || networkOf(pool) !== pool.address)
    throw new DriverError('INVALID_REQUEST', `CreateNetwork: ${Pool} is not an IPv4 subnet`)
  if (!Gateway) return [{ subnet: formatCidr(pool) }]
  const gateway = parseCidr(Gateway)
  if (gateway === undefined || gateway.prefixLength !== pool.prefixLength)
    throw new DriverError('INVALID_REQUEST', `CreateNetwork: ${Gateway} is no gateway of ${Pool}`)
  return [{ subnet: formatCidr(pool), gateway: formatCidr(gateway) }]
}

async function deleteNetworkCall(context: DriverContext, body: unknown): Promise<object> {
  const { NetworkID } = readRequest('DeleteNetwork', requests.networkRef, body)
  await context.turns.take(NetworkID, async () => {
    if (context.store.get('network', NetworkID) === undefined) return
    const { value } = await context.store.transact((draft) => deleteNetwork(draft, NetworkID))
    removeLinks(context, value)
  })
  return {}
}

async function createEndpointCall(context: DriverContext, body: unknown): Promise<object> {
  const request = readRequest('CreateEndpoint', requests.createEndpoint, body)
  checkEndpointOptions(request.Options)
  const given = request.Interface?.MacAddress || undefined
  const plan = {
    id: request.EndpointID,
    network: request.NetworkID,
    host: context.host,
    address: readAddress(request.Interface?.Address),
    address6: readAddress6(request.Interface?.AddressIPv6),
    mac: readMac(given),
  }
  context.recent.touch(plan.id)
  const endpoint = await context.turns.take(plan.id, async () => {
    const { value } = await context.store.transact((draft) => {
      const gone = staleHolder(context, plan)
      const links = gone === undefined ? [] : deleteEndpoint(draft, gone.id)
      return { endpoint: createEndpoint(draft, plan), links, gone }
    })
    removeLinks(context, value.links)
    if (value.gone !== undefined)
      context.report(
        `endpoint ${value.gone.id.slice(0, 12)}, which held ${value.gone.address} without a container, was removed`,
      )
    return value.endpoint
  })
  // A value that Docker gave must not be repeated to it.
  return { Interface: given === undefined ? { MacAddress: endpoint.mac } : {} }
}

/**
 * An endpoint that holds the address of a new one, but no container has it any more. Docker gives an
 * address again only after it has forgotten the endpoint; we may have missed its farewell.
 */
function staleHolder(
  { store, links, host, recent }: DriverContext,
  plan: { id: string; network: string; address: string | undefined },
): Endpoint | undefined {
  if (plan.address === undefined) return undefined
  const holder = holderOf(store, plan.network, plan.address)
  if (holder === undefined || holder.id === plan.id || holder.host !== host) return undefined
  const link = links.find(holder.interface ?? linkNames(holder.id).host)
  if (link?.peerElsewhere === true || recent.has(holder.id)) return undefined
  return holder
}

function readAddress(text: string | null | undefined): string | undefined {
  if (!text) return undefined
  const cidr = parseCidr(text)
  if (cidr !== undefined) return formatCidr(cidr)
  throw new DriverError('INVALID_REQUEST', `CreateEndpoint: ${text} is not an IPv4 address`)
}

function readAddress6(text: string | null | undefined): string | undefined {
  if (!text) return undefined
  const cidr = parseCidr6(text)
  if (cidr !== undefined) return `${formatIpv6(cidr.address)}/${cidr.prefixLength}`
  throw new DriverError('INVALID_REQUEST', `CreateEndpoint: ${text} is not an IPv6 address`)
}

function readMac(text: string | undefined): string | undefined {
  if (text === undefined || parseMac(text) !== undefined) return text?.toLowerCase()
  throw new DriverError('INVALID_REQUEST', `CreateEndpoint: ${text} is not a MAC address`)
}

async function deleteEndpointCall(context: DriverContext, body: unknown): Promise<object> {
  const { EndpointID } = readRequest('DeleteEndpoint', requests.endpointRef, body)
  await context.turns.take(EndpointID, async () => {
    if (context.store.get('endpoint', EndpointID) === undefined) return
    const { value } = await context.store.transact((draft) => deleteEndpoint(draft, EndpointID))
    removeLinks(context, value)
  })
  return {}
}

async function joinCall(context: DriverContext, body: unknown): Promise<object> {
  const request = readRequest('Join', requests.join, body)
  const id = request.EndpointID
  context.recent.touch(id)
  context.recent.touch(linkNames(id).host)
  return context.turns.take(id, async () => {
    const endpoint = requireEndpoint(context.store, request.NetworkID, id)
    const network = requireNetwork(context.store, request.NetworkID)
    await attach(context, endpoint, network, request.SandboxKey || undefined)
    return joinAnswer(context, endpoint, network)
  })
}

/** Makes the veth pair and binds it; takes everything back when a step fails. */
async function attach(
  context: DriverContext,
  endpoint: Endpoint,
  network: Network,
  sandbox: string | undefined,
): Promise<void> {
  const { store, links } = context
  const names = linkNames(endpoint.id)
  const bound = endpoint.interface !== undefined && links.find(endpoint.interface) !== undefined
  if (bound && store.get('binding', endpoint.id) !== undefined)
    return settle(context, store.revision)
  // A pair of that name is left from a Join whose end nobody saw.
  links.remove(names.host)
  links.remove(names.peer)
  links.createVeth({
    name: names.host,
    peerName: names.peer,
    peerMac: endpoint.mac,
    mtu: network.mtu,
  })
  try {
    const { revision } = await store.transact((draft) => {
      const current = requireEndpoint(draft, network.id, endpoint.id)
      bindEndpoint(draft, current, names.host, sandbox)
    })
    await settle(context, revision)
  } catch (error) {
    await detach(context, endpoint.id)
    throw error
  }
}

function joinAnswer({ store }: DriverContext, endpoint: Endpoint, network: Network): object {
  const answer = {
    InterfaceName: { SrcName: linkNames(endpoint.id).peer, DstPrefix: 'eth' },
  }
  const gateway = gatewayFor(network, endpoint.address)
  if (network.gatewayMode === 'virtual' && !network.internal)
    // Without a gateway Docker would add its own gateway bridge, which nobody asked for.
    return gateway === undefined
      ? { ...answer, DisableGatewayService: true }
      : { ...answer, Gateway: gateway }
  const routes = siblingRoutes(store, network, gateway)
  const list = routes.map(({ subnet, nextHop }) => ({
    Destination: subnet,
    RouteType: 0,
    NextHop: nextHop,
  }))
  return { ...answer, StaticRoutes: list }
}

async function leaveCall(context: DriverContext, body: unknown): Promise<object> {
  const { EndpointID } = readRequest('Leave', requests.endpointRef, body)
  context.recent.touch(EndpointID)
  await context.turns.take(EndpointID, () => detach(context, EndpointID))
  return {}
}

async function detach(context: DriverContext, id: string): Promise<void> {
  if (context.store.get('endpoint', id) === undefined) return
  try {
    await context.store.transact((draft) => unbindEndpoint(draft, id))
  } finally {
    removeLinks(context, [linkNames(id).host])
  }
}

/** What cannot be removed now is found by the reconciler later. */
function removeLinks({ links, report }: DriverContext, names: readonly string[]): void {
  for (const name of names) {
    try {
      links.remove(name)
    } catch (error) {
      report(`link ${name} could not be removed: ${error instanceof Error ? error.message : error}`)
    }
  }
}

async function publishCall(context: DriverContext, body: unknown): Promise<object> {
  const call = 'ProgramExternalConnectivity'
  const request = readRequest(call, requests.external, body)
  const wanted = readPortMap(request.Options)
  const { store } = context
  await context.turns.take(request.EndpointID, async () => {
    const endpoint = requireEndpoint(store, request.NetworkID, request.EndpointID)
    if (wanted.length === 0 && endpoint.publications.length === 0) return
    // One at a time chooses, so that two do not choose the same port.
    const { revision } = await context.turns.take(publishing, async () => {
      const chosen = await choosePublications(store, endpoint, wanted)
      return store.transact((draft) => publish(draft, endpoint.id, chosen))
    })
    try {
      await settle(context, revision)
    } catch (error) {
      await withdraw(context, endpoint.id, endpoint.publications)
      throw error
    }
  })
  return {}
}

async function revokeCall(context: DriverContext, body: unknown): Promise<object> {
  const call = 'RevokeExternalConnectivity'
  const { EndpointID } = readRequest(call, requests.endpointRef, body)
  await context.turns.take(EndpointID, () => withdraw(context, EndpointID, []))
  return {}
}

async function withdraw(
  { store }: DriverContext,
  id: string,
  rest: readonly Publication[],
): Promise<void> {
  const endpoint = store.get('endpoint', id)
  if (endpoint === undefined || endpoint.publications.length + rest.length === 0) return
  await store.transact((draft) => publish(draft, id, rest))
}

function operInfoCall({ store }: DriverContext, body: unknown): object {
  const { EndpointID } = readRequest('EndpointOperInfo', requests.endpointRef, body)
  const endpoint = store.get('endpoint', EndpointID)
  if (endpoint === undefined) return { Value: {} }
  const network = store.get('network', endpoint.network)
  return {
    Value: {
      'org.midonet.port': endpoint.id,
      'org.midonet.bridge': network?.bridge ?? '',
      'org.midonet.router': network?.router ?? '',
      'org.midonet.interface': endpoint.interface ?? '',
      'org.midonet.mac': endpoint.mac,
    },
  }
}

function settle({ settled }: DriverContext, revision: number): Promise<void> {
  const late = 'midonet: forwarding did not take the change in time; see midonet status'
  return within(limits.settleMs, late, settled(revision))
}
