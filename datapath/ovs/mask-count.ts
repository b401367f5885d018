/** How many masks the flows use: the kernel tries each in turn, so there must not be too many. */
import { equalKeys, type FlowKey, hashKey } from '../../packet/flow-key.ts'

interface Entry {
  readonly mask: FlowKey
  uses: number
}

export class MaskCount {
  readonly #byHash = new Map<number, Entry[]>()
  #size = 0

  get size(): number {
    return this.#size
  }

  has(mask: FlowKey): boolean {
    return this.#find(mask) !== undefined
  }

  add(mask: FlowKey): void {
    const entry = this.#find(mask)
    if (entry !== undefined) {
      entry.uses++
      return
    }
    const hash = hashKey(mask)
    const entries = this.#byHash.get(hash)
    const made = { mask: mask.slice(), uses: 1 }
    if (entries === undefined) this.#byHash.set(hash, [made])
    else entries.push(made)
    this.#size++
  }

  remove(mask: FlowKey): void {
    const entry = this.#find(mask)
    if (entry === undefined || --entry.uses > 0) return
    const hash = hashKey(mask)
    const left = (this.#byHash.get(hash) ?? []).filter((other) => other !== entry)
    if (left.length === 0) this.#byHash.delete(hash)
    else this.#byHash.set(hash, left)
    this.#size--
  }

  #find(mask: FlowKey): Entry | undefined {
    return this.#byHash.get(hashKey(mask))?.find((entry) => equalKeys(entry.mask, mask))
  }
}
