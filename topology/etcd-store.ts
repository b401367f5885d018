/**
 * The engine for more than one host: etcd is the truth, and each host has all of it in memory and
 * in a LevelDB replica.
 *
 *   transact ──> draft ──> rules ──> etcd: "if nobody changed the head since" ──> watch ──> objects
 *                  ^                     └─ no: wait until seen, run again ─┘        ├──> watchers
 *                  └────────────────────────────────────────────────────────────────┘ └──> replica
 *
 * Every transaction on durable objects compares and writes one key, the head, so no two can miss
 * each other's writes: what one read stands when it commits. Facts that are tied to a host's lease
 * compare only their own keys and those they name, so hosts do not hinder each other.
 */
import { randomUUID } from 'node:crypto'
import debug from 'debug'
import { type Clock, realClock } from './clock.ts'
import { StoreError } from './error.ts'
import { type EtcdCalls, unreachable } from './etcd-client.ts'
import { planCommit } from './etcd-commit.ts'
import { decodeObject, differences } from './etcd-decode.ts'
import { LostFacts } from './etcd-facts.ts'
import { Follow, type Follower, headKey } from './etcd-follow.ts'
import type { Lease } from './etcd-lease.ts'
import type { Comparison, KeyValue, Operation, WatchEvent } from './etcd-message.ts'
import type { ReplicaFile } from './etcd-replica.ts'
import { isEphemeral } from './host-schema.ts'
import { type Kind, kinds, type ObjectOf } from './model.ts'
import type { Objects } from './objects.ts'
import { nameOf } from './overlay.ts'
import { TransactionQueue } from './queue.ts'
import type { Change, ChangeBatch, Draft, Revision, Store } from './store.ts'
import { type Group, type Job, type Staged, stageJobs, Watchers } from './transaction.ts'

const log = debug('midonet:etcd')

const limits = {
  /** How long a transaction waits for etcd that was there a moment ago, and for its outcome. */
  graceMs: 2_000,
  outcomeMs: 10_000,
  attempts: 200,
  backoffMs: 4,
  backoffMsMax: 200,
} as const

/** Codes of errors that waiting does not mend. */
const refusals: ReadonlySet<string> = new Set(['PERMISSION_DENIED', 'UNAUTHENTICATED'])

/** Codes of refusals for what other objects are now. */
const doubtful: ReadonlySet<string> = new Set(['CONFLICT', 'IN_USE', 'PRECONDITION_FAILED'])

interface Commit {
  readonly id: string
  readonly group: Group
  landed: boolean
}

/** What an etcd store is made of. */
export interface EtcdParts {
  readonly client: EtcdCalls
  readonly replica: ReplicaFile
  readonly lease: Lease
  readonly host: string
  readonly objects: Objects
  readonly revision: Revision
  readonly origin: Follower['origin']
  readonly clock?: Clock | undefined
}

export class EtcdStore implements Store {
  readonly #parts: EtcdParts
  readonly #clock: Clock
  readonly #objects: Objects
  readonly #watchers = new Watchers()
  readonly #queue: TransactionQueue
  readonly #waits = new Set<() => void>()
  readonly #follow: Follow
  readonly #facts: LostFacts
  /** The host's, whichever agent of it writes: one that is killed leaves no key of its own. */
  readonly #writer: string
  #origin: Follower['origin']
  #revision: Revision
  #online = false
  #offlineSince: number
  #why: StoreError = unreachable('it was not reached yet')
  #commit: Commit | undefined
  #closed: Promise<void> | undefined

