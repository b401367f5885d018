/** The masks in use, each with an id that the keys of its flows carry. */
import { createKey, equalKeys, type FlowKey, keyWords } from '../../packet/flow-key.ts'
import { DatapathError } from '../datapath.ts'
import type { Arena } from '../syscall.ts'
import { masksMax, table } from './layout.ts'

export class MaskTable {
  readonly #memory: Arena
  /** How many flows use each mask. */
  readonly #uses = new Uint32Array(masksMax)
  readonly #masks = Array.from({ length: masksMax }, createKey)

  /** Reads what an agent before has left; the caller says by `use` which of it flows need. */
  constructor(memory: Arena) {
    this.#memory = memory
    for (let id = 0; id < masksMax; id++)
      this.#masks[id]?.set(memory.words.subarray(this.#word(id), this.#word(id) + keyWords))
  }

  get count(): number {
    return this.#uses.reduce((count, uses) => count + (uses > 0 ? 1 : 0), 0)
  }

  /** The mask with this id. */
  at(id: number): FlowKey | undefined {
    return this.#masks[id]
  }

  /** Whether programs can find flows of this mask. */
  isSet(id: number): boolean {
    return id < masksMax && this.#memory.words[this.#word(id) - 2] === 1
  }

  /** Counts one flow more for a mask. */
  use(id: number): void {
    this.#uses[id] = (this.#uses[id] ?? 0) + 1
  }

  /** The id of a mask, which becomes one of the table when it is not. @throws DatapathError `E2BIG` */
  add(mask: FlowKey): number {
    let free = masksMax
    for (let id = masksMax - 1; id >= 0; id--) {
      if (this.#uses[id] === 0) free = id
      else if (equalKeys(this.#masks[id] ?? mask, mask)) return id
    }
    const words = this.#masks[free]
    if (words === undefined)
      throw new DatapathError('E2BIG', `${masksMax} masks are in use: execute instead`)
    words.set(mask)
    const at = this.#word(free)
    this.#memory.words.set(mask, at)
    this.#memory.words[at - 2] = 1
    const count = this.#memory.view.getUint32(table.maskCount, true)
    this.#memory.view.setUint32(table.maskCount, Math.max(count, free + 1), true)
    return free
  }

  /** Counts one flow less, and frees the mask when that was the last, or when none was counted. */
  release(id: number): void {
    this.#uses[id] = Math.max(0, (this.#uses[id] ?? 0) - 1)
    if (this.#uses[id] === 0) this.#memory.words[this.#word(id) - 2] = 0
    let count = masksMax
    while (count > 0 && this.#uses[count - 1] === 0) count--
    this.#memory.view.setUint32(table.maskCount, count, true)
  }

  /** Frees every mask that no flow uses. */
  prune(): void {
    for (let id = 0; id < masksMax; id++)
      if (this.#uses[id] === 0 && this.isSet(id)) this.release(id)
  }

  /** Index of the mask's first word in the memory. */
  #word(id: number): number {
    return (table.masks + id * table.maskSize + table.maskWords) / 4
  }
}
