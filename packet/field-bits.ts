/** Fields of any width as bigints: for text and for IPv6, not for the path of every packet. */
import type { Field, FlowKey } from './flow-key.ts'

/** The field's bits as one number. */
export function readBits(words: FlowKey, { word, shift, bits }: Field): bigint {
  let value = 0n
  for (let at = 0; at < wordCount(bits); at++)
    value = (value << 32n) | BigInt(words[word + at] ?? 0)
  return (value >> BigInt(shift)) & onesOf(bits)
}

/** Sets those of the field's bits that are set in `value`. */
export function addBits(words: FlowKey, { word, shift, bits }: Field, value: bigint): void {
  let left = value << BigInt(shift)
  for (let at = wordCount(bits) - 1; at >= 0; at--) {
    words[word + at] = (words[word + at] ?? 0) | Number(left & 0xffff_ffffn)
    left >>= 32n
  }
}

/** Clears all of the field's bits. */
export function clearBits(words: FlowKey, { word, shift, bits }: Field): void {
  let left = onesOf(bits) << BigInt(shift)
  for (let at = wordCount(bits) - 1; at >= 0; at--) {
    words[word + at] = (words[word + at] ?? 0) & ~Number(left & 0xffff_ffffn)
    left >>= 32n
  }
}

export function onesOf(bits: number): bigint {
  return (1n << BigInt(bits)) - 1n
}

function wordCount(bits: number): number {
  return Math.ceil(bits / 32)
}
