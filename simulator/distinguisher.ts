/**
 * A set of IPv4 addresses that says how many leading bits of an address tell it from all of them: a
 * flow that rests on "none of these" needs to match no more.
 */
export class Distinguisher {
  /** In order, each once. */
  readonly #addresses: readonly number[]

  constructor(addresses: Iterable<number>) {
    this.#addresses = [...new Set([...addresses].map((one) => one >>> 0))].sort((a, b) => a - b)
  }

  /** Whether the address is in the set. */
  has(address: number): boolean {
    return this.#addresses.includes(address >>> 0)
  }

  /** 32 for an address that is in the set. */
  bitsFor(address: number): number {
    const own = address >>> 0
    let low = 0
    let high = this.#addresses.length
    while (low < high) {
      const middle = (low + high) >>> 1
      if ((this.#addresses[middle] ?? 0) < own) low = middle + 1
      else high = middle
    }
    // Whichever shares the most leading bits is next to it in order.
    return Math.max(
      bitsToTell(own, this.#addresses[low]),
      bitsToTell(own, this.#addresses[low - 1]),
    )
  }
}

function bitsToTell(a: number, b: number | undefined): number {
  return b === undefined ? 0 : Math.min(32, Math.clz32(a ^ b) + 1)
}
