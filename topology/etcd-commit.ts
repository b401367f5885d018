/**
 * What a transaction asks of etcd: which keys must not have changed, and what is written.
 *
 * With anything durable in it: the head, which every such transaction writes. With facts of hosts
 * only: their own keys, those they name, and a key of the host's own, so that a request that comes
 * late (it was sent again meanwhile) finds that changed and does nothing.
 */
import { StoreError } from './error.ts'
import { headKey } from './etcd-follow.ts'
import { type Comparison, comparisonsMax, type Operation, operationsMax } from './etcd-message.ts'
import { isEphemeral } from './host-schema.ts'
import { objectKey } from './leveldb.ts'
import { referencesOf } from './mark.ts'
import type { Kind } from './model.ts'
import type { Entry } from './objects.ts'
import type { Change, Draft } from './store.ts'

export interface CommitPlan {
  readonly compare: readonly Comparison[]
  readonly operations: readonly Operation[]
  readonly needsLease: boolean
}

interface Place {
  /** The host's own key. */
  readonly writer: string
  /** The revision that the changes were made on. */
  readonly modifiedBy: number
  readonly lease: bigint
}

/** `id` tells the commit from all others when it is seen. @throws StoreError code `TOO_LARGE` */
export function planCommit(id: string, changes: readonly Change[], place: Place): CommitPlan {
  if (changes.length > operationsMax) {
    const message = `a transaction may change ${operationsMax} objects; split it up`
    throw new StoreError('TOO_LARGE', message)
  }
  const { writer, modifiedBy, lease } = place
  const facts = changes.every(({ kind }) => isEphemeral(kind)) ? factKeys(changes, place) : []
  const isFacts = facts.length > 0 && facts.length <= comparisonsMax
  const guard: Operation = isFacts ? { put: writer, value: id, lease } : { put: headKey, value: id }
  return {
    compare: isFacts ? facts : [{ key: headKey, modifiedBy }],
    operations: [guard, ...changes.map((change) => operationOf(change, lease))],
    needsLease: changes.some(({ kind }) => isEphemeral(kind)),
  }
}

function factKeys(changes: readonly Change[], place: Place): readonly Comparison[] {
  const { writer, modifiedBy } = place
  const compare = new Map<string, Comparison>([[writer, { key: writer, modifiedBy }]])
  for (const { kind, id, value } of changes) {
    const own = objectKey(kind, id)
    compare.set(own, { key: own, modifiedBy })
    if (value === undefined) continue
    for (const reference of referencesOf(entryOf(kind, id, value))) {
      const key = objectKey(reference.kind, reference.id)
      if (!compare.has(key)) compare.set(key, { key, exists: true })
    }
  }
  return [...compare.values()]
}

function operationOf({ kind, id, value }: Change, lease: bigint): Operation {
  const key = objectKey(kind, id)
  if (value === undefined) return { delete: key }
  return { put: key, value: JSON.stringify(value), ...(isEphemeral(kind) && { lease }) }
}

/** Kind and value belong together; the type system cannot see it. */
function entryOf(kind: Kind, id: string, value: unknown): Entry {
  return { kind, id, value } as Entry
}

/** Whether a change took one of the host's facts from it. */
export function isLostFact({ kind, value, before }: Change, host: string): boolean {
  if (!isEphemeral(kind) || value !== undefined || before === undefined) return false
  return kind === 'hostAlive' ? before.id === host : 'host' in before && before.host === host
}

/** Writes it again, but not when it is there already, or what it names is gone. */
export function restore<K extends Kind>(draft: Draft, { kind, id, before }: Change<K>): void {
  if (before === undefined || draft.get(kind, id) !== undefined) return
  const stands = referencesOf(entryOf(kind, id, before)).every(
    (one) => draft.get(one.kind, one.id) !== undefined,
  )
  if (stands) draft.put(kind, before)
}
