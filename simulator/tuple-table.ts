/**
 * A hash table by four words: what tells connections apart. Open addressing with linear probing,
 * like the table of MAC addresses. What is looked through are numbers: of a list as long as that,
 * the garbage collector would follow each slot.
 */

/**
 * A key: zone, kind and protocol in one word; two addresses; both ports. The words are signed
 * numbers, which an object holds without a box.
 */
export interface Tuple {
  readonly zone: number
  readonly src: number
  readonly dst: number
  readonly ports: number
}

export class TupleTable<T extends Tuple> {
  #mask = 63
  #size = 0
  /** Of each slot the place of its value and one, or 0; and the value's hash. */
  #slots = new Int32Array(64 * 2)
  readonly #values: (T | undefined)[] = []
  readonly #freePlaces: number[] = []

  get size(): number {
    return this.#size
  }

  find(zone: number, src: number, dst: number, ports: number): T | undefined {
    const slot = this.#slotOf(hashOf(zone, src, dst, ports), zone, src, dst, ports)
    return slot < 0 ? undefined : this.#values[this.#placeIn(slot)]
  }

  /** Takes a value in, unless there is one with its key. */
  add(value: T): boolean {
    const { zone, src, dst, ports } = value
    const hash = hashOf(zone, src, dst, ports)
    if (this.#slotOf(hash, zone, src, dst, ports) >= 0) return false
    if ((this.#size + 1) * 2 > this.#mask + 1) this.#grow()
    const place = this.#freePlaces.pop() ?? this.#values.length
    this.#values[place] = value
    this.#size++
    this.#put(hash, place)
    return true
  }

  delete({ zone, src, dst, ports }: T): boolean {
    const slot = this.#slotOf(hashOf(zone, src, dst, ports), zone, src, dst, ports)
    if (slot < 0) return false
    const place = this.#placeIn(slot)
    this.#values[place] = undefined
    this.#freePlaces.push(place)
    this.#size--
    this.#closeGap(slot)
    return true
  }

  *values(): IterableIterator<T> {
    for (const value of this.#values) if (value !== undefined) yield value
  }

  /** Where a key is; -1 where it is not. */
  #slotOf(hash: number, zone: number, src: number, dst: number, ports: number): number {
    const slots = this.#slots
    const mask = this.#mask
    for (let at = hash & mask; ; at = (at + 1) & mask) {
      const place = slots[at * 2] ?? 0
      if (place === 0) return -1
      if (slots[at * 2 + 1] !== hash) continue
      const value = this.#values[place - 1]
      if (value !== undefined && isAt(value, zone, src, dst, ports)) return at
    }
  }

  #placeIn(slot: number): number {
    return (this.#slots[slot * 2] ?? 0) - 1
  }

  #put(hash: number, place: number): void {
    const slots = this.#slots
    let at = hash & this.#mask
    while (slots[at * 2] !== 0) at = (at + 1) & this.#mask
    slots[at * 2] = place + 1
    slots[at * 2 + 1] = hash
  }

  /** Moves back every entry of the run that the gap would cut off from its home. */
  #closeGap(start: number): void {
    const slots = this.#slots
    const mask = this.#mask
    let gap = start
    for (let at = (gap + 1) & mask; slots[at * 2] !== 0; at = (at + 1) & mask) {
      const hash = slots[at * 2 + 1] ?? 0
      if (((at - hash) & mask) < ((at - gap) & mask)) continue
      slots[gap * 2] = slots[at * 2] ?? 0
      slots[gap * 2 + 1] = hash
      gap = at
    }
    slots[gap * 2] = 0
  }

  #grow(): void {
    const old = this.#slots
    this.#mask = this.#mask * 2 + 1
    this.#slots = new Int32Array(old.length * 2)
    for (let at = 0; at < old.length; at += 2)
      if (old[at] !== 0) this.#put(old[at + 1] ?? 0, (old[at] ?? 0) - 1)
  }
}

/** Whether a key is of these words. */
export function isAt(tuple: Tuple, zone: number, src: number, dst: number, ports: number): boolean {
  return (
    tuple.ports === (ports | 0) &&
    tuple.src === (src | 0) &&
    tuple.dst === (dst | 0) &&
    tuple.zone === (zone | 0)
  )
}

function hashOf(zone: number, src: number, dst: number, ports: number): number {
  let mixed = Math.imul(zone, 0x9e37_79b1) ^ Math.imul(src, 0x85eb_ca6b)
  mixed = Math.imul(mixed ^ (mixed >>> 15) ^ dst, 0xc2b2_ae35)
  mixed = Math.imul(mixed ^ (mixed >>> 13) ^ ports, 0x27d4_eb2f)
  return mixed ^ (mixed >>> 16)
}
