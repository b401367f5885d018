/**
 * What a Docker endpoint is in the topology, written on a draft: a port with the endpoint's id that
 * knows its one station, and, while a container has it, a binding to the host end of a veth pair.
 */
import { createHash } from 'node:crypto'
import { parseCidr } from '../packet/address.ts'
import { stationMark } from '../topology/mark.ts'
import type { Endpoint, Network, Publication } from '../topology/model.ts'
import type { Draft, Reader } from '../topology/store.ts'
import { bindPort } from '../topology/tunnel.ts'
import { DriverError } from './error.ts'
import { macOfEndpoint } from './mac.ts'
import { joinGroups, leaveGroups } from './security-group.ts'
import { subnetOf } from './subnet.ts'

export interface EndpointPlan {
  readonly id: string
  readonly network: string
  readonly host: string
  /** With prefix length. */
  readonly address: string | undefined
  readonly address6: string | undefined
  /** Undefined leaves the choice to us. */
  readonly mac: string | undefined
  readonly securityGroups: readonly string[]
}

/** Names of the veth pair: the end that stays and the end that Docker takes. */
export function linkNames(id: string): { readonly host: string; readonly peer: string } {
  const hex = /^[0-9a-f]{11}/.exec(id)?.[0] ?? createHash('sha256').update(id).digest('hex')
  return { host: `mn${hex.slice(0, 11)}`, peer: `mp${hex.slice(0, 11)}` }
}

/** An endpoint that must be there. @throws DriverError code `NOT_FOUND` */
export function requireEndpoint(reader: Reader, network: string, id: string): Endpoint {
  const endpoint = reader.get('endpoint', id)
  if (endpoint !== undefined && endpoint.network === network) return endpoint
  const what = `midonet: endpoint ${id.slice(0, 12)} of network ${network.slice(0, 12)} is unknown`
  throw new DriverError('NOT_FOUND', `${what}; start the container again`)
}

/** A network that must be there. @throws DriverError code `NOT_FOUND` */
export function requireNetwork(reader: Reader, id: string): Network {
  const network = reader.get('network', id)
  if (network !== undefined) return network
  const what = `midonet: network ${id.slice(0, 12)} is unknown`
  throw new DriverError('NOT_FOUND', `${what}; remove it (docker network rm) and create it again`)
}

/** Writes an endpoint; the same again changes nothing. @throws DriverError code `CONFLICT` */
export function createEndpoint(draft: Draft, plan: EndpointPlan): Endpoint {
  const network = requireNetwork(draft, plan.network)
  const mac = plan.mac ?? macOfEndpoint(plan.address, plan.address6 ?? plan.id)
  const endpoint: Endpoint = {
    id: plan.id,
    network: network.id,
    host: plan.host,
    mac,
    ...(plan.address !== undefined && { address: plan.address }),
    ...(plan.address6 !== undefined && { address6: plan.address6 }),
    publications: [],
    ...(plan.securityGroups.length > 0 && { securityGroups: [...plan.securityGroups] }),
  }
  const existing = draft.get('endpoint', plan.id)
  if (existing !== undefined) {
    if (isSame(existing, endpoint)) return existing
    const what = `midonet: endpoint ${plan.id.slice(0, 12)} exists with other settings`
    throw new DriverError('CONFLICT', `${what}; start the container again`)
  }
  refuseAddress(network, plan.address)
  draft.put('port', {
    id: plan.id,
    kind: 'bridge',
    bridge: network.bridge,
    adminUp: true,
    ...(plan.securityGroups.length > 0 && joinGroups(draft, endpoint, plan.securityGroups)),
    stations: [
      {
        mac,
        addresses: plan.address === undefined ? [] : [hostPart(plan.address)],
        ...(plan.address6 !== undefined && { addresses6: [hostPart(plan.address6)] }),
      },
    ],
  })
  draft.put('endpoint', endpoint)
  return endpoint
}

function isSame(a: Endpoint, b: Endpoint): boolean {
  const facts = (e: Endpoint) => [
    ...[e.network, e.host, e.mac, e.address, e.address6],
    // Of a label the driver's calls know nothing.
    e.groupsLabel === undefined ? e.securityGroups : undefined,
  ]
  return JSON.stringify(facts(a)) === JSON.stringify(facts(b))
}

