/** Address blocks of either family as ranges of numbers. */
import { formatIp, formatIpv6, parseCidr, parseIp, parseIpv6 } from '../packet/address.ts'
import { parseCidr6 } from '../packet/address6.ts'

/** Bits of an address: IPv4 or IPv6. */
export type Bits = 32 | 128

/** An address as a number with its family. */
export interface BlockAddress {
  readonly bits: Bits
  readonly value: bigint
}

/** All addresses from `first` to `last`, with the address the text gave. */
export interface Block extends BlockAddress {
  readonly prefixLength: number
  readonly first: bigint
  readonly last: bigint
}

/** An IPv4 or IPv6 network; undefined when the text is neither. */
export function parseBlock(text: string): Block | undefined {
  const cidr = parseCidr(text)
  if (cidr !== undefined) return blockOf(32, BigInt(cidr.address), cidr.prefixLength)
  const cidr6 = parseCidr6(text)
  if (cidr6 !== undefined) return blockOf(128, cidr6.address, cidr6.prefixLength)
  return undefined
}

/** The block of `prefixLength` that `value` is in. */
export function blockOf(bits: Bits, value: bigint, prefixLength: number): Block {
  const hostMask = (1n << BigInt(bits - prefixLength)) - 1n
  const last = value | hostMask
  return { bits, value, prefixLength, first: last - hostMask, last }
}

/** The canonical text of a block, without host bits. */
export function formatBlock({ bits, first, prefixLength }: Block): string {
  return `${formatAddress({ bits, value: first })}/${prefixLength}`
}

/** An IPv4 or IPv6 address; undefined when the text is neither. */
export function parseAddress(text: string): BlockAddress | undefined {
  const ip = parseIp(text)
  if (ip !== undefined) return { bits: 32, value: BigInt(ip) }
  const ip6 = parseIpv6(text)
  return ip6 === undefined ? undefined : { bits: 128, value: ip6 }
}

/** The canonical text of an address. */
export function formatAddress({ bits, value }: BlockAddress): string {
  return bits === 32 ? formatIp(Number(value)) : formatIpv6(value)
}

/** The one text that stands for an address however it is written; other text stays as it is. */
export function canonicalAddress(text: string): string {
  const address = parseAddress(text)
  return address === undefined ? text : formatAddress(address)
}

/** Whether two blocks share an address. */
export function blocksOverlap(a: Block, b: Block): boolean {
  return a.bits === b.bits && a.first <= b.last && b.first <= a.last
}

/** Whether `inner` is all within `outer`. */
export function blockCovers(outer: Block, inner: Block): boolean {
  return outer.bits === inner.bits && outer.first <= inner.first && inner.last <= outer.last
}

/** Whether an address is in a block. */
export function blockHas(block: Block, { bits, value }: BlockAddress): boolean {
  return block.bits === bits && block.first <= value && value <= block.last
}
