/**
 * Secrets in the topology: the API takes them and never tells them, to nobody, not by filters and
 * not by entity tags. Where one stands, `(hidden)` is told; written back it leaves what stands.
 */
import type { Kind, ObjectOf } from '../../topology/model.ts'
import { DriverError } from '../error.ts'

export const hidden = '(hidden)'

/** By kind the field that is a secret. */
const secrets: Partial<Record<Kind, string>> = { bgpPeer: 'password' }

/** The object as it may be told. */
export function tellable<K extends Kind>(kind: K, value: ObjectOf<K>): ObjectOf<K> {
  const field = secrets[kind]
  if (field === undefined || !Object.hasOwn(value, field)) return value
  return { ...value, [field]: hidden }
}

/** All of a list as they may be told; the list itself where there is no secret. */
export function tellableAll(kind: Kind, list: readonly ObjectOf<Kind>[]): typeof list {
  return secrets[kind] === undefined ? list : list.map((value) => tellable(kind, value))
}

/** What a request writes, with the secret that stands where it leaves that. @throws DriverError */
export function withStanding(kind: Kind, value: unknown, standing: object | undefined): unknown {
  const field = secrets[kind]
  if (field === undefined || typeof value !== 'object' || value === null) return value
  if (Object.getOwnPropertyDescriptor(value, field)?.value !== hidden) return value
  const secret: unknown = Object.getOwnPropertyDescriptor(standing ?? {}, field)?.value
  if (secret !== undefined) return { ...value, [field]: secret }
  throw new DriverError('INVALID_REQUEST', `${kind}: ${field}: ${hidden} stands for none here`)
}
