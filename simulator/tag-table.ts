/**
 * A hash table from tag to number. Tags are hashes already, so their low bits are where they stand.
 *
 * Open addressing with linear probing; removal moves later entries of the run back.
 */
import type { Tag } from './tag.ts'

const firstCapacity = 1024

export class TagTable {
  #size = 0
  /** In pairs: a tag and one, or 0; and its number. */
  #slots = new Int32Array(firstCapacity * 2)

  get size(): number {
    return this.#size
  }

  /** The number of a tag; 0 when it has none. */
  get(tag: Tag): number {
    const slots = this.#slots
    const end = slots.length - 1
    for (let at = (tag << 1) & end; ; at = (at + 2) & end) {
      const found = slots[at]
      if (found === tag + 1) return slots[at + 1] ?? 0
      if (found === 0) return 0
    }
  }

  /** Gives a tag a number; says which it had before, 0 for none. */
  replace(tag: Tag, value: number): number {
    const slots = this.#slots
    const end = slots.length - 1
    let at = (tag << 1) & end
    while (slots[at] !== tag + 1) {
      if (slots[at] === 0) {
        slots[at] = tag + 1
        slots[at + 1] = value
        if (++this.#size * 4 > end) this.#grow()
        return 0
      }
      at = (at + 2) & end
    }
    const before = slots[at + 1] ?? 0
    slots[at + 1] = value
    return before
  }

  delete(tag: Tag): void {
    const slots = this.#slots
    const end = slots.length - 1
    let gap = (tag << 1) & end
    while (slots[gap] !== tag + 1) {
      if (slots[gap] === 0) return
      gap = (gap + 2) & end
    }
    this.#size--
    for (let at = (gap + 2) & end; ; at = (at + 2) & end) {
      const found = slots[at] ?? 0
      if (found === 0) break
      if (((at - ((found - 1) << 1)) & end) < ((at - gap) & end)) continue
      slots[gap] = found
      slots[gap + 1] = slots[at + 1] ?? 0
      gap = at
    }
    slots[gap] = 0
  }

  #grow(): void {
    const old = this.#slots
    this.#slots = new Int32Array(old.length * 2)
    this.#size = 0
    for (let at = 0; at < old.length; at += 2)
      if (old[at] !== 0) this.replace((old[at] ?? 0) - 1, old[at + 1] ?? 0)
  }
}
