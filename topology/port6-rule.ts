/** Rules about the IPv6 addresses of router ports. */
import { parseIpv6 } from '../packet/address.ts'
import {
  type Cidr6,
  formatCidr6,
  isLinkLocal6,
  networkOf6,
  overlaps6,
  parseCidr6,
  wordsOf6,
} from '../packet/address6.ts'
import { TopologyError } from './error.ts'
import { referenceMark } from './mark.ts'
import type { RouterPort } from './model.ts'
import type { Indexed } from './objects.ts'

/** What no host can have as its own, and what only makes sense with such addresses. */
export function checkAddresses6(port: RouterPort): void {
  for (const [index, cidr] of cidrsOf(port).entries()) {
    const what = oddness(cidr)
    if (what !== undefined)
      throw invalid(`port ${port.id}: addresses6.${index}: that is ${what}; choose a host's`)
  }
  for (const [index, { address }] of (port.neighbors6 ?? []).entries())
    if (isGroup(parseIpv6(address) ?? 0n))
      throw invalid(`port ${port.id}: neighbors6.${index}: ${address} is a group; name a host`)
  if (port.addresses6 !== undefined) return
  for (const field of ['neighbors6', 'advertisement'] as const)
    if (port[field] !== undefined)
      throw invalid(`port ${port.id}: ${field}: the port has no IPv6; give it addresses6`)
}

function oddness({ address, prefixLength }: Cidr6): string | undefined {
  if (isGroup(address)) return 'a group'
  if (address <= 1n) return 'the loopback address or none'
  // RFC 4291 section 2.6.1: the first address of a subnet is any of its routers.
  const isNetwork = prefixLength < 127 && address === networkOf6({ address, prefixLength })
  return isNetwork ? 'the network itself' : undefined
}

function isGroup(address: bigint): boolean {
  return address >> 120n === 0xffn
}

/** Two links of one router share no address, or it could not tell which link a host is on. */
export function checkNoOverlap6(port: RouterPort, outcome: Indexed): void {
  const cidrs = cidrsOf(port).filter(isRouted)
  if (cidrs.length === 0) return
  for (const { kind, id, value } of outcome.holders(referenceMark('router', port.router))) {
    if (kind !== 'port' || value.kind !== 'router' || id === port.id) continue
    for (const other of cidrsOf(value).filter(isRouted)) {
      if (!cidrs.some((cidr) => overlaps6(cidr, other))) continue
      throw new TopologyError(
        'CONFLICT',
        `port ${port.id}: addresses6: ${port.addresses6?.join(', ')} overlaps with ` +
          `${formatCidr6(other)} of port ${id} on router ${port.router}; ` +
          'choose another network or another router',
      )
    }
  }
}

function isRouted({ address }: Cidr6): boolean {
  return !isLinkLocal6(wordsOf6(address)[0])
}

function cidrsOf({ addresses6 }: RouterPort): readonly Cidr6[] {
  return (addresses6 ?? []).flatMap((text) => parseCidr6(text) ?? [])
}

function invalid(message: string): TopologyError {
  return new TopologyError('INVALID', message)
}
