/** One change of one object, as a request asks for it, done on a draft. */
import { randomUUID } from 'node:crypto'
import { z } from 'zod'
import { deleteWhole } from '../../topology/cascade.ts'
import { ephemeralKinds } from '../../topology/host-schema.ts'
import { type Kind, kinds, type ObjectOf } from '../../topology/model.ts'
import { parseObject } from '../../topology/parse.ts'
import type { Draft } from '../../topology/store.ts'
import { bindPort } from '../../topology/tunnel.ts'
import { DriverError } from '../error.ts'
import { checkPrecondition, type Precondition } from './etag.ts'
import { mergePatch } from './merge-patch.ts'
import { tellable, withStanding } from './secret.ts'

export const limits = { operationsMax: 1000 } as const

export interface Operation {
  /** `put` replaces or makes, `create` must not find it, `patch` and `delete` must. */
  readonly op: 'create' | 'put' | 'patch' | 'delete'
  readonly kind: Kind
  readonly id: string
  /** The object, or the merge patch (RFC 7396). */
  readonly value?: unknown
  readonly precondition: Precondition
  /** Of `delete`: with all that is part of it. */
  readonly cascade?: boolean
}

export interface Done {
  readonly kind: Kind
  readonly id: string
  /** Undefined when it is gone. */
  readonly value: ObjectOf<Kind> | undefined
  readonly created: boolean
}

const id = z.string().min(1).max(192)

/** The body of `POST /v1/transaction`. */
export const transactionSchema = z.strictObject({
  operations: z
    .array(
      z.strictObject({
        op: z.enum(['create', 'put', 'patch', 'delete']),
        kind: z.string().max(64),
        id: id.optional(),
        value: z.record(z.string(), z.unknown()).optional(),
        ifMatch: z.string().max(256).optional(),
        cascade: z.boolean().optional(),
      }),
    )
    .min(1)
    .max(limits.operationsMax),
})

/** Kept by the agents themselves, or by Docker: to be read only. */
const kept: ReadonlySet<string> = new Set<Kind>([
  'host',
  'pool',
  'address',
  'network',
  'endpoint',
  'uplink',
  ...ephemeralKinds,
])

/** Whether requests may change objects of this kind. */
export function isWritable(kind: Kind): boolean {
  return !kept.has(kind)
}

/** @throws DriverError code `NOT_FOUND` that lists the kinds */
export function readKind(text: string): Kind {
  const kind = kinds.find((name) => name === text)
  if (kind !== undefined) return kind
  throw new DriverError('NOT_FOUND', `no kind ${text.slice(0, 40)}; there are ${kinds.join(', ')}`)
}

/** The operations of a transaction's body. @throws DriverError */
export function readOperations({
  operations,
}: z.infer<typeof transactionSchema>): readonly Operation[] {
  return operations.map(({ op, kind, id: given, value, ifMatch, cascade }, at) => {
    const object = value ?? {}
    const inside = Object.getOwnPropertyDescriptor(object, 'id')?.value
    const name = given ?? (typeof inside === 'string' ? inside : undefined)
    if (name === undefined && op !== 'create')
      throw new DriverError('INVALID_REQUEST', `operations.${at}: ${op} needs an id`)
    if (op !== 'delete' && value === undefined)
      throw new DriverError('INVALID_REQUEST', `operations.${at}: ${op} needs a value`)
    return {
      op,
      kind: readKind(kind),
      id: name ?? randomUUID(),
      value: object,
      precondition: { ifMatch, ifNoneMatch: undefined },
      ...(cascade !== undefined && { cascade }),
    }
  })
}

/** @throws DriverError, InvalidObjectError; the rules of the topology are checked at the commit. */
export function applyOperation(draft: Draft, operation: Operation): Done {
  const { op, kind, id: name, value, precondition, cascade } = operation
  if (!isWritable(kind))
    throw new DriverError('FORBIDDEN', `${kind} objects are kept by the agents; they can be read`)
  const standing = draft.get(kind, name)
  checkPrecondition(precondition, standing && tellable(kind, standing))
  if (op === 'create' && standing !== undefined)
    throw new DriverError('CONFLICT', `${kind} ${name} is there already; choose another id`)
  if ((op === 'patch' || op === 'delete') && standing === undefined)
    throw new DriverError('NOT_FOUND', `no ${kind} has the id ${name}`)
  if (op === 'delete') {
    if (cascade === true) deleteWhole(draft, kind, name)
    else draft.delete(kind, name)
    return { kind, id: name, value: undefined, created: false }
  }
  const wanted = withStanding(kind, value, standing)
  return put(draft, kind, name, op === 'patch' ? mergePatch(standing, wanted) : wanted, !standing)
}

function put(draft: Draft, kind: Kind, id: string, value: unknown, created: boolean): Done {
  const inside = fieldOf(value, 'id')
  if (inside !== undefined && inside !== id)
    throw new DriverError('INVALID_REQUEST', `${kind}: id: must be ${id}, or left out`)
  const object = parseObject(kind, { ...Object(value), id })
  draft.put(kind, object)
  // A port gets its tunnel key when it is bound, by whomever.
  if (kind === 'binding') completeBinding(draft, id)
  const written = draft.get(kind, id)
  return { kind, id, value: written && tellable(kind, written), created }
}

function completeBinding(draft: Draft, id: string): void {
  const binding = draft.get('binding', id)
  if (binding !== undefined) bindPort(draft, binding)
}

function fieldOf(value: unknown, field: string): unknown {
  return typeof value === 'object' && value !== null
    ? Object.getOwnPropertyDescriptor(value, field)?.value
    : undefined
}
