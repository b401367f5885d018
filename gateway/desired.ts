/** What this host should look like, read from the store alone. */
import { overlaps } from '../packet/address.ts'
import type { Publication, Uplink } from '../topology/model.ts'
import type { Reader } from '../topology/store.ts'
import { smallestMtu } from './addressing.ts'
import { hostIp, reachedSubnets, routerAddressOf, servedNetworks, toCidr } from './link.ts'
import { type LinkPublication, publicationsOf } from './publication.ts'
import { datapathInterface } from './uplink.ts'
import { type Link6, link6Of } from './uplink6.ts'

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
  /** Addresses of IPv6, when something behind it speaks that. */
  readonly link6?: Link6 | undefined
  /** What the host reaches through it, in order: subnets that no other router has as well. */
  readonly subnets: readonly string[]
}

/** One published port: traffic to the host that goes to an uplink's address instead. */
export interface DesiredPublication {
  readonly endpoint: string
  readonly protocol: Publication['protocol']
  /** Undefined: every address of the host. */
  readonly hostAddress: string | undefined
  readonly hostPort: number
  readonly address: string
  /** For clients of IPv6. */
  readonly address6?: string | undefined
  readonly port: number
}

export interface DesiredState {
  readonly uplinks: readonly DesiredUplink[]
  readonly publications: readonly DesiredPublication[]
}

/** What host `host` should have, in an order that does not depend on how it came about. */
export function desiredState(store: Reader, host: string): DesiredState {
  const uplinks = store.list('uplink').filter((uplink) => uplink.host === host)
  const desired = uplinks.map((uplink) => describeUplink(store, uplink))
  return {
    uplinks: desired,
    publications: uplinks
      .flatMap((uplink, at) =>
        publicationsOf(store, uplink).flatMap((one) => describePublication(one, desired[at])),
      )
      .sort(bySpecificAddress),
  }
}

function describeUplink(store: Reader, uplink: Uplink): DesiredUplink {
  const networks = servedNetworks(store, uplink.router)
  return {
    id: uplink.id,
    router: store.get('router', uplink.router)?.name ?? uplink.router,
    interface: uplink.interface,
    datapathInterface: datapathInterface(uplink),
    hostAddress: hostIp(uplink),
    hostCidr: uplink.hostAddress,
    hostMac: uplink.hostMac,
    routerAddress: routerAddressOf(uplink),
    mtu: smallestMtu(networks),
    link6: link6Of(store, uplink),
    subnets: reachedSubnets(store, uplink.router),
  }
}

/** The uplink's own NAT knows TCP and UDP; other protocols the host gives to the container. */
function describePublication(
  { endpoint, protocol, hostAddress, hostPort, linkPort, address, address6, port }: LinkPublication,
  uplink: DesiredUplink | undefined,
): readonly DesiredPublication[] {
  if (uplink === undefined) return []
  const common = { endpoint, protocol, hostAddress, hostPort }
  if (protocol !== 'sctp') {
    const six = address6 === undefined ? {} : { address6: uplink.link6?.inside }
    return [{ ...common, address: uplink.routerAddress, ...six, port: linkPort }]
  }
  const isReached = uplink.subnets.some((subnet) =>
    overlaps(toCidr(subnet), toCidr(`${address}/32`)),
  )
  return isReached ? [{ ...common, address, port }] : []
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
