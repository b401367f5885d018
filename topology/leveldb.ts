/**
 * The embedded engine: LevelDB in a folder of one host.
 *
 *   /midonet/v1/<kind>/<id>   one object as JSON
 *   /midonet/meta/format      what this layout is called: 1
 *   /midonet/meta/revision    the last commit
 *   /midonet/meta/digest      over all objects: LevelDB skips damaged records of its log in silence
 *
 *   file midonet.data         there once something was written: LevelDB takes a damaged log for an
 *                             empty one, and would begin anew
 *
 * Each write is one synchronous batch with the metadata in it, so a crash leaves whole
 * transactions only.
 */
import { existsSync } from 'node:fs'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { ClassicLevel } from 'classic-level'
import { Digest } from './digest.ts'
import { StoreError } from './error.ts'
import { isEphemeral } from './host-schema.ts'
import { type Kind, kinds } from './model.ts'
import { Objects } from './objects.ts'
import { parseObject } from './parse.ts'
import { type Journal, ReplicaStore, type Snapshot } from './replica.ts'
import type { Change, Revision, Store } from './store.ts'

const format = 1
export const objectPrefix = '/midonet/v1/'
const formatKey = '/midonet/meta/format'
const revisionKey = '/midonet/meta/revision'
const digestKey = '/midonet/meta/digest'
/** Of a replica of etcd: which cluster, and which of its revisions. */
const originKey = '/midonet/meta/origin'
/** A file beside LevelDB's own. */
const markName = 'midonet.data'
const metaKeys: readonly string[] = [formatKey, revisionKey, digestKey, originKey]

type Level = ClassicLevel<string, string>

/** Opens the store in folder `dir`, made when it is not there; one process at a time. */
export async function openLevelDbStore(dir: string): Promise<Store> {
  const level = await openLevel(dir)
  try {
    const digest = new Digest()
    const snapshot = await load(level, dir, digest)
    return new ReplicaStore(new LevelJournal(level, digest, dir), snapshot)
  } catch (error) {
    await level.close()
    throw error
  }
}

/** What an etcd engine keeps on this host, so that it can start without etcd. */
export interface LevelReplica {
  readonly snapshot: Snapshot
  /** What was written with the last batch; undefined when it is new. */
  readonly origin: string | undefined
  write(revision: Revision, changes: readonly Change[], origin: string): Promise<void>
  close(): Promise<void>
}

/** Opens the replica in `dir`, made when it is not there. @throws StoreError */
export async function openLevelReplica(dir: string): Promise<LevelReplica> {
  const level = await openLevel(dir)
  try {
    const digest = new Digest()
    const snapshot = await load(level, dir, digest)
    const journal = new LevelJournal(level, digest, dir)
    return {
      snapshot,
      origin: await level.get(originKey),
      write: (revision, changes, origin) => journal.write(revision, changes, origin),
      close: () => journal.close(),
    }
  } catch (error) {
    await level.close()
    throw error
  }
}

class LevelJournal implements Journal {
  readonly #level: Level
  readonly #digest: Digest
  readonly #mark: string
  #isMarked: boolean

  constructor(level: Level, digest: Digest, dir: string) {
    this.#level = level
    this.#digest = digest
    this.#mark = join(dir, markName)
    this.#isMarked = existsSync(this.#mark)
  }

