/**
 * A hash table from IPv6 address to value. An address is four words, as in the flow key, so that
 * looking one up allocates nothing. Like the table of MAC addresses.
 */
import type { Words6 } from '../packet/address6.ts'

export class AddressTable<T> {
  #mask = 3
  #size = 0
  #words = new Uint32Array(16)
  #values: (T | undefined)[] = new Array<T | undefined>(4).fill(undefined)

  get size(): number {
    return this.#size
  }

  find(a: number, b: number, c: number, d: number): T | undefined {
    return this.#values[this.#slot(a, b, c, d)]
  }

  get([a, b, c, d]: Words6): T | undefined {
    return this.find(a, b, c, d)
  }

  set(words: Words6, value: T): void {
    if ((this.#size + 1) * 2 > this.#mask + 1) this.#grow()
    const [a, b, c, d] = words
    const at = this.#slot(a, b, c, d)
    if (this.#values[at] === undefined) this.#size++
    this.#words.set(words, at * 4)
    this.#values[at] = value
  }

  delete([a, b, c, d]: Words6): boolean {
    const at = this.#slot(a, b, c, d)
    if (this.#values[at] === undefined) return false
    this.#size--
    this.#closeGap(at)
    return true
  }

  clear(): void {
    this.#values.fill(undefined)
    this.#size = 0
  }

  *values(): IterableIterator<T> {
    for (const value of this.#values) if (value !== undefined) yield value
  }

  /** Where an address is, or would be put. */
  #slot(a: number, b: number, c: number, d: number): number {
    let at = home(a, b, c, d) & this.#mask
    const words = this.#words
    while (this.#values[at] !== undefined) {
      const from = at * 4
      const isSame = words[from + 3] === d && words[from + 2] === c && words[from + 1] === b
      if (isSame && words[from] === a) return at
      at = (at + 1) & this.#mask
    }
    return at
  }

  /** Moves back every entry of the run that the gap would cut off from its home. */
  #closeGap(start: number): void {
    let gap = start
    for (let at = (gap + 1) & this.#mask; ; at = (at + 1) & this.#mask) {
      const value = this.#values[at]
      if (value === undefined) break
      const fromHome = (at - this.#homeAt(at)) & this.#mask
      if (fromHome < ((at - gap) & this.#mask)) continue
      this.#words.copyWithin(gap * 4, at * 4, at * 4 + 4)
      this.#values[gap] = value
      gap = at
    }
    this.#values[gap] = undefined
  }

  #homeAt(at: number): number {
    const words = this.#words
    const from = at * 4
    const [a = 0, b = 0, c = 0, d = 0] = [
      words[from],
      words[from + 1],
      words[from + 2],
      words[from + 3],
    ]
    return home(a, b, c, d) & this.#mask
  }

  #grow(): void {
    const [words, values] = [this.#words, this.#values]
    const length = values.length * 2
    this.#mask = length - 1
    this.#size = 0
    this.#words = new Uint32Array(length * 4)
    this.#values = new Array<T | undefined>(length).fill(undefined)
    for (const [at, value] of values.entries()) {
      const [a = 0, b = 0, c = 0, d = 0] = words.subarray(at * 4, at * 4 + 4)
      if (value !== undefined) this.set([a, b, c, d], value)
    }
  }
}

function home(a: number, b: number, c: number, d: number): number {
  let mixed = Math.imul(a ^ Math.imul(b, 0x9e37_79b1), 0x85eb_ca6b)
  mixed = Math.imul(mixed ^ (mixed >>> 15) ^ c, 0xc2b2_ae35)
  mixed = Math.imul(mixed ^ (mixed >>> 13) ^ d, 0x27d4_eb2f)
  return (mixed ^ (mixed >>> 16)) >>> 0
}
