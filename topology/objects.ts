/**
 * Objects in memory: by kind and id, listed in order, found by their marks.
 *
 * A mark is a text under which an object is indexed: what it refers to and what it claims for
 * itself (mark.ts). Rules look at the holders of a mark instead of at every object.
 */
import { marksOf } from './mark.ts'
import { type Kind, kinds, type ObjectOf } from './model.ts'
import type { Change, Reader } from './store.ts'

/** An object with its kind, so that `switch` can tell objects apart. */
export type Entry<K extends Kind = Kind> = {
  [P in K]: { readonly kind: P; readonly id: string; readonly value: ObjectOf<P> }
}[K]

/** A reader that also finds objects by mark: those that stand, or would after a transaction. */
export interface Indexed extends Reader {
  holders(mark: string): Iterable<Entry>
}

/** The objects of one kind; `list` is made anew only after a change. */
class Table<K extends Kind> {
  readonly #entries = new Map<string, Entry<K>>()
  readonly #ids: string[] = []
  #list: readonly ObjectOf<K>[] | undefined

  get size(): number {
    return this.#ids.length
  }

  entry(id: string): Entry<K> | undefined {
    return this.#entries.get(id)
  }

  set(entry: Entry<K>): void {
    if (!this.#entries.has(entry.id)) this.#ids.splice(this.#position(entry.id), 0, entry.id)
    this.#entries.set(entry.id, entry)
    this.#list = undefined
  }

  delete(id: string): void {
    if (!this.#entries.delete(id)) return
    this.#ids.splice(this.#position(id), 1)
    this.#list = undefined
  }

  list(): readonly ObjectOf<K>[] {
    if (this.#list !== undefined) return this.#list
    const values: ObjectOf<K>[] = []
    for (const id of this.#ids) {
      const entry = this.#entries.get(id)
      if (entry !== undefined) values.push(entry.value)
    }
    this.#list = Object.freeze(values)
    return this.#list
  }

  /** Where `id` stands or belongs. */
  #position(id: string): number {
    let low = 0
    let high = this.#ids.length
    while (low < high) {
      const middle = (low + high) >>> 1
      if ((this.#ids[middle] ?? '') < id) low = middle + 1
      else high = middle
    }
    return low
  }
}

/** An empty table for each kind. */
function tablesOf(all: readonly Kind[]): { readonly [K in Kind]: Table<K> } {
  // One table a kind; the type system cannot see it.
  return Object.fromEntries(all.map((kind) => [kind, new Table()])) as {
    readonly [K in Kind]: Table<K>
  }
}

/** All objects that stand. */
export class Objects implements Indexed {
  readonly #tables = tablesOf(kinds)
  readonly #index = new Map<string, Set<Entry>>()

  get count(): number {
    return kinds.reduce((sum, kind) => sum + this.#tables[kind].size, 0)
  }

  get<K extends Kind>(kind: K, id: string): ObjectOf<K> | undefined {
    return this.#tables[kind].entry(id)?.value
  }

  list<K extends Kind>(kind: K): readonly ObjectOf<K>[] {
    return this.#tables[kind].list()
  }

  holders(mark: string): Iterable<Entry> {
    return this.#index.get(mark) ?? []
  }

  set<K extends Kind>(kind: K, value: ObjectOf<K>): void {
    this.#unmark(kind, value.id)
    this.#tables[kind].set({ kind, id: value.id, value })
    this.#mark(kind, value.id)
  }

  delete(kind: Kind, id: string): void {
    this.#unmark(kind, id)
    this.#tables[kind].delete(id)
  }

  apply(changes: readonly Change[]): void {
    for (const change of changes) applyChange(this, change)
  }

  #mark(kind: Kind, id: string): void {
    const entry = this.#tables[kind].entry(id)
    if (entry === undefined) return
    for (const mark of marksOf(entry)) {
      const holders = this.#index.get(mark)
      if (holders === undefined) this.#index.set(mark, new Set([entry]))
      else holders.add(entry)
    }
  }

  #unmark(kind: Kind, id: string): void {
    const entry = this.#tables[kind].entry(id)
    if (entry === undefined) return
    for (const mark of marksOf(entry)) {
      const holders = this.#index.get(mark)
      holders?.delete(entry)
      if (holders?.size === 0) this.#index.delete(mark)
    }
  }
}

function applyChange<K extends Kind>(objects: Objects, change: Change<K>): void {
  if (change.value === undefined) objects.delete(change.kind, change.id)
  else objects.set(change.kind, change.value)
}
