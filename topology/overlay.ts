/** Writes over objects that stand: one transaction, or several that wait for the disk. */
import assert from 'node:assert/strict'
import { isDeepStrictEqual } from 'node:util'
import type { Kind, ObjectOf } from './model.ts'
import { type Entry, type Indexed, Objects } from './objects.ts'
import { parseObject } from './parse.ts'
import type { Change, Draft } from './store.ts'

interface Place {
  readonly kind: Kind
  readonly id: string
}

/** An object's kind and id in one word. */
export function nameOf({ kind, id }: Place): string {
  return `${kind}/${id}`
}

/** A draft that shows its base with its own writes over it. The base must not change meanwhile. */
export class Overlay implements Draft, Indexed {
  readonly #base: Indexed
  /** What stands in place of the base's objects. */
  readonly #own = new Objects()
  /** Everything written, in the order of the first writes. */
  readonly #touched = new Map<string, Place>()
  readonly #kinds = new Set<Kind>()
  #sealed = false
  readonly #missed = new Set<string>()

  constructor(base: Indexed) {
    this.#base = base
  }

  get<K extends Kind>(kind: K, id: string): ObjectOf<K> | undefined {
    return this.#isTouched(kind, id) ? this.#own.get(kind, id) : this.#base.get(kind, id)
  }

  list<K extends Kind>(kind: K): readonly ObjectOf<K>[] {
    const below = this.#base.list(kind)
    if (!this.#kinds.has(kind)) return below
    const kept = below.filter(({ id }) => !this.#isTouched(kind, id))
    // Two runs in order: the sort merges them in linear time.
    const values = [...kept, ...this.#own.list(kind)]
    return Object.freeze(values.sort((a, b) => (a.id < b.id ? -1 : 1)))
  }

  *holders(mark: string): Generator<Entry> {
    for (const entry of this.#base.holders(mark)) {
      if (!this.#isTouched(entry.kind, entry.id)) yield entry
    }
    yield* this.#own.holders(mark)
  }

  isClaimed(mark: string): boolean {
    for (const _ of this.holders(mark)) return true
    return false
  }

  put<K extends Kind>(kind: K, value: ObjectOf<K>): void {
    this.#write(kind, value.id, parseObject(kind, value))
  }

  delete(kind: Kind, id: string): void {
    if (this.get(kind, id) === undefined) this.#missed.add(nameOf({ kind, id }))
    this.#write(kind, id, undefined)
  }

  /** Names of what was to be deleted and was not there. */
  get missed(): ReadonlySet<string> {
    return this.#missed
  }

  /** Takes over the changes of a draft that was made over this one. */
  absorb(changes: readonly Change[]): void {
    for (const { kind, id } of changes) this.#touch(kind, id)
    this.#own.apply(changes)
  }

  /** What the writes come to; writing what stood there already is no change. */
  changes(): readonly Change[] {
    const changes: Change[] = []
    for (const { kind, id } of this.#touched.values()) {
      const change = this.#change(kind, id)
      if (!isDeepStrictEqual(change.value, change.before)) changes.push(change)
    }
    return Object.freeze(changes)
  }

  /** Ends the draft: a write that comes late would be lost. */
  seal(): void {
    this.#sealed = true
  }

  #change<K extends Kind>(kind: K, id: string): Change<K> {
    return Object.freeze({
      kind,
      id,
      value: this.#own.get(kind, id),
      before: this.#base.get(kind, id),
    })
  }

  #write<K extends Kind>(kind: K, id: string, value: ObjectOf<K> | undefined): void {
    assert(!this.#sealed, 'a draft is written only while the work of its transaction runs')
    this.#touch(kind, id)
    if (value === undefined) this.#own.delete(kind, id)
    else this.#own.set(kind, value)
  }

  #touch(kind: Kind, id: string): void {
    this.#touched.set(nameOf({ kind, id }), { kind, id })
    this.#kinds.add(kind)
  }

  #isTouched(kind: Kind, id: string): boolean {
    return this.#kinds.has(kind) && this.#touched.has(nameOf({ kind, id }))
  }
}
