/**
 * A hash table from MAC address to value. A MAC address is two words (high 16, low 32 bits), as in
 * the flow key: a 48-bit number would be boxed at every lookup of a Map.
 *
 * Open addressing with linear probing; removal moves later entries of the run back, so lookups
 * never meet graves.
 */
export class MacTable<T> {
  #mask = 15
  #size = 0
  #highs = new Uint32Array(16)
  #lows = new Uint32Array(16)
  #values: (T | undefined)[] = new Array<T | undefined>(16).fill(undefined)

  get size(): number {
    return this.#size
  }

  find(high: number, low: number): T | undefined {
    for (let at = home(high, low) & this.#mask; ; at = (at + 1) & this.#mask) {
      const value = this.#values[at]
      if (value === undefined) return undefined
      if (this.#lows[at] === low && this.#highs[at] === high) return value
    }
  }

  set(high: number, low: number, value: T): void {
    if ((this.#size + 1) * 2 > this.#mask + 1) this.#grow()
    let at = home(high, low) & this.#mask
    while (this.#values[at] !== undefined) {
      if (this.#lows[at] === low && this.#highs[at] === high) {
        this.#values[at] = value
        return
      }
      at = (at + 1) & this.#mask
    }
    this.#highs[at] = high
    this.#lows[at] = low
    this.#values[at] = value
    this.#size++
  }

  delete(high: number, low: number): boolean {
    let at = home(high, low) & this.#mask
    while (!(this.#lows[at] === low && this.#highs[at] === high)) {
      if (this.#values[at] === undefined) return false
      at = (at + 1) & this.#mask
    }
    if (this.#values[at] === undefined) return false
    this.#size--
    this.#closeGap(at)
    return true
  }

  *values(): IterableIterator<T> {
    for (const value of this.#values) if (value !== undefined) yield value
  }

  /** Moves back every entry of the run that the gap would cut off from its home. */
  #closeGap(start: number): void {
    let gap = start
    for (let at = (gap + 1) & this.#mask; ; at = (at + 1) & this.#mask) {
      const value = this.#values[at]
      if (value === undefined) break
      const high = this.#highs[at] ?? 0
      const low = this.#lows[at] ?? 0
      const fromHome = (at - home(high, low)) & this.#mask
      if (fromHome < ((at - gap) & this.#mask)) continue
      this.#highs[gap] = high
      this.#lows[gap] = low
      this.#values[gap] = value
      gap = at
    }
    this.#highs[gap] = 0
    this.#lows[gap] = 0
    this.#values[gap] = undefined
  }

  #grow(): void {
    const [highs, lows, values] = [this.#highs, this.#lows, this.#values]
    const length = values.length * 2
    this.#mask = length - 1
    this.#size = 0
    this.#highs = new Uint32Array(length)
    this.#lows = new Uint32Array(length)
    this.#values = new Array<T | undefined>(length).fill(undefined)
    for (const [at, value] of values.entries())
      if (value !== undefined) this.set(highs[at] ?? 0, lows[at] ?? 0, value)
  }
}

function home(high: number, low: number): number {
  const mixed = Math.imul(low ^ Math.imul(high, 0x9e37_79b1), 0x85eb_ca6b)
  return (mixed ^ (mixed >>> 15)) >>> 0
}

export function macHigh(mac: number): number {
  return Math.floor(mac / 0x1_0000_0000)
}

export function macLow(mac: number): number {
  return mac >>> 0
}

/** The high word with a VLAN above it: what tells the stations of VLANs apart in one table. */
export function scopedHigh({ mac, vlan }: { readonly mac: number; readonly vlan: number }): number {
  return vlan * 0x1_0000 + macHigh(mac)
}

/** The 48-bit number of two words. */
export function joinMac(high: number, low: number): number {
  return high * 0x1_0000_0000 + low
}
