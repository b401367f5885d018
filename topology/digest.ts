/**
 * One number over a set of keys and values, kept up to date change by change: the exclusive or of
 * a hash of each pair, in whatever order they came.
 */
import { createHash } from 'node:crypto'

/** Tells whether a set of keys and values is the one it was. */
export class Digest {
  readonly #hashes = new Map<string, bigint>()
  #sum = 0n

  get text(): string {
    return this.#sum.toString(16).padStart(32, '0')
  }

  /** `value` undefined takes the key out. */
  set(key: string, value: string | undefined): void {
    this.#sum ^= this.#hashes.get(key) ?? 0n
    if (value === undefined) {
      this.#hashes.delete(key)
      return
    }
    const hash = hashOf(key, value)
    this.#hashes.set(key, hash)
    this.#sum ^= hash
  }
}

function hashOf(key: string, value: string): bigint {
  const hex = createHash('sha256').update(`${key}\0${value}`).digest('hex')
  return BigInt(`0x${hex.slice(0, 32)}`)
}
