/**
 * A hash table by four words: what tells connections apart. Open addressing with linear probing,
 * like the table of MAC addresses.
 */

/** A key: zone, kind and protocol in one word; two addresses; both ports. */
export interface Tuple {
  readonly zone: number
  readonly src: number
  readonly dst: number
  readonly ports: number
}

export class TupleTable<T extends Tuple> {
  #mask = 63
  #size = 0
  #slots: (T | undefined)[] = new Array<T | undefined>(64).fill(undefined)

  get size(): number {
    return this.#size
  }

  find(zone: number, src: number, dst: number, ports: number): T | undefined {
    for (let at = home(zone, src, dst, ports) & this.#mask; ; at = (at + 1) & this.#mask) {
      const slot = this.#slots[at]
      if (slot === undefined || isAt(slot, zone, src, dst, ports)) return slot
    }
  }

  add(value: T): void {
    if ((this.#size + 1) * 2 > this.#mask + 1) this.#grow()
    const { zone, src, dst, ports } = value
    let at = home(zone, src, dst, ports) & this.#mask
    for (;;) {
      const slot = this.#slots[at]
      if (slot === undefined) break
      if (isAt(slot, zone, src, dst, ports)) {
        this.#slots[at] = value
        return
      }
      at = (at + 1) & this.#mask
    }
    this.#slots[at] = value
    this.#size++
  }

  delete({ zone, src, dst, ports }: T): boolean {
    let gap = home(zone, src, dst, ports) & this.#mask
    for (;;) {
      const slot = this.#slots[gap]
      if (slot === undefined) return false
      if (isAt(slot, zone, src, dst, ports)) break
      gap = (gap + 1) & this.#mask
    }
    this.#size--
    // Moves back every entry of the run that the gap would cut off from its home.
    for (let at = (gap + 1) & this.#mask; ; at = (at + 1) & this.#mask) {
      const slot = this.#slots[at]
      if (slot === undefined) break
      const from = home(slot.zone, slot.src, slot.dst, slot.ports)
      if (((at - from) & this.#mask) < ((at - gap) & this.#mask)) continue
      this.#slots[gap] = slot
      gap = at
    }
    this.#slots[gap] = undefined
    return true
  }

  *values(): IterableIterator<T> {
    for (const slot of this.#slots) if (slot !== undefined) yield slot
  }

  #grow(): void {
    const old = this.#slots
    this.#mask = old.length * 2 - 1
    this.#size = 0
    this.#slots = new Array<T | undefined>(old.length * 2).fill(undefined)
    for (const slot of old) if (slot !== undefined) this.add(slot)
  }
}

/** Whether a key is of these words. */
export function isAt(tuple: Tuple, zone: number, src: number, dst: number, ports: number): boolean {
  return tuple.ports === ports && tuple.src === src && tuple.dst === dst && tuple.zone === zone
}

function home(zone: number, src: number, dst: number, ports: number): number {
  let mixed = Math.imul(zone, 0x9e37_79b1) ^ Math.imul(src, 0x85eb_ca6b)
  mixed = Math.imul(mixed ^ (mixed >>> 15) ^ dst, 0xc2b2_ae35)
  mixed = Math.imul(mixed ^ (mixed >>> 13) ^ ports, 0x27d4_eb2f)
  return (mixed ^ (mixed >>> 16)) >>> 0
}
