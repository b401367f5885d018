/**
 * The other end of a tunnel as a key has it: 32 bits. An IPv4 address is itself. Of an IPv6 address
 * they are a mixture of its words, in which addresses that differ in one word only never collide:
 * hosts of one network do not.
 */
import { type Words6, wordsOf6 } from './address6.ts'

/** An address of the underlay: an IPv4 address as a number, an IPv6 address as a bigint. */
export type UnderlayAddress = number | bigint

/** Odd, so that a multiplication loses nothing. */
export const mixFactor = 0x9e37_79b1

/** What `tunnelSrc` of a key is for packets from an address. */
export function tunnelSourceOf(address: UnderlayAddress): number {
  return typeof address === 'number' ? address : mixWords(wordsOf6(address))
}

/** The same of an address in words. */
export function mixWords(words: Words6): number {
  let mixed = 0
  for (const word of words) mixed = Math.imul(mixed, mixFactor) ^ word
  return mixed >>> 0
}
