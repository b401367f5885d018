/**
 * The topology's store: objects by kind and id, changed by transactions, watched in order.
 *
 * One interface, several engines (`leveldb:<dir>`, memory for tests, later `etcd://…`), one suite.
 * Every engine keeps all objects in memory as well, so reads are synchronous and cheap; a commit is
 * durable before its promise resolves.
 */
import type { Kind, ObjectOf } from './model.ts'

/** Counts commits; strictly rising over the life of a store. */
export type Revision = number

/** One object put or deleted (`value` undefined). `before` is what it replaced. */
export type Change<K extends Kind = Kind> = {
  [P in K]: {
    readonly kind: P
    readonly id: string
    readonly value: ObjectOf<P> | undefined
    readonly before: ObjectOf<P> | undefined
  }
}[K]

/** All changes of one transaction. */
export interface ChangeBatch {
  readonly revision: Revision
  readonly changes: readonly Change[]
}

/** What can be read; also inside a transaction, where it shows the transaction's own writes. */
export interface Reader {
  get<K extends Kind>(kind: K, id: string): ObjectOf<K> | undefined
  /** Ordered by id. */
  list<K extends Kind>(kind: K): readonly ObjectOf<K>[]
}

/** A transaction in the making. Everything read must still stand when it commits. */
export interface Draft extends Reader {
  /** @throws InvalidObjectError that names the field, when the value does not fit its schema. */
  put<K extends Kind>(kind: K, value: ObjectOf<K>): void
  /** Deleting what is not there is no error. */
  delete(kind: Kind, id: string): void
  /** Whether an object has a claim or reference of this mark (mark.ts). */
  isClaimed(mark: string): boolean
  /** The objects that have it, at a cost that does not grow with the topology. */
  holders(mark: string): Iterable<{ readonly kind: Kind; readonly id: string }>
}

export interface Store extends Reader {
  readonly revision: Revision
  /** What keeps the store from being all it should, with what to do; undefined when all is well. */
  readonly problem?: string | undefined

  /**
   * Runs `work` on a draft and commits what it wrote, all or nothing. `work` is synchronous and may
   * run again when another transaction came between. Nothing is committed when it throws, or when
   * the result breaks a rule of the topology (TopologyError). Resolves when the commit is durable
   * and every watcher has been told, with what `work` returned and the store's revision.
   */
  transact<T>(
    work: (draft: Draft) => T,
  ): Promise<{ readonly value: T; readonly revision: Revision }>

  /** Tells every commit after this call, in order, each once. Returns the way to stop. */
  watch(listener: (batch: ChangeBatch) => void): () => void

  close(): Promise<void>
}
