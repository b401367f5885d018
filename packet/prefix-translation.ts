/**
 * RFC 6296: one IPv6 prefix for another, so that the sum of the address stays, and with it every
 * checksum above. A word of the address that the prefix leaves free takes the difference.
 */
import type { Words6 } from './address6.ts'
import { addU32, finishSum } from './checksum.ts'

/** The prefix to write, its length, and which word the difference goes to. */
export interface PrefixTranslation {
  readonly from: Words6
  readonly to: Words6
  readonly length: number
}

/** Whether the address is of the prefix that is translated. */
export function isTranslated6({ from, length }: PrefixTranslation, words: Words6): boolean {
  return words.every((word, at) => ((word ^ (from[at] ?? 0)) & maskOf(length, at)) === 0)
}

/**
 * The address under the other prefix; undefined where no free word can take the difference (RFC
 * 6296 section 3.5: all of them are 0xffff).
 */
export function translatePrefix(
  { from, to, length }: PrefixTranslation,
  words: Words6,
): Words6 | undefined {
  const parts = words.flatMap((word, at) => {
    const mask = maskOf(length, at)
    const value = ((word & ~mask) | ((to[at] ?? 0) & mask)) >>> 0
    return [value >>> 16, value & 0xffff]
  })
  const free = freePart(parts, length)
  if (free === undefined) return undefined
  // What the prefixes' sums differ by, in ones' complement.
  const balance = addOnes(sumOf(from, length), ~sumOf(to, length) & 0xffff)
  const balanced = addOnes(parts[free] ?? 0, balance)
  parts[free] = balanced === 0xffff ? 0 : balanced
  const word = (at: number) => (((parts[2 * at] ?? 0) << 16) | (parts[2 * at + 1] ?? 0)) >>> 0
  return [word(0), word(1), word(2), word(3)]
}

/** Sections 3.4 and 3.5: bits 48 to 63 where they are free, else the first later part not 0xffff. */
function freePart(parts: readonly number[], length: number): number | undefined {
  if (length <= 48) return parts[3] === 0xffff ? undefined : 3
  const found = parts.findIndex((part, at) => at >= 4 && part !== 0xffff)
  return found < 0 ? undefined : found
}

function sumOf(words: Words6, length: number): number {
  let sum = 0
  for (const [at, word] of words.entries()) sum = addU32(sum, (word & maskOf(length, at)) >>> 0)
  return ~finishSum(sum) & 0xffff
}

function addOnes(a: number, b: number): number {
  const sum = a + b
  return (sum & 0xffff) + (sum >>> 16)
}

/** Bits of word `at` that a prefix covers. */
function maskOf(length: number, at: number): number {
  const bits = Math.min(32, Math.max(0, length - 32 * at))
  return bits === 0 ? 0 : (0xffff_ffff << (32 - bits)) >>> 0
}