  constructor(parts: EtcdParts) {
    this.#parts = parts
    this.#clock = parts.clock ?? realClock
    this.#offlineSince = this.#clock.now()
    this.#objects = parts.objects
    this.#revision = parts.revision
    this.#origin = parts.origin
    this.#writer = `/midonet/writer/${parts.host}`
    const store = this
    this.#queue = new TransactionQueue({
      get revision() {
        return store.#revision
      },
      commit: (jobs) => this.#commitGroup(jobs),
    })
    this.#facts = new LostFacts(this, { ...parts, clock: this.#clock })
    this.#follow = new Follow(parts.client, this.#follower(), this.#clock)
  }

  get revision(): Revision {
    return this.#revision
  }

  /** Why etcd cannot be reached, or what is wrong with the replica; undefined when all is well. */
  get problem(): string | undefined {
    return this.#online ? this.#parts.replica.problem : this.#why.message
  }

  /** The revision of etcd that the objects are those of. */
  get etcdRevision(): number {
    return this.#origin?.revision ?? 0
  }

  get<K extends Kind>(kind: K, id: string): ObjectOf<K> | undefined {
    return this.#objects.get(kind, id)
  }

  list<K extends Kind>(kind: K): readonly ObjectOf<K>[] {
    return this.#objects.list(kind)
  }

  transact<T>(
    work: (draft: Draft) => T,
  ): Promise<{ readonly value: T; readonly revision: Revision }> {
    return this.#queue.transact(work)
  }

  watch(listener: (batch: ChangeBatch) => void): () => void {
    return this.#watchers.add(listener)
  }

  close(): Promise<void> {
    this.#closed ??= (async () => {
      this.#facts.close()
      await this.#queue.close()
      this.#watchers.clear()
      this.#parts.lease.close()
      const followed = this.#follow.close()
      // Ends the calls that it waits for.
      this.#parts.client.close()
      await followed
      await this.#parts.replica.close()
    })()
    return this.#closed
  }

  /** Resolves when etcd is followed, refuses the user, or after `ms`; with whether it is followed. */
  async reached(ms: number): Promise<boolean> {
    const isRefused = () => refusals.has(this.#why.code)
    await this.#until(() => this.#online || isRefused(), this.#clock.now() + ms)
    return this.#online
  }

  /** Why etcd could not be reached. */
  get failure(): StoreError {
    return this.#why
  }

  /** Runs the group until nothing came between, which is bounded. */
  async #commitGroup(jobs: readonly Job[]): Promise<void> {
    const deadline = this.#clock.now() + limits.outcomeMs
    let isCurrent = false
    for (let attempt = 0; attempt < limits.attempts; attempt++) {
      const isOnline = await this.#waitOnline()
      if (!isOnline) return this.#refuse(jobs)
      const group = stageJobs(this.#objects, jobs)
      // What is withdrawn while it is to be written again stays away: the group may do both.
      if (this.#facts.forget(group.staged.flatMap(({ missed }) => [...missed]))) continue
      const writes = group.staged.some(({ changes }) => changes.length > 0)
      const rests = group.staged.some(({ changes }) => changes.length === 0)
      // What failed or found nothing to do must not have looked at what is old.
      if (rests && !isCurrent) {
        isCurrent = await this.#catchUp(deadline)
        continue
      }
      if (!writes || (await this.#try(group, deadline))) return settle(group)
      isCurrent = false
      await this.#clock.sleep(
        Math.random() * Math.min(limits.backoffMs * 1.5 ** attempt, limits.backoffMsMax),
      )
      if (this.#clock.now() > deadline) break
    }
    throw new StoreError('BUSY', 'other hosts change the topology all the time; try again later')
  }

  /**
   * Without etcd what changes nothing is answered from what is known, each for itself, since none of
   * the others is done. What another host may have changed is no reason to refuse anything, and none
   * to say that what is to go is gone: it may have come after what is known.
   */
  #refuse(jobs: readonly Job[]): void {
    for (const job of jobs) {
      const { staged } = stageJobs(this.#objects, [job])
      const isDoubtful = staged.some(
        ({ changes, failure, missed }) =>
          changes.length > 0 || missed.size > 0 || doubtful.has(codeOf(failure?.reason)),
      )
      if (isDoubtful) job.reject(this.#why)
      else settle({ staged })
    }
  }

  /** Waits until all that etcd has now is seen. True when there was nothing to wait for or it came. */
  async #catchUp(deadline: number): Promise<boolean> {
    const before = this.etcdRevision
    const { entries } = await this.#parts.client.range({ key: headKey })
    await this.#seen(entries[0]?.modRevision ?? 0, deadline)
    return before === this.etcdRevision || this.etcdRevision >= (entries[0]?.modRevision ?? 0)
  }

  /** Commits; false when another transaction came between. @throws StoreError */
  async #try(group: Group, deadline: number): Promise<boolean> {
    const commit: Commit = { id: randomUUID(), group, landed: false }
    const { compare, operations, needsLease } = planCommit(commit.id, group.changes, {
      writer: this.#writer,
      modifiedBy: this.etcdRevision,
      lease: this.#parts.lease.id,
    })
    if (needsLease) await this.#parts.lease.take()
    this.#commit = commit
    try {
      while (true) {
        const answer = await this.#send(compare, operations, deadline)
        if (answer !== undefined) {
          await this.#seen(answer.succeeded ? answer.revision : answer.seen, deadline)
          if (commit.landed || !answer.succeeded) return commit.landed
        }
        // It is sent again: what it compares keeps it from being done twice.
        if (this.#clock.now() > deadline) throw outcomeUnknown()
        await this.#clock.sleep(limits.backoffMs)
      }
    } finally {
      this.#commit = undefined
    }
  }

  /** Undefined when it is not known whether it was done. */
  async #send(compare: readonly Comparison[], operations: readonly Operation[], deadline: number) {
    try {
      return await this.#parts.client.txn(compare, operations)
    } catch (error) {
      if (!(error instanceof StoreError)) throw error
      if (error.code === 'NOT_FOUND') {
        // The lease is gone; the transaction was refused for it, so it can be sent again.
        this.#parts.lease.lost()
        await this.#parts.lease.take()
        return undefined
      }
      if (error.code !== 'UNREACHABLE') throw error
      // It may have been done: whoever waits for it must not be told that it was not.
      if (this.#clock.now() > deadline) throw outcomeUnknown()
      return undefined
    }
  }

  #follower(): Follower {
    const store = this
    return {
      get origin() {
        return store.#origin
      },
      get hasObjects() {
        return kinds.some((kind) => !isEphemeral(kind) && store.list(kind).length > 0)
      },
      replace: (entries, cluster, revision) => this.#replace(entries, cluster, revision),
      apply: (events, revision) => this.#apply(events, revision),
      online: (isOnline, why) => this.#setOnline(isOnline, why),
    }
  }

  #setOnline(isOnline: boolean, why: StoreError | undefined): void {
    if (this.#online && !isOnline) this.#offlineSince = this.#clock.now()
    if (this.#online !== isOnline) log(isOnline ? 'etcd is followed' : 'etcd is out of reach')
    this.#online = isOnline
    if (why !== undefined) this.#why = why
    this.#wake()
  }

  #replace(entries: readonly KeyValue[], cluster: string, revision: number): void {
    const changes = differences(this.#objects, entries)
    log('read revision %d: %d keys, %d changes', revision, entries.length, changes.length)
    this.#origin = { cluster, revision }
    const commit = this.#commit
    if (commit !== undefined && entries.some(({ value }) => value === commit.id))
      commit.landed = true
    this.#publish(changes)
    this.#parts.replica.write(this.#revision, changes, this.#origin)
    this.#wake()
    this.#facts.hear(changes)
    if (commit?.landed) this.#facts.forget(withdrawnBy(commit.group))
  }

  #apply(events: readonly WatchEvent[], revision: number): void {
    const cluster = this.#origin?.cluster ?? ''
    this.#origin = { cluster, revision }
    const commit = this.#commit
    let changes: readonly Change[]
    if (commit !== undefined && events.some(({ value }) => value === commit.id)) {
      commit.landed = true
      changes = commit.group.changes
      // They may have gone with the lease before.
      this.#facts.forget(withdrawnBy(commit.group))
      for (const one of commit.group.staged) {
        this.#publish(one.changes)
        if (one.failure === undefined) one.job.resolve()
      }
    } else {
      changes = events.flatMap((event) => decodeObject(this.#objects, event.key, event.value))
      this.#publish(changes)
      this.#facts.hear(changes)
    }
    this.#parts.replica.write(this.#revision, changes, this.#origin)
    this.#wake()
  }

  #publish(changes: readonly Change[]): void {
    if (changes.length === 0) return
    this.#revision += 1
    this.#objects.apply(changes)
    this.#watchers.tell(Object.freeze({ revision: this.#revision, changes }))
  }

  async #waitOnline(): Promise<boolean> {
    if (this.#online) return true
    await this.#until(() => this.#online, this.#offlineSince + limits.graceMs)
    return this.#online
  }

  async #seen(revision: number, deadline: number): Promise<void> {
    await this.#until(() => this.etcdRevision >= revision, deadline)
    if (this.etcdRevision < revision) throw outcomeUnknown()
  }

  async #until(holds: () => boolean, deadline: number): Promise<void> {
    while (!holds()) {
      const left = deadline - this.#clock.now()
      if (left <= 0) return
      await new Promise<void>((resolve) => {
        const done = () => {
          stop()
          this.#waits.delete(done)
          resolve()
        }
        const stop = this.#clock.after(left, done)
        this.#waits.add(done)
      })
    }
  }

  #wake(): void {
    for (const done of [...this.#waits]) done()
  }
}

function withdrawnBy({ changes }: Group): readonly string[] {
  return changes.filter(({ value }) => value === undefined).map(nameOf)
}

/** Answers those that are not answered with the commit itself. */
function settle({ staged }: { readonly staged: readonly Staged[] }): void {
  for (const { job, failure } of staged) {
    if (failure === undefined) job.resolve()
    else job.reject(failure.reason)
  }
}

function codeOf(reason: unknown): string {
  return reason instanceof Error && 'code' in reason ? String(reason.code) : ''
}

function outcomeUnknown(): StoreError {
  return new StoreError(
    'OUTCOME_UNKNOWN',
    'etcd broke off while the change was written; look whether it is there before trying again',
  )
}
