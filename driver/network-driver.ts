/**
 * Docker's NetworkDriver calls. Each may come again, in any order, for unknown ids; those that undo
 * (Leave, Delete…, Revoke…) succeed always: Docker shows their errors to nobody and never tries
 * again.
 */
import { formatCidr, formatIpv6, networkOf, parseCidr, parseMac } from '../packet/address.ts'
import { parseCidr6 } from '../packet/address6.ts'
import type { Endpoint } from '../topology/model.ts'
import type { Draft } from '../topology/store.ts'
import type { Call, DriverContext } from './context.ts'
import { createEndpoint, deleteEndpoint, holderOf } from './endpoint.ts'
import { DriverError } from './error.ts'
import { publishCall, revokeCall } from './external.ts'
import { joinCall, leaveCall, removeLinks, removeLinksLater } from './join.ts'
import { createNetwork, deleteNetwork, type NetworkPlan, releaseEndpoint } from './network.ts'
import { readEndpointOptions, readNetworkOptions } from './options.ts'
import { type NetworkRequest, readRequest, requests } from './request.ts'
import { takenByHost } from './subnet.ts'

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
      'midonet: networks of this name are local to one host; in Swarm name the managed plugin, with its tag',
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
  const plan = { ...planOf(context, request), hostId: context.host }
  context.recent.touch(plan.id)
  await context.turns.take(plan.id, () =>
    context.store.transact((draft) => createNetwork(draft, plan)),
  )
  return {}
}

/** What a network is to be. @throws DriverError when Docker asks for what cannot be */
export function planOf(
  { links }: Pick<DriverContext, 'links'>,
  request: NetworkRequest,
): NetworkPlan {
  return {
    id: request.NetworkID,
    options: readNetworkOptions(request.Options),
    subnets: request.IPv4Data.flatMap(readSubnet),
    subnets6: request.IPv6Data.map(({ Pool, Gateway }) => ({
      subnet: Pool,
      ...(Gateway ? { gateway: Gateway } : {}),
    })),
    host: takenByHost(links),
    newId: () => crypto.randomUUID(),
  }
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
  const { securityGroups } = readEndpointOptions(request.Options)
  const given = request.Interface?.MacAddress || undefined
  const plan = {
    id: request.EndpointID,
    network: request.NetworkID,
    host: context.host,
    address: readAddress(request.Interface?.Address),
    address6: readAddress6(request.Interface?.AddressIPv6),
    mac: readMac(given),
    securityGroups,
  }
  context.recent.touch(plan.id)
  const endpoint = await context.turns.take(plan.id, async () => {
    const { value } = await context.store.transact((draft) => {
      const gone = staleHolder(draft, context.host, plan)
      const links = gone === undefined ? [] : deleteEndpoint(draft, gone.id)
      return { endpoint: createEndpoint(draft, plan), links, gone }
    })
    removeLinks(context, value.links)
    if (value.gone !== undefined) context.report(describeStale(value.gone))
    return value.endpoint
  })
  // A value that Docker gave must not be repeated to it.
  return { Interface: given === undefined ? { MacAddress: endpoint.mac } : {} }
}

function describeStale({ id, address }: Endpoint): string {
  return `endpoint ${id.slice(0, 12)}, which held ${address}, was removed: Docker gave the address again`
}

/**
 * The endpoint of this host (of Swarm: of any) that holds the address of a new one. Docker gives an address again only
 * after it has forgotten who had it, whatever it still owes us of its farewell (it owes some after
 * it was killed); the new one must not be refused for that.
 */
function staleHolder(
  draft: Draft,
  host: string,
  plan: { id: string; network: string; address: string | undefined },
): Endpoint | undefined {
  const network = draft.get('network', plan.network)
  if (plan.address === undefined || network === undefined) return undefined
  const holder = holderOf(draft, network, plan.address)
  if (holder === undefined || holder.id === plan.id) return undefined
  // Swarm's addresses are given by one for all hosts: who held it may be on one that is lost.
  return holder.host === host || network.swarm === true ? holder : undefined
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
  const links = await context.turns.take(EndpointID, async () => {
    if (context.store.get('endpoint', EndpointID) === undefined) return []
    const { value } = await context.store.transact((draft) => releaseEndpoint(draft, EndpointID))
    return value
  })
  void removeLinksLater(context, EndpointID, links)
  return {}
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