function hostPart(cidr: string): string {
  return cidr.split('/')[0] ?? ''
}

function refuseAddress(network: Network, address: string | undefined): void {
  const parsed = parseCidr(address ?? '')
  // Without subnets (IPAM driver null) any address may be used.
  if (parsed === undefined || network.subnets.length === 0) return
  if (subnetOf(network, parsed.address) !== undefined) return
  const subnets = network.subnets.map(({ subnet }) => subnet).join(', ')
  throw new DriverError(
    'CONFLICT',
    `midonet: address ${address} is outside the network's ${subnets}`,
  )
}

/** Who holds an address on a network. Its port, which has the endpoint's id, claims it. */
export function holderOf(draft: Draft, network: Network, address: string): Endpoint | undefined {
  for (const { kind, id } of draft.holders(stationMark(network.bridge, hostPart(address)))) {
    const endpoint = kind === 'port' ? draft.get('endpoint', id) : undefined
    if (endpoint?.network === network.id && endpoint.address === address) return endpoint
  }
  return undefined
}

/** Writes that a container has the endpoint, by the link `name`. */
export function bindEndpoint(
  draft: Draft,
  endpoint: Endpoint,
  name: string,
  sandbox: string | undefined,
): void {
  draft.put('endpoint', {
    ...endpoint,
    interface: name,
    ...(sandbox !== undefined && { sandbox }),
  })
  bindPort(draft, { id: endpoint.id, host: endpoint.host, interface: name })
}

/** Writes that no container has the endpoint. */
export function unbindEndpoint(draft: Draft, id: string): void {
  const endpoint = draft.get('endpoint', id)
  if (endpoint === undefined) return
  draft.delete('binding', id)
  const { interface: link, sandbox: _, ...rest } = endpoint
  if (link === undefined && endpoint.publications.length === 0) return
  draft.put('endpoint', { ...rest, publications: [] })
}

/** Removes an endpoint. Returns the links that are left without a use. */
export function deleteEndpoint(draft: Draft, id: string): readonly string[] {
  const endpoint = draft.get('endpoint', id)
  if (endpoint === undefined) return []
  draft.delete('binding', id)
  draft.delete('endpoint', id)
  draft.delete('port', id)
  // Its host may not be there to take it back, or may have written it again with a new lease.
  draft.delete('portActive', id)
  leaveGroups(draft, endpoint)
  return [endpoint.interface ?? linkNames(id).host]
}

/** Writes an endpoint's published ports. @throws DriverError code `PORT_IN_USE` */
export function publish(draft: Draft, id: string, publications: readonly Publication[]): void {
  const endpoint = draft.get('endpoint', id)
  if (endpoint === undefined) return
  for (const publication of publications) {
    const holder = publisherOf(draft, endpoint, publication)
    if (holder !== undefined) throw portTaken(publication)
  }
  if (JSON.stringify(endpoint.publications) !== JSON.stringify(publications))
    draft.put('endpoint', { ...endpoint, publications: [...publications] })
}

/** The other endpoint of the same host that publishes the same port of it. */
export function publisherOf(
  reader: Reader,
  endpoint: Endpoint,
  wanted: Publication,
): Endpoint | undefined {
  return reader
    .list('endpoint')
    .find(
      (other) =>
        other.id !== endpoint.id &&
        other.host === endpoint.host &&
        other.publications.some((publication) => collides(publication, wanted)),
    )
}

/** Whether two published ports would be the same port of the host. */
export function collides(a: Publication, b: Publication): boolean {
  if (a.protocol !== b.protocol || a.hostPort !== b.hostPort) return false
  return a.hostAddress === b.hostAddress || a.hostAddress === any || b.hostAddress === any
}

const any = '0.0.0.0'

/** The sentence that Docker's users know. */
export function portTaken({ hostAddress, hostPort }: Publication): DriverError {
  const what = `Bind for ${hostAddress}:${hostPort} failed: port is already allocated`
  return new DriverError('PORT_IN_USE', what)
}
