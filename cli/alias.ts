/**
 * Short names for objects: `router0`, `router0:port2`. Each object below the same parent gets the
 * next number when it is first seen, and keeps it as long as this program runs.
 */
import { anyCollection, catalog, childrenOf, findCollection } from './catalog.ts'
import type { Client, Item } from './client.ts'
import type { Collection } from './collection.ts'
import { CliError } from './error.ts'

interface Named {
  readonly alias: string
  readonly collection: Collection
}

export class Aliases {
  readonly #client: Client
  /** Ids by namespace (parent's id, collection's name), in the order of their numbers. */
  readonly #spaces = new Map<string, string[]>()
  readonly #names = new Map<string, Named>()
  readonly #listed = new Set<string>()

  constructor(client: Client) {
    this.#client = client
  }

  /** Gives numbers to objects that have none yet. */
  note(collection: Collection, parentId: string | undefined, items: readonly Item[]): void {
    const { alias } = collection
    if (alias === undefined) return
    const ids = this.#space(collection, parentId)
    for (const { id } of items) {
      if (this.#names.has(id)) continue
      const above = parentId === undefined ? '' : `${this.#names.get(parentId)?.alias ?? parentId}:`
      this.#names.set(id, { alias: `${above}${alias}${ids.length}`, collection })
      ids.push(id)
    }
  }

  /** Numbers all objects of a namespace once, so that they do not depend on what is looked at first. */
  async noteAll(collection: Collection, parent: Item | undefined): Promise<void> {
    const key = keyOf(collection, parent?.id)
    if (this.#listed.has(key)) return
    this.#listed.add(key)
    this.note(collection, parent?.id, await collection.list(this.#client, parent))
  }

  /** The alias of an object that has one by now. */
  known(id: string): string | undefined {
    return this.#names.get(id)?.alias
  }

  /** The alias of an object named by a reference, with those above it; the id when it is gone. */
  async of(name: string, id: string): Promise<string> {
    const known = this.#names.get(id)
    if (known !== undefined) return known.alias
    const collection = anyCollection(name)
    const item = await collection?.find?.(this.#client, id)
    if (collection === undefined || item === undefined) return id
    await this.#noteBelow(collection, item)
    return this.#names.get(id)?.alias ?? id
  }

  async #noteBelow(collection: Collection, item: Item): Promise<void> {
    const above = collection.parentOf?.(item)
    if (above === undefined) return this.noteAll(collection, undefined)
    for (const parentName of parentsOf(collection)) {
      const parents = anyCollection(parentName)
      const parent = await parents?.find?.(this.#client, above)
      if (parents === undefined || parent === undefined) continue
      await this.of(parentName, above)
      const below = findCollection(collection.name, parentName) ?? collection
      await this.noteAll(below, parent)
    }
  }

  /**
   * The object a word names in a collection: an id, an alias with or without what stands above it,
   * or a name that only one has. @throws CliError code `NOT_FOUND`
   */
  async resolve(collection: Collection, parent: Item | undefined, word: string): Promise<Item> {
    const parts = word.split(':')
    if (parts.length > 1) {
      const item = await this.#resolveChain(parts)
      if (item !== undefined) return item
    }
    const byId = await collection.find?.(this.#client, word)
    if (byId !== undefined) return byId
    const items = await collection.list(this.#client, parent)
    this.#listed.add(keyOf(collection, parent?.id))
    this.note(collection, parent?.id, items)
    const number = aliasNumber(collection, word)
    const id = number === undefined ? undefined : this.#space(collection, parent?.id)[number]
    const named = items.filter((item) => collection.read(item, 'name') === word || item.id === word)
    const found =
      items.find((item) => item.id === id) ?? (named.length === 1 ? named[0] : undefined)
    if (found !== undefined) return found
    const called = await this.#called(collection, items, word)
    if (called !== undefined) return called
    const many = named.length > 1 ? `; ${named.length} have that name, say the id` : ''
    throw new CliError('NOT_FOUND', `there is no ${collection.name} ${word}${many}`)
  }

  /** What Docker calls so: a container is its port, a network its bridge and its router. */
  async #called(
    collection: Collection,
    items: readonly Item[],
    word: string,
  ): Promise<Item | undefined> {
    if (!['port', 'bridge', 'router'].includes(collection.name)) return undefined
    const ids = Object.entries(await this.#client.names()).flatMap(([id, name]) =>
      name === word ? [id] : [],
    )
    const called = items.filter(({ id }) => ids.includes(id))
    return called.length === 1 ? called[0] : undefined
  }

  /** `router0:port2`, from the left. */
  async #resolveChain(parts: readonly string[]): Promise<Item | undefined> {
    let parent: Item | undefined
    let above: string | undefined
    for (const part of parts) {
      const collection = collectionOfAlias(part, above)
      if (collection === undefined) return undefined
      parent = await this.resolve(collection, parent, part)
      above = collection.name
    }
    return parent
  }

  #space(collection: Collection, parentId: string | undefined): string[] {
    const key = keyOf(collection, parentId)
    const ids = this.#spaces.get(key) ?? []
    this.#spaces.set(key, ids)
    return ids
  }
}

function keyOf({ name }: Collection, parentId: string | undefined): string {
  return `${parentId ?? ''}/${name}`
}

function aliasNumber({ alias }: Collection, word: string): number | undefined {
  if (alias === undefined || !word.startsWith(alias)) return undefined
  const digits = word.slice(alias.length)
  return /^\d{1,9}$/.test(digits) ? Number(digits) : undefined
}

function collectionOfAlias(part: string, above: string | undefined): Collection | undefined {
  const prefix = /^(.*?)\d+$/.exec(part)?.[1]
  return childrenOf(above).find(({ alias }) => alias === prefix)
}

/** The collections that hold objects of the same name as children. */
function parentsOf(collection: Collection): readonly string[] {
  return catalog.flatMap(({ name, parent }) =>
    name === collection.name && parent !== undefined ? [parent] : [],
  )
}
