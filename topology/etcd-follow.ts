/**
 * Follows etcd: a snapshot and a difference, or the watch from the last revision; on any end of
 * the watch again with the next endpoint. Each change is told once, in the order of revisions.
 */
import { randomUUID } from 'node:crypto'
import debug from 'debug'
import { type Clock, realClock } from './clock.ts'
import { StoreError } from './error.ts'
import { type EtcdCalls, unreachable, type WatchHandle } from './etcd-client.ts'
import type { KeyValue, Operation, WatchAnswer, WatchEvent } from './etcd-message.ts'

const log = debug('midonet:etcd')

/** All our keys lie from `prefix` up to `prefixEnd`. */
export const prefix = '/midonet/'
export const prefixEnd = '/midonet0'
/** Changed by every transaction on what is durable. */
export const headKey = '/midonet/head'
/** There while a topology is imported: what stands meanwhile is half of one (etcd-import.ts). */
export const importKey = '/midonet/import'

export function importMark(): Operation {
  return { put: importKey, value: randomUUID() }
}

const limits = {
  pageSize: 1_000,
  probeMs: 500,
  silenceMs: 1_500,
  retryMs: 50,
  retryMsMax: 200,
  lastedMs: 1_000,
}

/** What follows: the store. */
export interface Follower {
  /** The last revision applied, and the cluster it is of; undefined when nothing was yet. */
  readonly origin: { readonly cluster: string; readonly revision: number } | undefined
  /** Whether it knows durable objects, which an empty etcd must not take away. */
  readonly hasObjects: boolean
  replace(entries: readonly KeyValue[], cluster: string, revision: number): void
  apply(events: readonly WatchEvent[], revision: number): void
  online(isOnline: boolean, why?: StoreError): void
}

export class Follow {
  readonly #client: EtcdCalls
  readonly #clock: Clock
  readonly #follower: Follower
  readonly #stop = new AbortController()
  /** An import came between: its changes are read as one. */
  #mustRead = false
  readonly #done: Promise<void>

  constructor(client: EtcdCalls, follower: Follower, clock: Clock = realClock) {
    this.#client = client
    this.#clock = clock
    this.#follower = follower
    this.#done = this.#run()
  }

  close(): Promise<void> {
    this.#stop.abort()
    return this.#done
  }

  async #run(): Promise<void> {
    let pause = limits.retryMs
    while (!this.#stop.signal.aborted) {
      const began = this.#clock.now()
      try {
        await this.#synchronize()
        await this.#watch()
      } catch (error) {
        const why = error instanceof StoreError ? error : unreachable(String(error))
        log('following broke off: %s', why.message)
        this.#follower.online(false, why)
      }
      if (this.#clock.now() - began > limits.lastedMs) pause = limits.retryMs
      this.#client.rotate()
      await this.#clock.sleep(pause * (0.5 + Math.random()), this.#stop.signal)
      pause = Math.min(pause * 2, limits.retryMsMax)
    }
  }

  /** Reads everything when the watch cannot go on from what is known. */
  async #synchronize(): Promise<void> {
    const { origin, hasObjects } = this.#follower
    const head = await this.#client.range({ key: headKey })
    if (head.entries.length === 0 && hasObjects)
      throw new StoreError(
        'EMPTY',
        'etcd has no topology, but this host has one in its replica; restore etcd, or write it ' +
          'back with: midonet store import leveldb:<replica> --to etcd://…',
      )
    const isKnown = origin?.cluster === head.cluster && origin.revision <= head.revision
    if (!isKnown || this.#mustRead) await this.#readNow()
  }

  /** Reads all as of a revision at which no import was under way. */
  async #readNow(): Promise<void> {
    const { entries, revision, cluster } = await this.#client.range({ key: importKey })
    if (entries.length > 0) throw this.#importing()
    await this.#readAll(revision, cluster)
    this.#mustRead = false
  }

  #importing(): StoreError {
    this.#mustRead = true
    const message =
      'a topology is being imported; if no import runs any more, repeat it: midonet store import'
    return new StoreError('IMPORTING', message)
  }

  async #readAll(revision: number, cluster: string): Promise<void> {
    const entries: KeyValue[] = []
    for (let key = prefix; ; ) {
      const page = await this.#client.range({
        key,
        end: prefixEnd,
        limit: limits.pageSize,
        revision,
      })
      entries.push(...page.entries)
      const last = page.entries.at(-1)
      if (!page.more || last === undefined) break
      key = `${last.key}\0`
    }
    if (!this.#stop.signal.aborted) this.#follower.replace(entries, cluster, revision)
  }

  /** Ends by throwing, when the watch does; after a compaction all is read again. */
  async #watch(): Promise<void> {
    const start = (this.#follower.origin?.revision ?? 0) + 1
    let heard = this.#clock.now()
    const ended = deferred()
    let handle: WatchHandle | undefined
    let isOver = false
    const answer = (one: WatchAnswer) => {
      heard = this.#clock.now()
      if (isOver) return
      if (one.canceled) {
        const code = one.compacted > 0 ? 'COMPACTED' : 'UNREACHABLE'
        ended.reject(new StoreError(code, `the watch was ended by etcd: ${one.reason}`))
        return
      }
      if (one.created) this.#follower.online(true)
      const begun = one.events.findIndex((e) => e.key === importKey && e.value !== undefined)
      this.#deliver(begun < 0 ? one.events : one.events.slice(0, begun))
      if (begun < 0) return
      isOver = true
      ended.reject(this.#importing())
    }
    const listener = { answer, ended: (error: StoreError) => ended.reject(error) }
    const stopProbes = this.#clock.every(limits.probeMs, () => {
      if (this.#clock.now() - heard > limits.silenceMs + limits.probeMs)
        ended.reject(unreachable('the watch is silent'))
      else handle?.probe()
    })
    const abort = () => ended.resolve()
    this.#stop.signal.addEventListener('abort', abort)
    try {
      handle = await this.#client.watch(prefix, prefixEnd, start, listener)
      await ended.promise
    } catch (error) {
      if (!(error instanceof StoreError) || error.code !== 'COMPACTED') throw error
      log('revision %d is compacted away; reading all', start)
      await this.#readNow()
    } finally {
      stopProbes()
      this.#stop.signal.removeEventListener('abort', abort)
      handle?.close()
    }
  }

  /** One call a revision; what is known already (a watch begun anew) is left out. */
  #deliver(events: readonly WatchEvent[]): void {
    for (let at = 0; at < events.length; ) {
      const revision = events[at]?.revision ?? 0
      let end = at
      while (end < events.length && events[end]?.revision === revision) end++
      const known = this.#follower.origin?.revision ?? 0
      if (revision > known) this.#follower.apply(events.slice(at, end), revision)
      at = end
    }
  }
}

interface Deferred {
  readonly promise: Promise<void>
  readonly resolve: () => void
  readonly reject: (reason: StoreError) => void
}

/** A promise settled from outside. One that is rejected before anybody waits is no crash. */
function deferred(): Deferred {
  const out: { resolve: () => void; reject: (reason: StoreError) => void } = {
    resolve: () => {},
    reject: () => {},
  }
  const promise = new Promise<void>((resolve, reject) => {
    out.resolve = resolve
    out.reject = reject
  })
  promise.catch(() => {})
  return { promise, ...out }
}
