/**
 * An etcd in memory on a clock of one's own: revisions, transactions, ranges and watches as etcd
 * has them, and what they cost in time by a simple model of three members.
 *
 *   client ── network ── member ── commit, one after the other ── each watch of the member in turn
 */
import type { Clock } from '../../topology/clock.ts'
import type { EtcdCalls, WatchListener } from '../../topology/etcd-client.ts'
import {
  type Comparison,
  decodeWatch,
  encodeTxn,
  type KeyValue,
  type Operation,
  type RangeAnswer,
  type RangeQuery,
  type TxnAnswer,
} from '../../topology/etcd-message.ts'
import { MessageWriter } from '../../topology/protobuf.ts'

/** Milliseconds, and bytes in a millisecond. */
export const costs = {
  network: 0.25,
  /** From a transaction's arrival to its answer, and how far apart two of them are. */
  commit: 3,
  apart: 0.05,
  members: 3,
  /** A watch's message at its member: making it, and sending it over 10 Gbit/s. */
  message: 0.005,
  bandwidth: 1_250_000,
  /** Around a message: gRPC 5, HTTP/2 9, TLS 29, TCP and IP 52. */
  frame: 95,
} as const

interface Version {
  readonly revision: number
  readonly value: string | undefined
}

interface Watch {
  readonly client: FakeClient
  readonly member: number
  readonly listener: WatchListener
}

export class FakeEtcd {
  readonly clock: Clock
  readonly #keys = new Map<string, Version[]>()
  readonly #watches = new Set<Watch>()
  readonly #free: number[] = Array.from({ length: costs.members }, () => 0)
  #commitFree = 0
  #clients = 0
  revision = 1
  /** Transactions that changed something, and those that came too late. */
  commits = 0
  refusals = 0

  constructor(clock: Clock) {
    this.clock = clock
  }

  client(): FakeClient {
    return new FakeClient(this, this.#clients++ % costs.members)
  }

  /** Bytes of all keys and values as they are now. */
  get size(): number {
    let size = 0
    for (const [key, versions] of this.#keys)
      size += key.length + (versions.at(-1)?.value?.length ?? 0)
    return size
  }

  range({ key, end, limit, revision = this.revision }: RangeQuery): RangeAnswer {
    const found: KeyValue[] = []
    const keys = end === undefined ? [key] : this.#sorted()
    let more = false
    for (let at = end === undefined ? 0 : placeOf(keys, key); at < keys.length; at++) {
      const one = keys[at] ?? ''
      if (end !== undefined && one >= end) break
      const version = this.#keys.get(one)?.findLast((v) => v.revision <= revision)
      if (version?.value === undefined) continue
      more = limit !== undefined && found.length === limit
      if (more) break
      found.push({ key: one, value: version.value, modRevision: version.revision })
    }
    return { cluster: 'fa', revision: this.revision, entries: found, more }
  }

  /** When a transaction that arrives now is answered. */
  admit(): number {
    const now = this.clock.now()
    this.#commitFree = Math.max(now, this.#commitFree) + costs.apart
    return this.#commitFree + costs.commit - now
  }

  commit(compare: readonly Comparison[], operations: readonly Operation[]): TxnAnswer {
    const last = (key: string) => this.#keys.get(key)?.at(-1)
    const seen = Math.max(0, ...compare.map(({ key }) => last(key)?.revision ?? 0))
    const holds = compare.every((one) =>
      'exists' in one
        ? last(one.key)?.value !== undefined
        : (last(one.key)?.revision ?? 0) <= one.modifiedBy,
    )
    if (!holds) {
      this.refusals++
      return { revision: this.revision, succeeded: false, seen }
    }
    this.commits++
    this.revision++
    const response = new MessageWriter().message(
      1,
      new MessageWriter().number(3, this.revision).finish(),
    )
    for (const operation of operations) response.message(11, this.#write(operation))
    this.#tell(response.finish())
    return { revision: this.revision, succeeded: true, seen }
  }

  watch(watch: Watch): () => void {
    this.#watches.add(watch)
    return () => this.#watches.delete(watch)
  }

  #write(operation: Operation): Buffer {
    const [key, value] =
      'delete' in operation ? [operation.delete, undefined] : [operation.put, operation.value]
    const versions = this.#keys.get(key) ?? []
    if (versions.length === 0) this.#order = undefined
    this.#keys.set(key, [...versions.slice(-1), { revision: this.revision, value }])
    const entry = new MessageWriter()
      .bytes(1, key)
      .number(2, this.revision)
      .number(3, this.revision)
    const kv = entry.number(4, 1).bytes(5, value).finish()
    return new MessageWriter()
      .number(1, value === undefined)
      .message(2, kv)
      .finish()
  }

  #tell(message: Buffer): void {
    const size = message.length + costs.frame
    const now = this.clock.now()
    for (const watch of this.#watches) {
      const { member, client, listener } = watch
      const free = Math.max(this.#free[member] ?? 0, now) + costs.message + size / costs.bandwidth
      this.#free[member] = free
      this.clock.after(free - now + costs.network, () => {
        if (!this.#watches.has(watch)) return
        client.received += size
        client.messages++
        const before = process.cpuUsage()
        listener.answer(decodeWatch(message))
        const { user, system } = process.cpuUsage(before)
        client.busyMs += (user + system) / 1000
      })
    }
  }

  #order: readonly string[] | undefined

  #sorted(): readonly string[] {
    this.#order ??= [...this.#keys.keys()].sort()
    return this.#order
  }
}

/** Where the first key stands that is not before `key`. */
function placeOf(keys: readonly string[], key: string): number {
  let [low, high] = [0, keys.length]
  while (low < high) {
    const middle = (low + high) >>> 1
    if ((keys[middle] ?? '') < key) low = middle + 1
    else high = middle
  }
  return low
}

export class FakeClient implements EtcdCalls {
  readonly #etcd: FakeEtcd
  readonly #member: number
  /** Bytes and messages of watches, bytes of snapshots, bytes sent. */
  received = 0
  messages = 0
  read = 0
  sent = 0
  /** Time of a processor that the watches' messages took. */
  busyMs = 0

  constructor(etcd: FakeEtcd, member: number) {
    this.#etcd = etcd
    this.#member = member
  }

  rotate(): void {}

  async range(query: RangeQuery): Promise<RangeAnswer> {
    await this.#etcd.clock.sleep(costs.network)
    const answer = this.#etcd.range(query)
    const size = answer.entries.reduce((sum, { key, value }) => sum + key.length + value.length, 0)
    this.read += size + costs.frame
    await this.#etcd.clock.sleep(costs.network + size / costs.bandwidth)
    return answer
  }

  async txn(compare: readonly Comparison[], then: readonly Operation[]): Promise<TxnAnswer> {
    this.sent += encodeTxn(compare, then).length + costs.frame
    await this.#etcd.clock.sleep(costs.network)
    await this.#etcd.clock.sleep(this.#etcd.admit())
    const answer = this.#etcd.commit(compare, then)
    await this.#etcd.clock.sleep(costs.network)
    return answer
  }

  async watch(_key: string, _end: string, _start: number, listener: WatchListener) {
    await this.#etcd.clock.sleep(2 * costs.network)
    const close = this.#etcd.watch({ client: this, member: this.#member, listener })
    const alive = { canceled: false, compacted: 0, reason: '', events: [] }
    listener.answer({ ...alive, created: true })
    return { probe: () => listener.answer({ ...alive, created: false }), close }
  }

  async grantLease(): Promise<void> {}

  async keepLease(): Promise<number> {
    return 10
  }

  close(): void {}
}