  /** With `origin` everything is written, and the system may lose the last batches in a crash. */
  async write(revision: Revision, changes: readonly Change[], origin?: string): Promise<void> {
    const batch = this.#level.batch()
    for (const { kind, id, value } of changes) {
      if (isEphemeral(kind) && origin === undefined) continue
      const key = objectKey(kind, id)
      const text = value === undefined ? undefined : JSON.stringify(value)
      this.#digest.set(key, text)
      if (text === undefined) batch.del(key)
      else batch.put(key, text)
    }
    batch.put(formatKey, String(format))
    batch.put(revisionKey, String(revision))
    batch.put(digestKey, this.#digest.text)
    if (origin !== undefined) batch.put(originKey, origin)
    await batch.write({ sync: origin === undefined })
    if (this.#isMarked) return
    await writeFile(this.#mark, 'this folder holds a store\n')
    this.#isMarked = true
  }

  close(): Promise<void> {
    return this.#level.close()
  }
}

/** Where an object is kept, in every engine. */
export function objectKey(kind: Kind, id: string): string {
  return `${objectPrefix}${kind}/${id}`
}

async function openLevel(dir: string): Promise<Level> {
  try {
    await mkdir(dir, { recursive: true, mode: 0o700 })
    const level: Level = new ClassicLevel(dir)
    await level.open()
    return level
  } catch (error) {
    throw openError(dir, error)
  }
}

/** What LevelDB says about a folder it cannot open is in the innermost cause. */
function openError(dir: string, error: unknown): StoreError {
  const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error
  const code = cause instanceof Error && 'code' in cause ? cause.code : undefined
  const reason = cause instanceof Error ? cause.message : String(cause)
  switch (code) {
    case 'LEVEL_LOCKED':
      return new StoreError(
        'LOCKED',
        `the store ${dir} is open in another process; stop the agent that uses it`,
        { cause: error },
      )
    case 'LEVEL_CORRUPTION':
      return corrupt(dir, reason, error)
    default:
      return new StoreError('OPEN_FAILED', `the store ${dir} cannot be opened: ${reason}`, {
        cause: error,
      })
  }
}

function corrupt(dir: string, what: string, cause?: unknown): StoreError {
  const message =
    `the store ${dir} is damaged: ${what}; ` +
    'restore the folder from a backup, or move it away to start empty'
  return new StoreError('CORRUPT', message, { cause })
}

async function load(level: Level, dir: string, digest: Digest): Promise<Snapshot> {
  const objects = new Objects()
  const meta = new Map<string, string>()
  for await (const [key, value] of level.iterator({ lt: objectPrefix })) meta.set(key, value)
  checkFormat(dir, meta)
  for await (const [key, value] of level.iterator({ gte: objectPrefix })) {
    loadObject(dir, key, value, objects)
    digest.set(key, value)
  }
  if (meta.size === 0 && objects.count === 0) {
    if (existsSync(join(dir, markName))) throw corrupt(dir, 'nothing of what it held can be read')
    return { revision: 0, objects }
  }

  const revision = Number(meta.get(revisionKey))
  if (!Number.isSafeInteger(revision) || revision < 1) {
    throw corrupt(dir, `${revisionKey} is no revision`)
  }
  if (meta.get(digestKey) !== digest.text) {
    throw corrupt(dir, `its objects are not those of revision ${revision}`)
  }
  return { revision, objects }
}

function checkFormat(dir: string, meta: ReadonlyMap<string, string>): void {
  if (meta.size === 0) return
  const found = meta.get(formatKey)
  const version = Number(found)
  if (Number.isSafeInteger(version) && version > format) {
    throw new StoreError(
      'FORMAT',
      `the store ${dir} has format ${version}, this version reads ${format}; use a newer one`,
    )
  }
  if (version !== format) throw corrupt(dir, `${formatKey} is no format`)
  for (const key of meta.keys()) {
    if (!metaKeys.includes(key)) throw corrupt(dir, `${key} does not belong here`)
  }
}

function loadObject(dir: string, key: string, text: string, objects: Objects): void {
  const [, name, id] = key.match(/^\/midonet\/v1\/([A-Za-z]+)\/(.+)$/) ?? []
  const kind = kinds.find((one) => one === name)
  if (kind === undefined) throw corrupt(dir, `${key} is of no kind this version knows`)
  try {
    const value = parseObject(kind, JSON.parse(text))
    if (value.id !== id) throw corrupt(dir, `${key} has the id ${value.id}`)
    objects.set(kind, value)
  } catch (error) {
    if (error instanceof StoreError) throw error
    const reason = error instanceof Error ? error.message : String(error)
    throw corrupt(dir, `${key}: ${reason}`, error)
  }
}
