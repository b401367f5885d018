/** An uplink's link as its object tells it, and the networks that leave by it. Pure. */
import {
  type Cidr,
  formatCidr,
  formatIp,
  networkOf,
  overlaps,
  parseCidr,
} from '../packet/address.ts'
import type { Network, Uplink } from '../topology/model.ts'
import type { Reader } from '../topology/store.ts'
import { GatewayError } from './error.ts'

/** Networks that leave through our uplink of a router: its own, and those of its tenants. */
export function servedNetworks(reader: Reader, router: string): readonly Network[] {
  return reader
    .list('network')
    .filter((network) => isServed(network) && (network.provider ?? network.router) === router)
}

/** Whether a network leaves through an uplink of its router. */
export function isServed(network: Network): boolean {
  return !network.internal && network.gatewayMode === 'virtual' && network.subnets.length > 0
}

/**
 * Subnets of a router that its host reaches through the uplink, in order: those that no other router
 * has as well, where an address would say nothing. Tenants' addresses are behind NAT of their own.
 */
export function reachedSubnets(reader: Reader, router: string): readonly string[] {
  const all = reader
    .list('network')
    .filter((network) => isServed(network) && network.provider === undefined)
    .flatMap((network) => network.subnets.map(({ subnet }) => ({ router: network.router, subnet })))
  const isShared = (cidr: Cidr): boolean =>
    all.some((other) => other.router !== router && overlaps(cidr, toCidr(other.subnet)))
  const own = all.filter((one) => one.router === router).map(({ subnet }) => subnetOf(subnet))
  return [...new Set(own)].filter((subnet) => !isShared(toCidr(subnet))).sort()
}

/** The host's address on the link. */
export function hostIp(uplink: Uplink): string {
  return formatIp(toCidr(uplink.hostAddress).address)
}

/** The router's address on the link: the /30's other host. */
export function routerAddressOf(uplink: Uplink): string {
  return formatIp(networkOf(toCidr(uplink.hostAddress)) + 2)
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
