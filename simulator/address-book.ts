/**
 * Numbers for IPv6 addresses, so that flow state keeps connections of both families in one table of
 * words. A number stands for its address as long as an entry holds it, and until the next sweep.
 */
import type { Words6 } from '../packet/address6.ts'
import { AddressTable } from './address-table.ts'

export const limits = {
  /** Addresses with a number; further ones get none, and no connection of theirs is kept. */
  addresses: 1_048_576,
  /** Numbers given, beyond which those that nobody holds are taken back. */
  loose: 65_536,
} as const

interface Named {
  readonly words: Words6
  readonly number: number
  readonly hash: number
  holders: number
}

/** Stands for no address. */
export const noNumber = 0

export class AddressBook {
  readonly #byAddress = new AddressTable<Named>()
  readonly #byNumber = new Map<number, Named>()
  #next = 1
  #held = 0

  get size(): number {
    return this.#byAddress.size
  }

  /** The number of an address; `noNumber` when there is no room for another. */
  numberOf(a: number, b: number, c: number, d: number): number {
    const known = this.#byAddress.find(a, b, c, d)
    if (known !== undefined) return known.number
    if (this.#byAddress.size >= limits.addresses) return noNumber
    const words: Words6 = [a, b, c, d]
    const named = { words, number: this.#free(), hash: hashWords(words), holders: 0 }
    this.#byAddress.set(words, named)
    this.#byNumber.set(named.number, named)
    return named.number
  }

  wordsOf(number: number): Words6 | undefined {
    return this.#byNumber.get(number)?.words
  }

  /** The same for an address whatever its number. */
  hashOf(number: number): number {
    return this.#byNumber.get(number)?.hash ?? 0
  }

  hold(number: number): void {
    const named = this.#byNumber.get(number)
    if (named !== undefined && named.holders++ === 0) this.#held++
  }

  release(number: number): void {
    const named = this.#byNumber.get(number)
    if (named !== undefined && --named.holders === 0) this.#held--
  }

  /** Takes back numbers that nobody holds; never while a simulation is under way. */
  sweep(): void {
    if (this.#byAddress.size - this.#held < limits.loose) return
    for (const named of [...this.#byAddress.values()]) {
      if (named.holders > 0) continue
      this.#byAddress.delete(named.words)
      this.#byNumber.delete(named.number)
    }
  }

  #free(): number {
    while (this.#byNumber.has(this.#next) || this.#next === noNumber)
      this.#next = (this.#next + 1) & 0x7fff_ffff
    const number = this.#next
    this.#next = (this.#next + 1) & 0x7fff_ffff
    return number
  }
}

/** A hash of 32 bits. */
function hashWords(words: Words6): number {
  let hash = 0
  for (const word of words) {
    const mixed = Math.imul(hash ^ word, 0x85eb_ca6b)
    hash = Math.imul(mixed ^ (mixed >>> 15), 0xc2b2_ae35) ^ (mixed >>> 13)
  }
  return hash >>> 0
}
