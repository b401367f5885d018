/**
 * The main thread's side of the forwarding worker: feeds it the topology in order, asks it for
 * status and traces, and starts it again when it dies (the kernel goes on forwarding meanwhile).
 */
import { closeSync, writeSync } from 'node:fs'
import { Worker } from 'node:worker_threads'
import createDebug from 'debug'
import type { DpctlCommand } from '../driver/request.ts'
import type { ForwarderStatus } from '../simulator/forwarder.ts'
import type { TraceResult } from '../simulator/trace.ts'
import type { Kind } from '../topology/model.ts'
import type { Change, ChangeBatch, Revision, Store } from '../topology/store.ts'
import { AppliedMark } from './applied-mark.ts'
import { writeMemberHealth } from './member-health.ts'
import { FactWriter } from './shared-facts.ts'
import type {
  ToldStories,
  WorkerAnswer,
  WorkerData,
  WorkerRequest,
  WorkerSettings,
} from './worker.ts'

const log = createDebug('midonet:forwarding')

export const limits = {
  /** Waiting for the worker to take a change, or to answer a question. */
  answerMs: 8_000,
  /** Until it has written down what it knows and is gone. */
  closeMs: 4_000,
  /** Pause before a dead worker is started again; doubles up to the second figure. */
  restartMs: 100,
  restartMsMax: 5_000,
  /** Remembered restarts. */
  repairs: 100,
} as const

/** The forwarding side did not do what was asked in time, or cannot run at all. */
export class ForwardingError extends Error {
  override readonly name = 'ForwardingError'
  readonly code: 'TIMEOUT' | 'STOPPED' | 'REFUSED'

  constructor(code: ForwardingError['code'], message: string, options?: ErrorOptions) {
    super(message, options)
    this.code = code
  }
}

/** What the worker needs to know of the topology. */
const kindsForwarded: ReadonlySet<Kind> = new Set([
  'host',
  'bridge',
  'router',
  'port',
  'route',
  'binding',
  'chain',
  'rule',
  'addressGroup',
  'portGroup',
  'dhcpSubnet',
  'dhcpHost',
  'qosPolicy',
  'traceRequest',
  'loadBalancer',
  'balancerPool',
  'poolMember',
  'vip',
  'healthMonitor',
  'mirror',
  'bgpPeer',
  'learnedRoute',
  'tunnelZone',
  'zoneMember',
  'hostAlive',
  'learnedMac',
  'learnedNeighbor',
])

type Answer = Extract<WorkerAnswer, { request: number }>

interface Waiting {
  readonly resolve: (answer: Answer | undefined) => void
  readonly reject: (error: Error) => void
  readonly timer: NodeJS.Timeout
}

/** Who waits until a change is applied. */
interface Settling {
  readonly revision: Revision
  readonly deadline: number
  readonly resolve: () => void
  readonly reject: (error: Error) => void
}

/** What forwards, and why that. */
export interface DatapathStatus {
  readonly kind: string
  readonly why: string
  /** What was found out about it when it was opened, in words. */
  readonly features: readonly string[]
}

/** What `midonet status` says of the forwarding side. */
export interface ForwardingStatus {
  readonly running: boolean
  readonly restarts: number
  readonly lastError: string | undefined
  readonly forwarder: ForwarderStatus | undefined
  /** What forwards and why; undefined while nothing does. */
  readonly datapath: DatapathStatus | undefined
}

export class Forwarding {
  readonly #store: Store
  readonly #settings: WorkerSettings
  readonly #stopWatch: () => void
  readonly #facts: FactWriter
  readonly #waiting = new Map<number, Waiting>()
  /** In the order they came. */
  #settling: Settling[] = []
  /** One for all that wait: a change takes a millisecond, and there are many. */
  #late: NodeJS.Timeout | undefined
  #worker: Worker | undefined
  #wakeFd: number | undefined
  /** Of the worker that runs. */
  #mark = new AppliedMark()
  #sent: Revision = -1
  #nextRequest = 1
  readonly #repairs: { readonly time: string; readonly what: string }[] = []
  #restarts = 0
  #restartMs: number = limits.restartMs
  #lastError: string | undefined
  #closed = false
  #datapath: ForwardingStatus['datapath']

  constructor(store: Store, settings: WorkerSettings) {
    this.#store = store
    this.#settings = settings
    this.#facts = new FactWriter(store, settings.hostId)
    this.#stopWatch = store.watch((batch) => this.#feed(batch))
    this.#start()
  }

