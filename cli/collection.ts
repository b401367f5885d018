/**
 * What can be typed: collections of objects, each with attributes in words, and how both are kept
 * in the topology. Most collections are a kind of object; some are a list inside one.
 */
import { randomUUID } from 'node:crypto'
import type { Change, Client, Item } from './client.ts'
import type { Field } from './field.ts'

/** A value as typed; `text` undefined clears. References are ids already. */
export interface Value {
  readonly text: string | undefined
  /** Typed with `!` before it. */
  readonly not: boolean
}

export type Values = ReadonlyMap<string, Value>

/** An attribute as far as typing and printing need to know it. */
export interface Attribute {
  readonly name: string
  readonly readOnly?: boolean
  /** Not shown in lists. */
  readonly hidden?: boolean
  /** Shown by another attribute; taken for those who know the name. */
  readonly synonym?: boolean
  readonly invertible?: boolean
  /** What it may be, for completion. */
  readonly values?: readonly string[]
  /** The collection whose objects it names; several with commas between. */
  readonly refers?: string
  /** The collections of which it names one object; as text it is `COLLECTION:ID`. */
  readonly refersToOneOf?: readonly string[]
}

export interface Collection {
  readonly name: string
  /** `router` gives `router0`, `router1`. Undefined for what is named by its attributes. */
  readonly alias: string | undefined
  /** The collection it is found under; undefined at the top. */
  readonly parent: string | undefined
  readonly attributes: readonly Attribute[]
  /** What is listed here has its place, and so its alias, below another parent. */
  readonly isElsewhere?: boolean
  list(client: Client, parent: Item | undefined): Promise<readonly Item[]>
  /** One object by its id, without reading all. */
  find?(client: Client, id: string): Promise<Item | undefined>
  /** The id of the object it is found under. */
  parentOf?(item: Item): string | undefined
  /** What an attribute of an object is, with ids; undefined is not shown. */
  read(item: Item, name: string): string | undefined
  create?(client: Client, parent: Item | undefined, values: Values): Promise<Item>
  set?(client: Client, item: Item, values: Values): Promise<void>
  remove?(client: Client, item: Item, parent: Item | undefined): Promise<void>
}

export interface StoredSettings {
  readonly name: string
  readonly alias: string | undefined
  readonly kind: string
  readonly parent?: { readonly collection: string; readonly field: string }
  /** Fields of a new object besides what is typed; also what tells it from others of the kind. */
  readonly fixed?: Readonly<Record<string, string>>
  readonly defaults?: (parent: Item | undefined) => Readonly<Record<string, unknown>>
  readonly fields: readonly Field[]
  /** Fields that several attributes make together. */
  readonly combine?: (item: Item | undefined, values: Values) => Readonly<Record<string, unknown>>
  /** Changes of other objects that go along with one of this. */
  readonly along?: (
    client: Client,
    item: Item | undefined,
    object: Readonly<Record<string, unknown>>,
  ) => Promise<readonly Change[]>
  /** Takes out of an object what is kept in others: `own` is left. */
  readonly split?: (
    client: Client,
    kind: string,
    id: string,
    object: Readonly<Record<string, unknown>>,
  ) => Promise<Split>
}

export interface Split {
  readonly own: Readonly<Record<string, unknown>>
  readonly others: readonly Change[]
}

/** A collection whose objects are a kind of the topology's. */
export function stored(settings: StoredSettings): Collection {
  const { name, alias, kind, parent, fixed = {}, fields } = settings
  const byName = new Map(fields.map((field) => [field.name, field]))
  const patchOf = (item: Item | undefined, values: Values) => {
    let patch: Record<string, unknown> = {}
    for (const [attribute, value] of values)
      patch = merge(patch, byName.get(attribute)?.write?.(value, item) ?? {})
    return merge(patch, settings.combine?.(item, values) ?? {})
  }
  const split = async (client: Client, id: string, object: Readonly<Record<string, unknown>>) =>
    (await settings.split?.(client, kind, id, object)) ?? { own: object, others: [] }
  return {
    name,
    alias,
    parent: parent?.collection,
    attributes: fields,
    list: (client, above) =>
      client.list(kind, { ...fixed, ...(parent && above && { [parent.field]: above.id }) }),
    find: (client, id) => client.find(kind, id),
    parentOf: (item) => (parent === undefined ? undefined : textOf(item[parent.field])),
    read: (item, attribute) => byName.get(attribute)?.read(item),
    async create(client, above, values) {
      const patch = patchOf(undefined, values)
      const object = merge(
        {
          id: randomUUID(),
          ...fixed,
          ...settings.defaults?.(above),
          ...(parent && above && { [parent.field]: above.id }),
        },
        patch,
      )
      const along = (await settings.along?.(client, undefined, object)) ?? []
      const { own, others } = await split(client, String(object.id), object)
      const value = withoutNull(own)
      const [made] = await client.transact([{ op: 'create', kind, value }, ...along, ...others])
      return made ?? { id: String(object.id) }
    },
    async set(client, item, values) {
      const patch = patchOf(item, values)
      const along = (await settings.along?.(client, item, patch)) ?? []
      const { own, others } = await split(client, item.id, patch)
      const { id } = item
      const change = { op: 'patch', kind, id, value: own } as const
      await client.transact([...(Object.keys(own).length > 0 ? [change] : []), ...along, ...others])
    },
    async remove(client, item) {
      await client.transact([{ op: 'delete', kind, id: item.id, cascade: true }])
    },
  }
}

/** What is listed and shown, but kept by the agents alone. */
export function readOnly(collection: Collection): Collection {
  const { create: _, set: __, remove: ___, ...rest } = collection
  return { ...rest, attributes: rest.attributes.map((one) => ({ ...one, readOnly: true })) }
}

/** Objects within objects merge, all else replaces; nulls stay, for a merge patch. */
export function merge(
  a: Readonly<Record<string, unknown>>,
  b: Readonly<Record<string, unknown>>,
): Record<string, unknown> {
  const merged: Record<string, unknown> = { ...a }
  for (const [key, value] of Object.entries(b)) {
    const before = merged[key]
    merged[key] = isObject(before) && isObject(value) ? merge(before, value) : value
  }
  return merged
}

function withoutNull(object: Readonly<Record<string, unknown>>): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(object)
      .filter(([, value]) => value !== null)
      .map(([key, value]) => [key, isObject(value) ? withoutNull(value) : value]),
  )
}

export function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

export function textOf(value: unknown): string | undefined {
  return value === undefined || value === null ? undefined : String(value)
}
