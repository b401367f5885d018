/** What this host should look like, read from the store alone. */
import { parseIp } from '../packet/address.ts'
import type { Endpoint, Network, Publication, Uplink } from '../topology/model.ts'
import type { Reader } from '../topology/store.ts'
import {
  addressOf,
  datapathInterface,
  hostIp,
  routerAddressOf,
  servedNetworks,
  subnetOf,
  uplinkMtu,
} from './uplink.ts'

/** One router's link to this host. */
export interface DesiredUplink {
  readonly id: string
  /** The router's name, or its id when it has none. */
  readonly router: string
  readonly interface: string
  readonly datapathInterface: string
  readonly hostAddress: string
  readonly hostCidr: string
  readonly hostMac: string
  readonly routerAddress: string
  readonly mtu: number
  /** What is reached through it, in order. */
  readonly subnets: readonly string[]
}

/** One published port: traffic to the host that goes to a container instead. */
export interface DesiredPublication {
  readonly endpoint: string
  readonly protocol: Publication['protocol']
  /** Undefined: every address of the host. */
  readonly hostAddress: string | undefined
  readonly hostPort: number
  readonly address: string
  readonly port: number
}

export interface DesiredState {
  readonly uplinks: readonly DesiredUplink[]
  readonly publications: readonly DesiredPublication[]
}

/** What host `host` should have, in an order that does not depend on how it came about. */
export function desiredState(store: Reader, host: string): DesiredState {
  const uplinks = store
    .list('uplink')
    .filter((uplink) => uplink.host === host)
    .map((uplink) => describeUplink(store, uplink))
  const served = new Set(uplinks.flatMap(({ networks }) => networks.map(({ id }) => id)))
  return {
    uplinks: uplinks.map(({ desired }) => desired),
    publications: store
      .list('endpoint')
      .filter((endpoint) => endpoint.host === host && served.has(endpoint.network))
      .flatMap(describePublications)
      .sort(bySpecificAddress),
  }
}

function describeUplink(
  store: Reader,
  uplink: Uplink,
): { readonly desired: DesiredUplink; readonly networks: readonly Network[] } {
  const networks = servedNetworks(store, uplink.router)
  const subnets = networks.flatMap((network) => network.subnets.map(({ subnet }) => subnet))
  const desired = {
    id: uplink.id,
    router: store.get('router', uplink.router)?.name ?? uplink.router,
    interface: uplink.interface,
    datapathInterface: datapathInterface(uplink),
    hostAddress: hostIp(uplink),
    hostCidr: uplink.hostAddress,
    hostMac: uplink.hostMac,
    routerAddress: routerAddressOf(uplink),
    mtu: uplinkMtu(networks),
    subnets: [...new Set(subnets.map(subnetOf))].sort(),
  }
  return { desired, networks }
}

function describePublications(endpoint: Endpoint): readonly DesiredPublication[] {
  const { address } = endpoint
  if (address === undefined) return []
  return endpoint.publications.flatMap((publication) => {
    const { protocol, hostAddress, hostPort, port } = publication
    const everywhere = hostAddress === '' || hostAddress === '0.0.0.0'
    // An IPv6 address of the host: nothing that IPv4 rules could serve.
    if (!everywhere && parseIp(hostAddress) === undefined) return []
    return {
      endpoint: endpoint.id,
      protocol,
      hostAddress: everywhere ? undefined : hostAddress,
      hostPort,
      address: addressOf(address),
      port,
    }
  })
}

/** A port published on one address is looked for before one published on all of them. */
function bySpecificAddress(a: DesiredPublication, b: DesiredPublication): number {
  return (
    Number(a.hostAddress === undefined) - Number(b.hostAddress === undefined) ||
    a.protocol.localeCompare(b.protocol) ||
    a.hostPort - b.hostPort ||
    (a.hostAddress ?? '').localeCompare(b.hostAddress ?? '')
  )
}

/** UDP ports of the host that lead elsewhere than before, or are new or gone. */
export function changedUdpPorts(before: DesiredState, after: DesiredState): readonly number[] {
  const targets = ({ publications }: DesiredState) =>
    new Map(
      publications
        .filter(({ protocol }) => protocol === 'udp')
        .map((p) => [`${p.hostAddress} ${p.hostPort} ${p.address} ${p.port}`, p.hostPort]),
    )
  const [old, now] = [targets(before), targets(after)]
  const differing = [
    ...[...old].filter(([target]) => !now.has(target)),
    ...[...now].filter(([target]) => !old.has(target)),
  ]
  return differing.map(([, port]) => port)
}
