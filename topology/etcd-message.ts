/**
 * The messages of etcd's v3 API that the store uses, field numbers from the API's documentation:
 * KV (Range, Txn, Compact), Watch, Lease and Auth.
 */
import { lastField, MessageWriter, readFields, toNumber } from './protobuf.ts'

export interface KeyValue {
  readonly key: string
  readonly value: string
  readonly modRevision: number
}

export interface RangeQuery {
  readonly key: string
  readonly end?: string | undefined
  readonly limit?: number
  readonly revision?: number
}

export interface RangeAnswer {
  readonly cluster: string
  readonly revision: number
  readonly entries: readonly KeyValue[]
  readonly more: boolean
}

/** What must hold of a key for a transaction to be done. */
export type Comparison =
  | { readonly key: string; readonly modifiedBy: number }
  | { readonly key: string; readonly exists: true }

export type Operation =
  | { readonly put: string; readonly value: string; readonly lease?: bigint | undefined }
  | { readonly delete: string }

export interface TxnAnswer {
  readonly revision: number
  readonly succeeded: boolean
  /** When it did not succeed: the latest revision of the keys that were compared. */
  readonly seen: number
}

export interface WatchEvent {
  readonly key: string
  /** Undefined when the key was deleted. */
  readonly value: string | undefined
  readonly revision: number
}

export interface WatchAnswer {
  readonly created: boolean
  readonly canceled: boolean
  readonly compacted: number
  readonly reason: string
  readonly events: readonly WatchEvent[]
}

/** What servers allow as they come: operations or comparisons of a level, and those of the next within. */
const serverMax = 128
/** Operations that one level of a transaction holds. */
const levelMax = 60

/** Objects that one transaction may write. */
export const operationsMax = levelMax * (levelMax - 1)
/** Keys that one transaction may compare; the level within, of operations, is to have room. */
export const comparisonsMax = serverMax - levelMax

export function encodeRange({ key, end, limit, revision }: RangeQuery): Buffer {
  return new MessageWriter()
    .bytes(1, key)
    .bytes(2, end)
    .number(3, limit)
    .number(4, revision)
    .finish()
}

export function decodeRange(message: Buffer): RangeAnswer {
  const entries: KeyValue[] = []
  let more = false
  for (const { number, value, bytes } of readFields(message)) {
    if (number === 2) entries.push(decodeEntry(bytes))
    if (number === 3) more = value !== 0n
  }
  return { ...decodeHeader(message), entries, more }
}

/** More operations than fit on one level go into transactions within it. */
export function encodeTxn(
  compare: readonly Comparison[],
  operations: readonly Operation[],
): Buffer {
  const writer = new MessageWriter()
  for (const one of compare) writer.message(1, encodeComparison(one))
  const [direct, nested] =
    operations.length <= levelMax ? [operations, []] : [operations.slice(0, 1), operations.slice(1)]
  for (const one of direct) writer.message(2, encodeOperation(one))
  for (let at = 0; at < nested.length; at += levelMax) {
    const inner = encodeTxn([], nested.slice(at, at + levelMax))
    writer.message(2, new MessageWriter().message(4, inner).finish())
  }
  for (const { key } of compare)
    writer.message(3, new MessageWriter().message(1, encodeRange({ key })).finish())
  return writer.finish()
}

export function decodeTxn(message: Buffer): TxnAnswer {
  const succeeded = toNumber(lastField(message, 2)) !== 0
  let seen = 0
  if (!succeeded)
    for (const { number, bytes } of readFields(message)) {
      const range = number === 3 ? lastField(bytes, 1) : undefined
      for (const entry of range === undefined ? [] : decodeRange(range.bytes).entries)
        seen = Math.max(seen, entry.modRevision)
    }
  return { revision: decodeHeader(message).revision, succeeded, seen }
}

export function encodeCompaction(revision: number): Buffer {
  return new MessageWriter().number(1, revision).number(2, true).finish()
}

export function encodeWatch(key: string, end: string, start: number): Buffer {
  const create = new MessageWriter().bytes(1, key).bytes(2, end).number(3, start)
  return new MessageWriter().message(1, create.finish()).finish()
}

/** Asks the watch for a sign of life. */
export function encodeProgress(): Buffer {
  return new MessageWriter().message(3, '').finish()
}

export function decodeWatch(message: Buffer): WatchAnswer {
  const answer = { created: false, canceled: false, compacted: 0, reason: '' }
  const events: WatchEvent[] = []
  for (const field of readFields(message)) {
    if (field.number === 3) answer.created = field.value !== 0n
    if (field.number === 4) answer.canceled = field.value !== 0n
    if (field.number === 5) answer.compacted = toNumber(field)
    if (field.number === 6) answer.reason = field.bytes.toString()
    if (field.number === 11) events.push(decodeEvent(field.bytes))
  }
  return { ...answer, events }
}

export function encodeGrant(seconds: number, id: bigint): Buffer {
  return new MessageWriter().number(1, seconds).number(2, id).finish()
}

export function encodeKeepAlive(id: bigint): Buffer {
  return new MessageWriter().number(1, id).finish()
}

/** Seconds that the lease still lives; 0 when it is gone. */
export function decodeKeepAlive(message: Buffer): number {
  return toNumber(lastField(message, 3))
}

export function encodeAuthenticate(name: string, password: string): Buffer {
  return new MessageWriter().bytes(1, name).bytes(2, password).finish()
}

export function decodeAuthenticate(message: Buffer): string {
  return lastField(message, 2)?.bytes.toString() ?? ''
}

function decodeHeader(message: Buffer): { readonly cluster: string; readonly revision: number } {
  const header = lastField(message, 1)?.bytes ?? Buffer.alloc(0)
  const cluster = (lastField(header, 1)?.value ?? 0n).toString(16)
  return { cluster, revision: toNumber(lastField(header, 3)) }
}

function decodeEntry(message: Buffer): KeyValue {
  let [key, value, modRevision] = ['', '', 0]
  for (const field of readFields(message)) {
    if (field.number === 1) key = field.bytes.toString()
    if (field.number === 3) modRevision = toNumber(field)
    if (field.number === 5) value = field.bytes.toString()
  }
  return { key, value, modRevision }
}

function decodeEvent(message: Buffer): WatchEvent {
  let isDelete = false
  let entry: KeyValue = { key: '', value: '', modRevision: 0 }
  for (const field of readFields(message)) {
    if (field.number === 1) isDelete = field.value === 1n
    if (field.number === 2) entry = decodeEntry(field.bytes)
  }
  const { key, value, modRevision } = entry
  return { key, value: isDelete ? undefined : value, revision: modRevision }
}

function encodeComparison(comparison: Comparison): Buffer {
  const [greater, less, create, mod] = [1, 2, 1, 2]
  const writer = new MessageWriter()
  if ('exists' in comparison)
    return writer.number(1, greater).number(2, create).bytes(3, comparison.key).finish()
  return writer
    .number(1, less)
    .number(2, mod)
    .bytes(3, comparison.key)
    .number(6, comparison.modifiedBy + 1)
    .finish()
}

function encodeOperation(operation: Operation): Buffer {
  if ('delete' in operation) {
    const key = new MessageWriter().bytes(1, operation.delete).finish()
    return new MessageWriter().message(3, key).finish()
  }
  const put = new MessageWriter().bytes(1, operation.put).bytes(2, operation.value)
  return new MessageWriter().message(2, put.number(3, operation.lease).finish()).finish()
}