  /** Restarts of the worker, oldest first; bounded. */
  get repairs(): readonly { readonly time: string; readonly what: string }[] {
    return this.#repairs
  }

  /** Resolves when the datapath reflects every change up to `revision`. @throws ForwardingError */
  settled(revision: Revision): Promise<void> {
    // Commits that hold nothing the worker needs are not sent to it.
    const needed = Math.min(revision, this.#sent)
    if (this.#mark.applied >= needed) return Promise.resolve()
    return new Promise((resolve, reject) => {
      const deadline = performance.now() + limits.answerMs
      this.#settling.push({ revision: needed, deadline, resolve, reject })
      // Else the worker tells of an earlier one first, and then this one is wished for.
      if (needed < this.#mark.wished) this.#settle()
      this.#late ??= setTimeout(() => this.#refuseLate(), limits.answerMs)
    })
  }

  async status(): Promise<ForwardingStatus> {
    const base = {
      restarts: this.#restarts,
      lastError: this.#lastError,
      datapath: this.#datapath,
    }
    try {
      const answer = await this.#ask({ kind: 'status', request: this.#nextRequest++ })
      const forwarder = answer?.kind === 'status' ? answer.value : undefined
      return { running: true, ...base, forwarder }
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error)
      return {
        running: false,
        ...base,
        lastError: this.#lastError ?? message,
        forwarder: undefined,
      }
    }
  }

  /** What would happen to a packet (hex bytes or a flow key in text) that came in by `port`. */
  async trace(port: string, packet: string): Promise<TraceResult> {
    const request = this.#nextRequest++
    const answer = await this.#ask({ kind: 'trace', request, port, packet })
    if (answer?.kind === 'trace') return answer.value
    throw new ForwardingError('REFUSED', answer?.kind === 'refused' ? answer.error : 'no answer')
  }

  /** What trace requests have told on this host: of `id`, or only how they stand. */
  async stories(id?: string): Promise<ToldStories> {
    const answer = await this.#ask({ kind: 'stories', request: this.#nextRequest++, id })
    if (answer?.kind === 'stories') return answer.value
    throw new ForwardingError('REFUSED', answer?.kind === 'refused' ? answer.error : 'no answer')
  }

  /** Does a command of `midonet dpctl` in the datapath. */
  async dpctl(command: DpctlCommand, words: readonly string[]): Promise<string> {
    const answer = await this.#ask({
      kind: 'dpctl',
      request: this.#nextRequest++,
      command,
      words,
    })
    if (answer?.kind === 'dpctl') return answer.value
    throw new ForwardingError('REFUSED', answer?.kind === 'refused' ? answer.error : 'no answer')
  }

