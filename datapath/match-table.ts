/**
 * Flows by what they match, in columns: no object for each, since there are many. A flow is found
 * by its key and mask, or by a packet's key under one of the masks.
 *
 * Open addressing with linear probing; removal moves later entries of the run back.
 */
import { clearKey, copyKey, equalKeys, type FlowKey, keyWords } from '../packet/flow-key.ts'
import type { FlowId, FlowMatch } from './datapath.ts'

const firstCapacity = 1024

/** One mask that flows use. */
export interface FlowMask {
  readonly mask: FlowKey
  /** Which of its words have any bits: only these need be looked at. */
  readonly words: readonly number[]
  /** These words, as signed numbers, which need no box. */
  readonly bits: readonly number[]
  readonly number: number
  /** How many flows use it. */
  uses: number
}

/** The masks in use. A packet is looked up under each, so there must not be too many. */
export class FlowMasks {
  readonly #masks: FlowMask[] = []
  readonly #freeNumbers: number[] = []
  /** Flows come in runs of one mask: what was given last, and which it is. */
  #last: FlowMask | undefined
  #lastGiven: FlowKey | undefined
  #nextNumber = 0

  get size(): number {
    return this.#masks.length
  }

  get all(): readonly FlowMask[] {
    return this.#masks
  }

  find(mask: FlowKey): FlowMask | undefined {
    for (const one of this.#masks) if (equalKeys(one.mask, mask)) return one
    return undefined
  }

  /** Counts one use more of a mask that does not change any more: it is known again by itself. */
  take(mask: FlowKey): FlowMask {
    const last = this.#last
    if (last !== undefined && mask === this.#lastGiven) {
      last.uses++
      return last
    }
    const one = this.find(mask) ?? this.#add(mask)
    one.uses++
    this.#last = one
    this.#lastGiven = mask
    return one
  }

  /** Counts one use less; a mask without any goes. */
  release(one: FlowMask): void {
    if (--one.uses > 0) return
    this.#masks.splice(this.#masks.indexOf(one), 1)
    this.#freeNumbers.push(one.number)
    if (this.#last === one) this.#last = undefined
  }

  #add(mask: FlowKey): FlowMask {
    const words: number[] = []
    for (let at = 0; at < keyWords; at++) if (mask[at] !== 0) words.push(at)
    const number = this.#freeNumbers.pop() ?? this.#nextNumber++
    const bits = words.map((at) => (mask[at] ?? 0) | 0)
    const one = { mask: mask.slice(), words, bits, number, uses: 0 }
    this.#masks.push(one)
    return one
  }
}

/** Ids of flows by key and mask. */
export class MatchTable {
  readonly masks = new FlowMasks()
  #size = 0
  /** By id: what the mask leaves of the key's words that it has bits in, their hash, the mask. */
  #keys = new Uint32Array(firstCapacity * keyWords)
  #hashes = new Int32Array(firstCapacity)
  readonly #masksOf: (FlowMask | undefined)[] = []
  /** By hash: an id and one, or 0. */
  #slots = new Int32Array(firstCapacity * 2)

  get size(): number {
    return this.#size
  }

  has(id: FlowId): boolean {
    return this.#masksOf[id] !== undefined
  }

  /** The flow with this key and mask. Bits of the key outside of the mask are not looked at. */
  find({ key, mask }: FlowMatch): FlowId | undefined {
    const known = this.masks.find(mask)
    return known === undefined ? undefined : this.findUnder(known, key)
  }

