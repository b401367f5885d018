/**
 * What makes a topology valid, checked on the outcome of each transaction.
 *
 * Only what changed is looked at, and what rests on it: a commit costs the same however many
 * objects there are.
 */
import { TopologyError } from './error.ts'
import { isEphemeral } from './host-schema.ts'
import { claimsOf, referenceMark, referencesOf } from './mark.ts'
import type { Kind } from './model.ts'
import { checkObject, dependentsOf } from './object-rule.ts'
import type { Entry, Indexed } from './objects.ts'
import { checkPoolOverlap } from './pool-rule.ts'
import type { Change } from './store.ts'

/** @throws TopologyError for the first rule that `outcome`, which has `changes` in it, breaks. */
export function checkRules(changes: readonly Change[], outcome: Indexed): void {
  for (const change of changes) {
    const entry = entryOf(change)
    if (entry === undefined) checkUnused(change.kind, change.id, outcome)
    else checkPut(entry, change, outcome)
  }
}

function checkPut(entry: Entry, change: Change, outcome: Indexed): void {
  checkReferences(entry, outcome)
  checkClaims(entry, outcome)
  checkObject(entry, outcome)
  if (change.kind === 'pool' && change.value?.subnet !== change.before?.subnet) {
    if (change.value !== undefined) checkPoolOverlap(change.value, outcome)
  }
  for (const dependent of dependentsOf(change, outcome)) checkObject(dependent, outcome)
}

function checkReferences(entry: Entry, outcome: Indexed): void {
  for (const { field, kind, id } of referencesOf(entry)) {
    if (outcome.get(kind, id) !== undefined) continue
    throw new TopologyError(
      'MISSING_REFERENCE',
      `${entry.kind} ${entry.id}: ${field}: there is no ${kind} ${id}; create it first`,
    )
  }
}

function checkClaims(entry: Entry, outcome: Indexed): void {
  const { kind, id } = entry
  for (const { mark, problem } of claimsOf(entry)) {
    for (const holder of outcome.holders(mark)) {
      if (holder.kind === kind && holder.id === id) continue
      const message = `${kind} ${id}: ${problem} (${holder.kind} ${holder.id} has it)`
      throw new TopologyError('CONFLICT', message)
    }
  }
}

function checkUnused(kind: Kind, id: string, outcome: Indexed): void {
  for (const { kind: user, id: userId } of outcome.holders(referenceMark(kind, id))) {
    // They go with their host, or when it sees that what they name is gone.
    if (isEphemeral(user)) continue
    const message = `${kind} ${id} is in use by ${user} ${userId}; delete or change that first`
    throw new TopologyError('IN_USE', message)
  }
}

function entryOf<K extends Kind>({ kind, id, value }: Change<K>): Entry<K> | undefined {
  return value === undefined ? undefined : { kind, id, value }
}
