/**
 * Objects in memory: by kind and id, listed in order, found by their marks.
 *
 * A mark is a text under which an object is indexed: what it refers to and what it claims for
 * itself (mark.ts). Rules look at the holders of a mark instead of at every object.
 */
import { marksOf } from './mark.ts'
import type { Kind, ObjectOf } from './model.ts'
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

  /** Another value in place of the one that stands; the entry stays the same. */
  replace(entry: Entry<K>, value: ObjectOf<K>): void {
    Object.assign(entry, { value })
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

const none: readonly never[] = Object.freeze([])

/** All objects that stand. */
export class Objects implements Indexed {
  /** By kind, made when the first object comes: drafts touch few kinds. */
  readonly #tables = new Map<Kind, Table<Kind>>()
  /** By mark. Most marks have one holder, for which a set would take several times its space. */
  readonly #index = new Map<string, Entry | Set<Entry>>()

  get count(): number {
    let sum = 0
    for (const table of this.#tables.values()) sum += table.size
    return sum
  }

  get<K extends Kind>(kind: K, id: string): ObjectOf<K> | undefined {
    return this.#table(kind)?.entry(id)?.value
  }

  list<K extends Kind>(kind: K): readonly ObjectOf<K>[] {
    return this.#table(kind)?.list() ?? none
  }

  holders(mark: string): Iterable<Entry> {
    const found = this.#index.get(mark)
    return found instanceof Set ? found : found === undefined ? none : [found]
  }

  set<K extends Kind>(kind: K, value: ObjectOf<K>): void {
    const standing = this.#entry(kind, value.id)
    if (standing === undefined) this.#add(kind, value)
    else this.#replace(standing, value)
  }

  delete(kind: Kind, id: string): void {
    const entry = this.#entry(kind, id)
    if (entry === undefined) return
    for (const mark of marksOf(entry)) this.#unmark(entry, mark)
    this.#table(kind)?.delete(id)
  }

  apply(changes: readonly Change[]): void {
    for (const change of changes) applyChange(this, change)
  }

  /** The table of a kind has that kind's entries; the type system cannot see it. */
  #table<K extends Kind>(kind: K): Table<K> | undefined {
    return this.#tables.get(kind) as Table<K> | undefined
  }

  #entry(kind: Kind, id: string): Entry | undefined {
    return this.#tables.get(kind)?.entry(id)
  }

  #add<K extends Kind>(kind: K, value: ObjectOf<K>): void {
    let table = this.#table(kind)
    if (table === undefined) {
      table = new Table()
      this.#tables.set(kind, table)
    }
    table.set({ kind, id: value.id, value })
    const entry = this.#entry(kind, value.id)
    if (entry !== undefined) for (const mark of marksOf(entry)) this.#mark(entry, mark)
  }

  /** Most changes leave the marks as they are, of which some have thousands of holders. */
  #replace(entry: Entry, value: ObjectOf<Kind>): void {
    const before = marksOf(entry)
    this.#tables.get(entry.kind)?.replace(entry, value)
    const after = marksOf(entry)
    for (const mark of before) if (!after.has(mark)) this.#unmark(entry, mark)
    for (const mark of after) if (!before.has(mark)) this.#mark(entry, mark)
  }

  #mark(entry: Entry, mark: string): void {
    const found = this.#index.get(mark)
    if (found instanceof Set) found.add(entry)
    else this.#index.set(mark, found === undefined ? entry : new Set([found, entry]))
  }

  #unmark(entry: Entry, mark: string): void {
    const found = this.#index.get(mark)
    if (found === entry) this.#index.delete(mark)
    else if (found instanceof Set && found.delete(entry) && found.size === 0)
      this.#index.delete(mark)
  }
}

function applyChange<K extends Kind>(objects: Objects, change: Change<K>): void {
  if (change.value === undefined) objects.delete(change.kind, change.id)
  else objects.set(change.kind, change.value)
}
