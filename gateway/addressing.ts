/** Addresses, routes and sizes that uplinks and tenants' links choose alike. Pure. */
import { createHash } from 'node:crypto'
import { type Cidr, networkOf, overlaps } from '../packet/address.ts'
import type { Network } from '../topology/model.ts'
import { GatewayError } from './error.ts'
import { toCidr } from './link.ts'

export const limits = {
  /** Link-local /30s: 169.254.0.0 to 169.254.255.255, less what is reserved. */
  pool: 16_384,
} as const

/** An operator's default route has any weight below this and so goes first. */
export const defaultWeight = 1000
export const anywhere = '0.0.0.0/0'
/** RFC 3927 reserves the first and last 256 addresses; clouds answer metadata at 169.254.169.254. */
const reserved = ['169.254.0.0/24', '169.254.169.0/24', '169.254.255.0/24'].map(toCidr)

/** The first free /30 of 169.254.0.0/16, from a place that the id decides. */
export function chooseNetwork(id: string, taken: readonly Cidr[]): number {
  const base = networkOf(toCidr('169.254.0.0/16'))
  const start = Number.parseInt(id.slice(0, 8), 16)
  for (let step = 0; step < limits.pool; step++) {
    const address = base + ((start + step) % limits.pool) * 4
    const candidate = { address, prefixLength: 30 }
    if (![...reserved, ...taken].some((cidr) => overlaps(cidr, candidate))) return address
  }
  throw new GatewayError(
    'NO_ADDRESS',
    'no free network of 4 addresses is left in 169.254.0.0/16 for an uplink; remove routers or addresses of that range',
  )
}

/** The smallest of the networks': the host answers larger packets with "fragmentation needed". */
export function smallestMtu(networks: readonly Network[]): number {
  return Math.min(65_535, ...networks.map(({ mtu }) => mtu))
}

/** A locally administered MAC address made from an id. */
export function macOf(id: string, end: number): string {
  const digits = createHash('sha256').update(`${id}/${end}`).digest('hex')
  return `02${[0, 2, 4, 6, 8].map((at) => `:${digits.slice(at, at + 2)}`).join('')}`
}
