/** What a router port has of IPv6. */
import { equalWords6, type Words6 } from '../packet/address6.ts'
import type { AddressTable } from './address-table.ts'
import type { NextHop } from './neighbor.ts'
import { commonBits, type RouteEntry6 } from './route-table6.ts'
import type { LearnedNeighbor, VirtualRouterPort } from './router.ts'

/** An address of the port with its network. */
export interface PortAddress6 {
  readonly words: Words6
  readonly address: bigint
  readonly prefixLength: number
}

/** What the port tells its link, RFC 4861 section 6.2.1. Times in seconds. */
export interface Advertisement {
  readonly interval: number
  readonly lifetime: number
  readonly managed: boolean
  readonly otherConfiguration: boolean
  readonly autonomous: boolean
  readonly valid: number
  readonly preferred: number
}

export interface RouterPort6 {
  /** Configured ones in their order, then the link-local address made of the MAC address. */
  readonly addresses: readonly PortAddress6[]
  readonly linkLocal: PortAddress6
  /** MAC addresses: configured ones, and ones that neighbour discovery taught. */
  readonly neighbors: AddressTable<number>
  readonly learned: AddressTable<LearnedNeighbor>
  readonly told: AddressTable<number>
  /** What `resolveNextHop6` found, until something it used changes. */
  readonly nextHops: AddressTable<NextHop>
  readonly localRoutes: readonly RouteEntry6[]
  /** Routes that leave by the port: in the table while the port is active. */
  readonly routes: Set<RouteEntry6>
  readonly advertisement: Advertisement | undefined
  /** When it is to be sent next. */
  advertiseMs: number
}

/** Whether the address in four words from `at` on is the port's own. */
export function hasAddress6({ six }: VirtualRouterPort, words: Words6): boolean {
  return six?.addresses.some((own) => equalWords6(own.words, words)) === true
}

/** Whether an address is of one of the port's networks, that of link-local addresses included. */
export function sharesLink6({ six }: VirtualRouterPort, words: Words6): boolean {
  return six?.addresses.some((own) => isIn(own, words)) === true
}

function isIn({ words, prefixLength }: PortAddress6, other: Words6): boolean {
  return commonBits(words, 0, other) >= prefixLength
}

/** Of the port's addresses the one to write to `words` from: of its network, else the first. */
export function sourceFor6({ six }: VirtualRouterPort, words: Words6): PortAddress6 | undefined {
  return six?.addresses.find((own) => isIn(own, words)) ?? six?.addresses[0]
}
