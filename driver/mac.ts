/** MAC addresses made from IP addresses: an endpoint keeps its MAC over restarts. */
import { createHash } from 'node:crypto'
import { formatMac, parseCidr } from '../packet/address.ts'

/** Locally administered; the second octet is "m", "n" or "6", the last four tell the address. */
const prefixes = { endpoint: 0x026d, gateway: 0x026e, other: 0x0236 } as const

/** The MAC of an endpoint for which Docker gave none; from `seed` when it has no IPv4 address. */
export function macOfEndpoint(address: string | undefined, seed: string): string {
  const parsed = parseCidr(address ?? '')
  if (parsed !== undefined) return make(prefixes.endpoint, parsed.address)
  return make(prefixes.other, createHash('sha256').update(seed).digest().readUInt32BE())
}

/** The MAC of the router's port with this address. */
export function macOfGateway(gateway: string): string {
  const parsed = parseCidr(gateway)
  if (parsed !== undefined) return make(prefixes.gateway, parsed.address)
  return make(prefixes.gateway, createHash('sha256').update(gateway).digest().readUInt32BE())
}

function make(prefix: number, low: number): string {
  return formatMac(prefix * 0x1_0000_0000 + low)
}