  /** Stops the worker; flows and ports stay in the kernel. */
  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    this.#stopWatch()
    this.#facts.close()
    const worker = this.#worker
    if (worker !== undefined) {
      const gone = new Promise<void>((resolve) => worker.once('exit', () => resolve()))
      this.#post({ kind: 'close' })
      const timer = setTimeout(() => void worker.terminate(), limits.closeMs)
      await gone
      clearTimeout(timer)
    }
    this.#failAll(new ForwardingError('STOPPED', 'the agent is stopping'))
  }

  #start(): void {
    const url = new URL('./worker.js', import.meta.url)
    this.#mark = new AppliedMark()
    const workerData: WorkerData = { ...this.#settings, mark: this.#mark.memory }
    const worker = new Worker(url, { workerData })
    this.#worker = worker
    // Who waited for the worker before waits for this one.
    this.#settle()
    worker.on('message', (answer: WorkerAnswer) => this.#hear(answer))
    worker.on('error', (error) => {
      this.#lastError = error.message
      console.error(`midonet: forwarding stopped: ${error.message}`)
    })
    worker.on('exit', () => this.#restart(worker))
    this.#sent = this.#store.revision
    this.#post({ kind: 'snapshot', batch: snapshotOf(this.#store) })
  }

  #restart(worker: Worker): void {
    if (this.#worker !== worker) return
    this.#worker = undefined
    if (this.#wakeFd !== undefined) closeSync(this.#wakeFd)
    this.#wakeFd = undefined
    if (this.#closed) return
    this.#failAsked(new ForwardingError('STOPPED', `forwarding stopped: ${this.#lastError}`))
    this.#restarts++
    const what = `forwarding stopped and was started again: ${this.#lastError}`
    this.#repairs.push({ time: new Date().toISOString(), what })
    if (this.#repairs.length > limits.repairs) this.#repairs.shift()
    setTimeout(() => {
      if (!this.#closed) this.#start()
    }, this.#restartMs)
    this.#restartMs = Math.min(this.#restartMs * 2, limits.restartMsMax)
  }

  #feed(batch: ChangeBatch): void {
    const changes = batch.changes.filter((change) => kindsForwarded.has(change.kind))
    if (changes.length === 0 || this.#worker === undefined) return
    this.#sent = batch.revision
    this.#post({ kind: 'batch', batch: { revision: batch.revision, changes } })
  }

  #post(request: WorkerRequest): void {
    this.#worker?.postMessage(request)
    if (this.#wakeFd !== undefined) writeSync(this.#wakeFd, wakeToken)
  }

  #hear(answer: WorkerAnswer): void {
    switch (answer.kind) {
      case 'ready':
        this.#wakeFd = answer.wakeFd
        this.#restartMs = limits.restartMs
        this.#datapath = { kind: answer.datapath, why: answer.why, features: answer.features }
        log('the worker runs on datapath %s', answer.datapath)
        writeSync(answer.wakeFd, wakeToken)
        return
      case 'health':
        void writeMemberHealth(this.#store, answer.value)
        return
      case 'facts':
        this.#facts.add(answer.facts)
        return
      case 'applied':
        this.#settle()
        return
      case 'status':
      case 'trace':
      case 'stories':
      case 'dpctl':
      case 'refused': {
        const waiting = this.#waiting.get(answer.request)
        this.#waiting.delete(answer.request)
        clearTimeout(waiting?.timer)
        waiting?.resolve(answer)
      }
    }
  }

  /** Answers those whose change is applied; the worker is to tell when the first of the others is. */
  #settle(): void {
    const revisions = this.#settling.map(({ revision }) => revision)
    this.#mark.wish(revisions.length === 0 ? undefined : Math.min(...revisions))
    const { applied } = this.#mark
    const done = this.#settling.filter(({ revision }) => revision <= applied)
    if (done.length === 0) return
    this.#settling = this.#settling.filter(({ revision }) => revision > applied)
    for (const { resolve } of done) resolve()
    this.#settle()
  }

  #refuseLate(): void {
    const now = performance.now()
    const late = this.#settling.filter(({ deadline }) => deadline <= now)
    this.#settling = this.#settling.filter(({ deadline }) => deadline > now)
    for (const { reject } of late) reject(this.#timeout('the change'))
    const [next] = this.#settling
    this.#late =
      next === undefined
        ? undefined
        : setTimeout(() => this.#refuseLate(), Math.ceil(next.deadline - now))
  }

  #ask(request: Extract<WorkerRequest, { request: number }>): Promise<Answer | undefined> {
    if (this.#worker === undefined)
      return Promise.reject(
        new ForwardingError('STOPPED', `forwarding does not run: ${this.#lastError}`),
      )
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#waiting.delete(request.request)
        reject(this.#timeout(request.kind))
      }, limits.answerMs)
      this.#waiting.set(request.request, { resolve, reject, timer })
      this.#post(request)
    })
  }

  #timeout(what: string): ForwardingError {
    const reason = this.#lastError === undefined ? 'it is busy' : this.#lastError
    return new ForwardingError('TIMEOUT', `forwarding did not take ${what} in time: ${reason}`)
  }

  #failAsked(error: ForwardingError): void {
    for (const waiting of this.#waiting.values()) {
      clearTimeout(waiting.timer)
      waiting.reject(error)
    }
    this.#waiting.clear()
  }

  #failAll(error: ForwardingError): void {
    this.#failAsked(error)
    clearTimeout(this.#late)
    this.#late = undefined
    for (const { reject } of this.#settling.splice(0)) reject(error)
  }
}

const wakeToken = new Uint8Array(new BigUint64Array([1n]).buffer)

function snapshotOf(store: Store): ChangeBatch {
  const changes: Change[] = []
  // Kind and value come from the same list; the type system cannot see it.
  for (const kind of kindsForwarded)
    for (const value of store.list(kind))
      changes.push({ kind, id: value.id, value, before: undefined } as Change)
  return { revision: store.revision, changes }
}
