/**
 * A topology of any size into an etcd that has none, in bounded transactions, of which agents see
 * nothing before the last:
 *
 *   check all in memory ─▶ mark the import ─▶ objects, a batch at a time ─▶ take the mark away
 *
 * While the mark stands no agent reads or follows the store (etcd-follow.ts); afterwards each reads
 * all at once. An import that broke off leaves its mark; the next one begins by removing what it
 * left. Each batch is done only while the mark is this import's own.
 */
import { randomUUID } from 'node:crypto'
import { StoreError } from './error.ts'
import type { EtcdCalls } from './etcd-client.ts'
import { headKey, importKey, importMark } from './etcd-follow.ts'
import type { Comparison, Operation } from './etcd-message.ts'
import { isEphemeral } from './host-schema.ts'
import { objectKey, objectPrefix } from './leveldb.ts'
import { openMemoryStore } from './memory.ts'
import { type Kind, kinds } from './model.ts'
import { importText } from './transfer.ts'

/** Operations of a transaction, keys of a page, and how often a call that fails is sent again. */
const limits = { batch: 1_000, page: 1_000, tries: 5 } as const

/**
 * Returns how many objects there are.
 * @throws StoreError NOT_EMPTY, FORMAT, CONFLICT when another import runs or an agent wrote
 * meanwhile, UNREACHABLE; TopologyError for what breaks a rule. Until etcd is written, nothing is.
 */
export async function importToEtcd(client: EtcdCalls, text: string): Promise<number> {
  const puts = await operationsOf(text)
  const guard = await begin(client)
  for (let at = 0; at < puts.length; at += limits.batch)
    await commit(client, guard, puts.slice(at, at + limits.batch))
  await commit(client, guard, [{ delete: importKey }, { put: headKey, value: randomUUID() }])
  return puts.length
}

/** What the text puts. All rules are checked on it before anything is written. */
async function operationsOf(text: string): Promise<readonly Operation[]> {
  const store = await openMemoryStore()
  try {
    await importText(store, text)
    return kinds.flatMap((kind) =>
      store
        .list(kind)
        .map((value) => ({ put: objectKey(kind, value.id), value: JSON.stringify(value) })),
    )
  } finally {
    await store.close()
  }
}

/** Sets the mark, and removes what an import before left. Returns what keeps others out. */
async function begin(client: EtcdCalls): Promise<readonly Comparison[]> {
  const [head] = (await client.range({ key: headKey })).entries
  const [mark] = (await client.range({ key: importKey })).entries
  const standing = await durableKeys(client)
  if (mark === undefined && standing.length > 0)
    throw new StoreError(
      'NOT_EMPTY',
      `the target has objects already (${standing[0]}); import into an empty store`,
    )
  const { succeeded, revision } = await client.txn(
    [
      { key: headKey, modifiedBy: head?.modRevision ?? 0 },
      { key: importKey, modifiedBy: mark?.modRevision ?? 0 },
    ],
    // The head as well: no agent's transaction that began before may come between.
    [importMark(), { put: headKey, value: randomUUID() }],
  )
  if (!succeeded) throw takenOver()
  const guard: readonly Comparison[] = [
    { key: importKey, modifiedBy: revision },
    { key: importKey, exists: true },
  ]
  for (let at = 0; at < standing.length; at += limits.batch)
    await commit(
      client,
      guard,
      standing.slice(at, at + limits.batch).map((key) => ({ delete: key })),
    )
  return guard
}

/** A call whose outcome is not known is sent again: it does the same, or finds itself done. */
async function commit(
  client: EtcdCalls,
  guard: readonly Comparison[],
  operations: readonly Operation[],
): Promise<void> {
  const isLast = operations.some((one) => 'delete' in one && one.delete === importKey)
  for (let tries = 1; ; tries++) {
    try {
      if ((await client.txn(guard, operations)).succeeded) return
      const { entries } = await client.range({ key: importKey })
      // Sent again, the last finds the mark gone.
      if (isLast && tries > 1 && entries.length === 0) return
      throw takenOver()
    } catch (error) {
      const isLost = error instanceof StoreError && error.code === 'UNREACHABLE'
      if (!isLost || tries === limits.tries) throw error
    }
  }
}

/** Keys of objects that are no facts of hosts. */
async function durableKeys(client: EtcdCalls): Promise<readonly string[]> {
  const found: string[] = []
  const end = `${objectPrefix.slice(0, -1)}0`
  for (let key: string = objectPrefix; ; ) {
    const { entries, more } = await client.range({ key, end, limit: limits.page })
    found.push(...entries.map((entry) => entry.key).filter(isDurable))
    const last = entries.at(-1)
    if (!more || last === undefined) return found
    key = `${last.key}\0`
  }
}

function isDurable(key: string): boolean {
  const name = key.slice(objectPrefix.length).split('/')[0]
  const kind: Kind | undefined = kinds.find((one) => one === name)
  return kind !== undefined && !isEphemeral(kind)
}

function takenOver(): StoreError {
  const message = 'another import, or an agent, has written meanwhile; look at the store and repeat'
  return new StoreError('CONFLICT', message)
}