  /** The flow with this mask that a packet's key falls under. */
  findUnder(mask: FlowMask, key: FlowKey): FlowId | undefined {
    const id = (this.#slots[this.#look(mask, key, hashUnder(mask, key))] ?? 0) - 1
    return id < 0 ? undefined : id
  }

  /** The flow with this key and mask; where there is none it is taken in as `id`, which is free. */
  findOrAdd({ key, mask }: FlowMatch, id: FlowId): FlowId {
    const one = this.masks.take(mask)
    this.#makeRoom(id)
    const hash = this.#write(id, one, key)
    const slot = this.#look(one, key, hash)
    const found = (this.#slots[slot] ?? 0) - 1
    if (found >= 0) {
      one.uses--
      return found
    }
    this.#slots[slot] = id + 1
    this.#hashes[id] = hash
    this.#masksOf[id] = one
    this.#size++
    return id
  }

  /** The slot of the flow with this key and mask; where there is none, the one it would take. */
  #look(mask: FlowMask, key: FlowKey, hash: number): number {
    const slots = this.#slots
    const hashes = this.#hashes
    const end = slots.length - 1
    let at = hash & end
    for (; ; at = (at + 1) & end) {
      const id = (slots[at] ?? 0) - 1
      if (id < 0) return at
      if (hashes[id] === hash && this.#masksOf[id] === mask && this.#isUnder(id, mask, key))
        return at
    }
  }

  /** Writes what a mask leaves of a key where a flow's stands; says its hash. */
  #write(id: FlowId, { words, bits, number }: FlowMask, key: FlowKey): number {
    const keys = this.#keys
    const start = (id * keyWords) | 0
    let hash = number
    // Of every flow: so `mix` is written out, which is looked up wherever it is called.
    for (let index = 0; index < words.length; index++) {
      const value = (key[words[index] ?? 0] ?? 0) & (bits[index] ?? 0)
      keys[start + index] = value
      hash = Math.imul(hash ^ value, 0x9e37_79b1)
      hash ^= hash >>> 15
    }
    return finish(hash)
  }

  remove(id: FlowId): void {
    const mask = this.#masksOf[id]
    if (mask === undefined) return
    this.#masksOf[id] = undefined
    this.#size--
    this.masks.release(mask)
    const end = this.#slots.length - 1
    let at = (this.#hashes[id] ?? 0) & end
    while (this.#slots[at] !== id + 1) at = (at + 1) & end
    this.#closeGap(at)
  }

  /** Writes key and mask of a flow; zeros when there is none. */
  read(id: FlowId, { key, mask }: FlowMatch): void {
    clearKey(key)
    clearKey(mask)
    const known = this.readKey(id, key)
    if (known !== undefined) copyKey(known, mask)
  }

  /** Writes the key of a flow, where there is one; says its mask, which is also that of others. */
  readKey(id: FlowId, key: FlowKey): FlowKey | undefined {
    const known = this.#masksOf[id]
    if (known === undefined) return undefined
    clearKey(key)
    const { words } = known
    const start = id * keyWords
    for (let index = 0; index < words.length; index++)
      key[words[index] ?? 0] = this.#keys[start + index] ?? 0
    return known.mask
  }

  #isUnder(id: FlowId, { mask, words }: FlowMask, key: FlowKey): boolean {
    const start = id * keyWords
    for (let index = 0; index < words.length; index++) {
      const word = words[index] ?? 0
      if ((((key[word] ?? 0) & (mask[word] ?? 0)) ^ (this.#keys[start + index] ?? 0)) !== 0)
        return false
    }
    return true
  }

  #place(id: FlowId, hash: number): void {
    const end = this.#slots.length - 1
    let at = hash & end
    while (this.#slots[at] !== 0) at = (at + 1) & end
    this.#slots[at] = id + 1
  }

  /** Moves back every entry of the run that the gap would cut off from its place. */
  #closeGap(start: number): void {
    const end = this.#slots.length - 1
    let gap = start
    for (let at = (gap + 1) & end; ; at = (at + 1) & end) {
      const id = (this.#slots[at] ?? 0) - 1
      if (id < 0) break
      if (((at - (this.#hashes[id] ?? 0)) & end) < ((at - gap) & end)) continue
      this.#slots[gap] = id + 1
      gap = at
    }
    this.#slots[gap] = 0
  }

  #makeRoom(id: FlowId): void {
    if (id >= this.#hashes.length) {
      const capacity = Math.max(this.#hashes.length * 2, id + 1)
      const [keys, hashes] = [new Uint32Array(capacity * keyWords), new Int32Array(capacity)]
      keys.set(this.#keys)
      hashes.set(this.#hashes)
      this.#keys = keys
      this.#hashes = hashes
    }
    if ((this.#size + 1) * 2 <= this.#slots.length) return
    const old = this.#slots
    this.#slots = new Int32Array(old.length * 2)
    for (const slot of old) if (slot !== 0) this.#place(slot - 1, this.#hashes[slot - 1] ?? 0)
  }
}

/** Over the words that the mask has bits in. Not proof against chosen collisions. */
function hashUnder({ mask, words, number }: FlowMask, key: FlowKey): number {
  let hash = number
  for (let index = 0; index < words.length; index++) {
    const word = words[index] ?? 0
    hash = mix(hash, (key[word] ?? 0) & (mask[word] ?? 0))
  }
  return finish(hash)
}

function mix(hash: number, value: number): number {
  const mixed = Math.imul(hash ^ value, 0x9e37_79b1)
  return mixed ^ (mixed >>> 15)
}

function finish(hash: number): number {
  const mixed = Math.imul(hash, 0x85eb_ca6b)
  return mixed ^ (mixed >>> 13)
}
