/**
 * A topology as text, and from one store to another: a line of JSON for each object,
 * `{"kind":"bridge","value":{…}}`, after a first line that names the format. Facts that live only
 * while a host does are left out.
 */
import { StoreError, TopologyError } from './error.ts'
import { isEphemeral } from './host-schema.ts'
import { type Kind, kinds, type ObjectOf } from './model.ts'
import { parseObject } from './parse.ts'
import type { Draft, Reader, Store } from './store.ts'

const header = '{"midonet":"topology","format":1}'

/** All that is durable, as text. */
export function exportText(reader: Reader): string {
  const lines = kinds
    .filter((kind) => !isEphemeral(kind))
    .flatMap((kind) => reader.list(kind).map((value) => JSON.stringify({ kind, value })))
  return `${[header, ...lines].join('\n')}\n`
}

/**
 * Writes all objects of a text into an empty store, in one transaction. Returns how many.
 * @throws StoreError NOT_EMPTY, FORMAT, or TOO_LARGE at etcd; TopologyError for what breaks a rule
 */
export async function importText(store: Store, text: string): Promise<number> {
  const [first, ...lines] = text.split('\n')
  if (first !== header)
    throw new StoreError('FORMAT', 'this is no topology; make one with: midonet store export FILE')
  const rows = lines.filter((line) => line !== '')
  await store.transact((draft) => {
    refuseFull(draft)
    for (const [at, line] of rows.entries()) putLine(draft, line, at + 2)
  })
  return rows.length
}

function refuseFull(draft: Draft): void {
  const held = kinds.find((kind) => !isEphemeral(kind) && draft.list(kind).length > 0)
  if (held === undefined) return
  const message = `the target has objects already (${held}); import into an empty store`
  throw new StoreError('NOT_EMPTY', message)
}

function putLine(draft: Draft, line: string, number: number): void {
  const object: unknown = parseJson(line, number)
  const name: unknown = Object.getOwnPropertyDescriptor(Object(object), 'kind')?.value
  const kind = kinds.find((one) => one === name)
  if (kind === undefined)
    throw new TopologyError('INVALID', `line ${number}: ${String(name)} is no kind of this version`)
  put(draft, kind, Object.getOwnPropertyDescriptor(Object(object), 'value')?.value)
}

function put<K extends Kind>(draft: Draft, kind: K, value: unknown): void {
  const object: ObjectOf<K> = parseObject(kind, value)
  draft.put(kind, object)
}

function parseJson(line: string, number: number): unknown {
  try {
    return JSON.parse(line)
  } catch (cause) {
    const message = `line ${number} is no JSON; the file was cut or changed`
    throw new StoreError('FORMAT', message, { cause })
  }
}
