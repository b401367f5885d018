/** Which subnets a new network may have on this host. */

import type { Links } from '../datapath/link.ts'
import { type Cidr, contains, formatCidr, overlaps, parseCidr } from '../packet/address.ts'
import { overlaps6, parseCidr6 } from '../packet/address6.ts'
import type { Network } from '../topology/model.ts'
import { DriverError } from './error.ts'

/** A piece of address space that something on this host uses already. */
export interface TakenSpace {
  readonly cidr: string
  /** Said after "overlaps 10.0.0.0/8 of". */
  readonly owner: string
}

const remedyForWayOut =
  'choose another --subnet, or use --internal or -o org.midonet.gateway=docker for one of them'

/** The host's own addresses and routes, less ours and the default route (also in two halves). */
export function takenByHost(links: Links): readonly TakenSpace[] {
  const ours = /^m[npu][0-9a-f]{11}$/
  const addresses = links
    .addresses()
    .filter((entry) => !ours.test(entry.interface))
    .map((entry) => ({ cidr: entry.cidr, owner: `interface ${entry.interface} of this host` }))
  const routes = links
    .routes()
    .filter((route) => !ours.test(route.interface ?? '') && !/\/[01]$/.test(route.dst))
    .map((route) => ({
      cidr: route.dst,
      owner: `this host's route ${routeName(route.interface, route.gateway)}`,
    }))
  return [...addresses, ...routes]
}

function routeName(name: string | undefined, gateway: string | undefined): string {
  return gateway === undefined ? `to ${name ?? 'it'}` : `via ${gateway}`
}

/** Refuses a network whose subnets collide. @throws DriverError code `OVERLAP` */
export function refuseOverlap(
  network: Network,
  others: readonly Network[],
  host: readonly TakenSpace[],
): void {
  refuseOverlap6(network, others)
  const subnets = network.subnets.flatMap(({ subnet }) => parseCidr(subnet) ?? [])
  subnets.forEach((subnet, index) => {
    if (subnets.slice(index + 1).some((other) => overlaps(subnet, other)))
      throw overlap(subnet, formatCidr(subnet), 'the same network', 'give each --subnet its own')
    for (const other of others) if (other.id !== network.id) refuseNetwork(network, subnet, other)
    if (!hasWayOut(network)) return
    for (const { cidr, owner } of host) {
      const space = parseCidr(cidr)
      if (space !== undefined && overlaps(subnet, space))
        throw overlap(subnet, cidr, owner, remedyForWayOut)
    }
  })
}

/** Whether the host has a route to the network, where no other router has the same subnet. */
function hasWayOut(network: Network): boolean {
  return !network.internal && network.gatewayMode === 'virtual' && network.router !== undefined
}

function refuseNetwork(network: Network, subnet: Cidr, other: Network): void {
  // The same network, of another host's Docker.
  if (network.routerPort !== undefined && network.routerPort === other.routerPort) return
  // Each router's networks are behind its own NAT: only who shares a router must keep apart.
  if (network.router === undefined || network.router !== other.router) return
  for (const taken of other.subnets) {
    const space = parseCidr(taken.subnet)
    if (space === undefined || !overlaps(subnet, space)) continue
    throw overlap(
      subnet,
      taken.subnet,
      `network ${other.id.slice(0, 12)} on the same router`,
      'choose another --subnet or another org.midonet.router',
    )
  }
}

/** Of IPv6, only networks of one router must keep apart. */
function refuseOverlap6(network: Network, others: readonly Network[]): void {
  for (const other of others) {
    if (other.id === network.id || network.router === undefined) continue
    if (network.router !== other.router || network.routerPort === other.routerPort) continue
    for (const { subnet } of network.subnets6)
      for (const { subnet: taken } of other.subnets6) {
        const [own, space] = [parseCidr6(subnet), parseCidr6(taken)]
        if (own === undefined || space === undefined || !overlaps6(own, space)) continue
        const what = `midonet: subnet ${subnet} overlaps ${taken} of network ${other.id.slice(0, 12)}`
        throw new DriverError(
          'OVERLAP',
          `${what} on the same router; choose another --subnet or another org.midonet.router`,
        )
      }
  }
}

function overlap(subnet: Cidr, space: string, owner: string, remedy: string): DriverError {
  const what = `midonet: subnet ${formatCidr(subnet)} overlaps ${space} of ${owner}`
  return new DriverError('OVERLAP', `${what}; ${remedy}`)
}

/** The subnet of a network that an address is in. */
export function subnetOf(
  network: Network,
  address: number,
): Network['subnets'][number] | undefined {
  return network.subnets.find(({ subnet }) => {
    const cidr = parseCidr(subnet)
    return cidr !== undefined && contains(cidr, address)
  })
}
