/**
 * Published ports as the host and as the NAT of uplinks and of tenants' links see them. Pure.
 *
 *   host 192.0.2.1:8080 ─▶ uplink 169.254.1.2:8080 ─▶ container 10.1.0.5:80
 *                          uplink 169.254.1.2:8080 ─▶ tenant 169.254.7.2:4711 ─▶ container
 */
import { createHash } from 'node:crypto'
import { parseIp } from '../packet/address.ts'
import type { Publication, Uplink } from '../topology/model.ts'
import type { Reader } from '../topology/store.ts'
import { addressOf, isServed, servedNetworks } from './link.ts'
import { tenantAddressOf } from './tenant-address.ts'

/**
 * One published port. The host gives it to the uplink's address at `linkPort`, with the client's
 * own address left as it is; from there on it is the uplink's to give it to the container.
 */
export interface LinkPublication {
  readonly endpoint: string
  readonly protocol: Publication['protocol']
  /** Undefined: every address of the host. */
  readonly hostAddress: string | undefined
  readonly hostPort: number
  readonly linkPort: number
  /** The container's; or its tenant's link's. */
  readonly address: string
  /** Of what is published on every address of the host. */
  readonly address6?: string | undefined
  readonly port: number
}

interface Unplaced extends Omit<LinkPublication, 'linkPort'> {
  readonly host: string
  readonly router: string
}

/** What containers on an uplink's host publish through it, in an order that does not change. */
export function publicationsOf(reader: Reader, uplink: Uplink): readonly LinkPublication[] {
  const networks = new Set(servedNetworks(reader, uplink.router).map(({ id }) => id))
  const wanted = [...describeAll(reader, networks, uplink.host), ...balancedBy(reader, uplink)]
  const placed = place(wanted, ({ hostAddress, hostPort }) =>
    hostAddress === undefined ? hostPort : hashedPort(`${hostAddress} ${hostPort}`),
  )
  return placed.flatMap((one): LinkPublication[] => {
    if (one.router === uplink.router) return [one]
    // Two steps, where the container is a tenant's.
    const address = tenantAddressOf(reader, one.router)
    const next = tenantPublicationsOf(reader, one.router).find((other) => isSame(one, other))
    if (address === undefined || next === undefined) return []
    return [{ ...one, address, address6: undefined, port: next.linkPort }]
  })
}

/** What the router's load balancer publishes on each host: to its own VIPs. */
function balancedBy(reader: Reader, { router, host }: Uplink): readonly Unplaced[] {
  const balancer = reader.list('loadBalancer').find((one) => one.router === router && one.adminUp)
  if (balancer === undefined) return []
  return reader
    .list('vip')
    .filter(({ loadBalancer, adminUp }) => loadBalancer === balancer.id && adminUp)
    .flatMap(({ id, protocol, address, published = [] }) =>
      published.map(({ hostPort, port }) => ({
        endpoint: id,
        host,
        router,
        protocol,
        hostAddress: undefined,
        hostPort,
        address,
        port,
      })),
    )
    .sort((a, b) => a.protocol.localeCompare(b.protocol) || a.hostPort - b.hostPort)
}

/** What containers of a tenant's router publish, on whatever host. */
export function tenantPublicationsOf(reader: Reader, router: string): readonly Placed[] {
  const networks = reader.list('network').filter((one) => isServed(one) && one.router === router)
  const ids = new Set(networks.map(({ id }) => id))
  // All hosts share the link, so a port says where it was published.
  return place(describeAll(reader, ids, undefined), ({ host, hostAddress, hostPort }) =>
    hashedPort(`${host} ${hostAddress} ${hostPort}`),
  )
}

type Placed = Unplaced & LinkPublication

function isSame(a: Placed, b: Placed): boolean {
  return (
    a.endpoint === b.endpoint &&
    a.protocol === b.protocol &&
    a.hostAddress === b.hostAddress &&
    a.hostPort === b.hostPort
  )
}

function describeAll(
  reader: Reader,
  networks: ReadonlySet<string>,
  host: string | undefined,
): readonly Unplaced[] {
  return reader
    .list('endpoint')
    .filter((one) => networks.has(one.network) && (host === undefined || one.host === host))
    .flatMap(({ id: endpoint, host: own, network, address, address6, publications }) =>
      publications.flatMap((publication): Unplaced[] => {
        const { protocol, hostAddress, hostPort, port } = publication
        const router = reader.get('network', network)?.router
        const everywhere = hostAddress === '' || hostAddress === '0.0.0.0'
        if (address === undefined || router === undefined) return []
        // An IPv6 address of the host: nothing that IPv4 rules could serve.
        if (!everywhere && parseIp(hostAddress) === undefined) return []
        const where = { hostAddress: everywhere ? undefined : hostAddress, hostPort }
        const six = everywhere ? { address6: address6?.split('/')[0] } : {}
        return [
          {
            endpoint,
            host: own,
            router,
            protocol,
            ...where,
            ...six,
            address: addressOf(address),
            port,
          },
        ]
      }),
    )
    .sort(bySpecificAddress)
}

/**
 * The same port of two addresses of the host needs two ports of a link. Each follows from the
 * publication alone unless two happen to meet, so that it stays when others come and go.
 */
function place(wanted: readonly Unplaced[], prefer: (one: Unplaced) => number): readonly Placed[] {
  const taken = new Set<string>()
  const ports = new Map<Unplaced, number>()
  // First those on every address: each keeps its port.
  for (const one of [...wanted].reverse()) {
    let port = prefer(one)
    while (taken.has(`${one.protocol} ${port}`)) port = (port % 65_535) + 1
    taken.add(`${one.protocol} ${port}`)
    ports.set(one, port)
  }
  return wanted.map((one) => ({ ...one, linkPort: ports.get(one) ?? one.hostPort }))
}

function hashedPort(text: string): number {
  return 1 + (createHash('sha256').update(text).digest().readUInt16BE(0) % 65_535)
}

/** A port published on one address is looked for before one published on all of them. */
function bySpecificAddress(a: Unplaced, b: Unplaced): number {
  return (
    Number(a.hostAddress === undefined) - Number(b.hostAddress === undefined) ||
    a.protocol.localeCompare(b.protocol) ||
    a.hostPort - b.hostPort ||
    (a.hostAddress ?? '').localeCompare(b.hostAddress ?? '') ||
    a.host.localeCompare(b.host)
  )
}
