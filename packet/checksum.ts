/**
 * The Internet checksum, RFC 1071, and its update in place, RFC 1624. Sums are kept as the ones'
 * complement sum of 16-bit words, not yet folded below 32 bits and not yet inverted.
 */
import { readU8, readU16 } from './bytes.ts'

/** Adds the words from `start` to before `end`; an odd last byte counts as if 0 followed. */
export function addBytes(sum: number, bytes: Uint8Array, start: number, end: number): number {
  let total = sum
  let at = start
  // Up to 64 KiB of words stay below 2^32, and a sum is a double in any case.
  for (; at + 1 < end; at += 2) total += readU16(bytes, at)
  if (at < end) total += readU8(bytes, at) << 8
  return total
}

/** A 32-bit value, such as an IPv4 address, is two words. */
export function addU32(sum: number, value: number): number {
  return sum + (value >>> 16) + (value & 0xffff)
}

/** The checksum of what was summed. */
export function finishSum(sum: number): number {
  let folded = sum
  while (folded > 0xffff) folded = Math.floor(folded / 0x1_0000) + (folded & 0xffff)
  return ~folded & 0xffff
}

export function checksum(bytes: Uint8Array, start = 0, end = bytes.length): number {
  return finishSum(addBytes(0, bytes, start, end))
}

/** Addresses of an IP packet, both of one version: numbers are IPv4, bigints IPv6. */
export type Addresses =
  | { readonly src: number; readonly dst: number }
  | { readonly src: bigint; readonly dst: bigint }

/** The sum of the pseudo-header of TCP, UDP and ICMPv6: RFC 9293, RFC 8200 section 8.1. */
export function sumPseudo({ src, dst }: Addresses, proto: number, size: number): number {
  return addAddress(addAddress(addU32(proto, size), src), dst)
}

function addAddress(sum: number, address: number | bigint): number {
  if (typeof address === 'number') return addU32(sum, address)
  let total = sum
  for (let left = address; left > 0n; left >>= 16n) total += Number(left & 0xffffn)
  return total
}

/** The checksum of what such a packet carries, pseudo-header counted in. */
export function transportChecksum(addresses: Addresses, proto: number, bytes: Uint8Array): number {
  return finishSum(addBytes(sumPseudo(addresses, proto, bytes.length), bytes, 0, bytes.length))
}

/** The checksum after one 16-bit word of what it covers has changed: RFC 1624, equation 3. */
export function updateChecksum(checksum: number, before: number, after: number): number {
  return finishSum((~checksum & 0xffff) + (~before & 0xffff) + after)
}
