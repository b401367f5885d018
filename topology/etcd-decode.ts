/** From etcd's keys to changes of objects. What does not fit this version's model is left out. */
import { isDeepStrictEqual } from 'node:util'
import debug from 'debug'
import type { KeyValue } from './etcd-message.ts'
import { type Kind, kinds, type ObjectOf } from './model.ts'
import { parseObject } from './parse.ts'
import type { Change, Reader } from './store.ts'

const log = debug('midonet:etcd')

const objectPrefix = '/midonet/v1/'
const kindsByName: ReadonlyMap<string, Kind> = new Map(kinds.map((kind) => [kind, kind]))

/** What a key's new value (undefined: deleted) changes; nothing when it is no object of ours. */
export function decodeObject(
  reader: Reader,
  key: string,
  text: string | undefined,
): readonly Change[] {
  if (!key.startsWith(objectPrefix)) return []
  const slash = key.indexOf('/', objectPrefix.length)
  const kind = kindsByName.get(key.slice(objectPrefix.length, slash))
  const id = key.slice(slash + 1)
  if (slash < 0 || kind === undefined || id === '') return []
  const value = text === undefined ? undefined : decode(kind, id, text)
  const before = reader.get(kind, id)
  if (text !== undefined && value === undefined) return []
  return isDeepStrictEqual(value, before) ? [] : [changeOf(kind, id, value, before)]
}

/** What turns the objects of `reader` into those of a snapshot. */
export function differences(reader: Reader, entries: readonly KeyValue[]): readonly Change[] {
  const stands = new Set(entries.map(({ key }) => key))
  const gone = kinds.flatMap((kind) =>
    reader
      .list(kind)
      .filter(({ id }) => !stands.has(`${objectPrefix}${kind}/${id}`))
      .map((before) => changeOf(kind, before.id, undefined, before)),
  )
  return [...gone, ...entries.flatMap(({ key, value }) => decodeObject(reader, key, value))]
}

function decode<K extends Kind>(kind: K, id: string, text: string): ObjectOf<K> | undefined {
  try {
    const value = parseObject(kind, JSON.parse(text))
    if (value.id === id) return value
    log('%s %s has the id %s; left out', kind, id, value.id)
  } catch (error) {
    log('%s %s is none of this version; left out: %s', kind, id, error)
  }
  return undefined
}

/** Kind and values belong together; the type system cannot see it. */
function changeOf(kind: Kind, id: string, value: unknown, before: unknown): Change {
  return Object.freeze({ kind, id, value, before }) as Change
}
