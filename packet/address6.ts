/**
 * IPv6 addresses and networks. Where each packet's addresses are compared they are four words of
 * 32 bits, as the flow key has them; elsewhere bigints, and text at the rim.
 */
import { formatIpv6, parseIpv6 } from './address.ts'

/** An IPv6 network: `address` has its host bits as given. */
export interface Cidr6 {
  readonly address: bigint
  readonly prefixLength: number
}

/** An address as four unsigned words, most significant first. */
export type Words6 = readonly [number, number, number, number]

/** `fd00::/64`; undefined when it is not an IPv6 network. */
export function parseCidr6(text: string): Cidr6 | undefined {
  const match = text.match(/^([0-9a-f:.]{2,45})\/(0|[1-9]\d{0,2})$/i)
  const address = parseIpv6(match?.[1] ?? 'none')
  const prefixLength = Number(match?.[2])
  if (address === undefined || prefixLength > 128) return undefined
  return { address, prefixLength }
}

export function formatCidr6({ address, prefixLength }: Cidr6): string {
  return `${formatIpv6(address)}/${prefixLength}`
}

/** First address of the network. */
export function networkOf6({ address, prefixLength }: Cidr6): bigint {
  const hostBits = BigInt(128 - prefixLength)
  return (address >> hostBits) << hostBits
}

export function contains6(cidr: Cidr6, address: bigint): boolean {
  return networkOf6({ address, prefixLength: cidr.prefixLength }) === networkOf6(cidr)
}

/** Whether two networks share an address. */
export function overlaps6(a: Cidr6, b: Cidr6): boolean {
  return a.prefixLength <= b.prefixLength ? contains6(a, b.address) : contains6(b, a.address)
}

export function wordsOf6(address: bigint): Words6 {
  const word = (shift: bigint) => Number((address >> shift) & 0xffff_ffffn)
  return [word(96n), word(64n), word(32n), word(0n)]
}

export function addressOf6([a, b, c, d]: Words6): bigint {
  return (BigInt(a) << 96n) | (BigInt(b) << 64n) | (BigInt(c) << 32n) | BigInt(d)
}

export function formatWords6(words: Words6): string {
  return formatIpv6(addressOf6(words))
}

export function equalWords6(a: Words6, b: Words6): boolean {
  return a[0] === b[0] && a[1] === b[1] && a[2] === b[2] && a[3] === b[3]
}

/** fe80::/10 */
export function isLinkLocal6(first: number): boolean {
  return first >>> 22 === 0x3fa
}

/** The link-local address that an interface with this MAC has: RFC 4291 appendix A. */
export function linkLocalOf(mac: number): bigint {
  const high = Math.floor(mac / 0x100_0000) ^ 0x02_0000
  const low = mac % 0x100_0000
  return (0xfe80n << 112n) | (BigInt(high) << 40n) | (0xfffen << 24n) | BigInt(low)
}

/** The multicast MAC address of a group: RFC 2464 section 7. */
export function groupMacOf6(address: bigint): number {
  return 0x3333_0000_0000 + Number(address & 0xffff_ffffn)
}

/** The group that whoever has the address listens to: RFC 4291 section 2.7.1. */
export function solicitedNodeOf(address: bigint): bigint {
  return 0xff02_0000_0000_0000_0000_0001_ff00_0000n | (address & 0xff_ffffn)
}

export const allNodes6 = 0xff02_0000_0000_0000_0000_0000_0000_0001n
export const allRouters6 = 0xff02_0000_0000_0000_0000_0000_0000_0002n
