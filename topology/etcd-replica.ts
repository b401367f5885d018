/**
 * What a host keeps of etcd on its own disk, to start when etcd is out of reach. It is only a copy:
 * a damaged one is thrown away, and a disk that fails ends it, not the agent.
 */
import { rename, rm } from 'node:fs/promises'
import debug from 'debug'
import { StoreError } from './error.ts'
import type { Follower } from './etcd-follow.ts'
import { type LevelReplica, openLevelReplica } from './leveldb.ts'
import { Objects } from './objects.ts'
import type { Snapshot } from './replica.ts'
import type { Change, Revision } from './store.ts'

const log = debug('midonet:etcd')

export const limits = {
  /** What comes in this time goes to the disk in one write, out of the way of who waits for a change. */
  gatherMs: 50,
  /** Changes that may wait for the disk; beyond it the copy is given up. */
  waiting: 1_000_000,
} as const

interface Waiting {
  readonly revision: Revision
  readonly changes: Change[]
  readonly origin: Follower['origin']
}

export class ReplicaFile {
  #level: LevelReplica | undefined
  /** What is not yet handed to the disk, as one write: it is whole revisions, whose last is `origin`. */
  #waiting: Waiting | undefined
  #writing: Promise<void> | undefined
  #timer: NodeJS.Timeout | undefined
  /** Why nothing is kept on disk; undefined while it is. */
  problem: string | undefined

  constructor(level: LevelReplica | undefined) {
    this.#level = level
  }

  /** In order, a moment later; nobody waits for it. */
  write(revision: Revision, changes: readonly Change[], origin: Follower['origin']): void {
    if (this.#level === undefined) return
    const gathered = this.#waiting?.changes ?? []
    for (const change of changes) gathered.push(change)
    this.#waiting = { revision: Math.max(revision, 1), changes: gathered, origin }
    if (this.#writing === undefined) this.#gather()
    else if (gathered.length > limits.waiting) this.#giveUp('the disk does not keep up')
  }

  async close(): Promise<void> {
    await this.#writing
    this.#flush()
    await this.#writing
    await this.#level?.close().catch((error) => log('closing the replica: %O', error))
  }

  #flush(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
    const waiting = this.#waiting
    if (waiting === undefined || this.#writing !== undefined) return
    this.#waiting = undefined
    const { revision, changes, origin } = waiting
    this.#writing = (async () => {
      try {
        await this.#level?.write(revision, changes, JSON.stringify(origin))
      } catch (error) {
        this.#giveUp(error instanceof Error ? error.message : String(error))
      }
      this.#writing = undefined
      if (this.#waiting !== undefined) this.#gather()
    })()
  }

  #gather(): void {
    this.#timer ??= setTimeout(() => this.#flush(), limits.gatherMs)
  }

  #giveUp(why: string): void {
    const level = this.#level
    this.#level = undefined
    this.#waiting = undefined
    this.problem =
      `the replica on disk is not written any more (${why}); the agent goes on from memory, ` +
      'but cannot start without etcd; make room and start it again'
    console.error(`midonet: ${this.problem}`)
    level?.close().catch(() => {})
  }
}

/** What was found on disk. */
export interface Found {
  readonly file: ReplicaFile
  readonly snapshot: Snapshot
  readonly origin: Follower['origin']
}

/** Opens the replica in `dir`, or begins an empty one when it is damaged. */
export async function openReplicaFile(dir: string | undefined): Promise<Found> {
  if (dir === undefined) return empty(undefined)
  try {
    const level = await openLevelReplica(dir)
    const origin = parseOrigin(level.origin)
    if (origin !== undefined) {
      return { file: new ReplicaFile(level), snapshot: level.snapshot, origin }
    }
    if (level.snapshot.objects.count === 0) return empty(level)
    await level.close()
    throw new StoreError('CORRUPT', `${dir} is no replica of etcd`)
  } catch (error) {
    if (error instanceof StoreError && error.code === 'LOCKED') throw error
    const reason = error instanceof Error ? error.message : String(error)
    const aside = `${dir}.damaged`
    console.error(`midonet: ${reason}; moved to ${aside}, the replica is made again from etcd`)
    await rm(aside, { recursive: true, force: true })
    await rename(dir, aside)
    return empty(await openLevelReplica(dir))
  }
}

function empty(level: LevelReplica | undefined): Found {
  const snapshot = { revision: 0, objects: new Objects() }
  return { file: new ReplicaFile(level), snapshot, origin: undefined }
}

function parseOrigin(text: string | undefined): Follower['origin'] {
  if (text === undefined) return undefined
  const [, cluster = '', revision = ''] =
    text.match(/^\{"cluster":"([0-9a-f]*)","revision":(\d+)\}$/) ?? []
  return revision === '' ? undefined : { cluster, revision: Number(revision) }
}
