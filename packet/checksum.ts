/**
 * The Internet checksum, RFC 1071, and its update in place, RFC 1624. Sums are kept as the ones'
 * complement sum of 16-bit words, not yet folded below 32 bits and not yet inverted.
 */
import { readU8, readU16 } from './bytes.ts'

/** Adds the words of `bytes` from `start` to before `end`; an odd last byte counts as if 0 followed. */
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

/** The sum of the pseudo-header of TCP and UDP over IPv4. */
export function sumPseudo(src: number, dst: number, proto: number, size: number): number {
  return addU32(addU32(proto + size, src), dst)
}

/** The sum of the pseudo-header over IPv6, RFC 8200 section 8.1. */
export function sumPseudoV6(src: bigint, dst: bigint, proto: number, size: number): number {
  let sum = proto + (size >>> 16) + (size & 0xffff)
  for (const address of [src, dst])
    for (let shift = 0n; shift < 128n; shift += 16n) sum += Number((address >> shift) & 0xffffn)
  return sum
}

/** The checksum after one 16-bit word of what it covers has changed: RFC 1624, equation 3. */
export function updateChecksum(checksum: number, before: number, after: number): number {
  return finishSum((~checksum & 0xffff) + (~before & 0xffff) + after)
}
