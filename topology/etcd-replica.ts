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

/** Batches that may wait for the disk; beyond it the copy is given up. */
const waitingMax = 10_000

export class ReplicaFile {
  #level: LevelReplica | undefined
  #writing: Promise<void> = Promise.resolve()
  #waiting = 0
  /** Why nothing is kept on disk; undefined while it is. */
  problem: string | undefined

  constructor(level: LevelReplica | undefined) {
    this.#level = level
  }

  /** In order; nobody waits for it. */
  write(revision: Revision, changes: readonly Change[], origin: Follower['origin']): void {
    if (this.#level === undefined) return
    if (this.#waiting >= waitingMax) {
      this.#giveUp('the disk does not keep up')
      return
    }
    this.#waiting += 1
    this.#writing = this.#writing.then(async () => {
      try {
        await this.#level?.write(Math.max(revision, 1), changes, JSON.stringify(origin))
      } catch (error) {
        this.#giveUp(error instanceof Error ? error.message : String(error))
      } finally {
        this.#waiting -= 1
      }
    })
  }

  async close(): Promise<void> {
    await this.#writing
    await this.#level?.close().catch((error) => log('closing the replica: %O', error))
  }

  #giveUp(why: string): void {
    const level = this.#level
    this.#level = undefined
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
