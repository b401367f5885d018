/**
 * Writers at the agents of all hosts, seeded, that note what they did: objects replaced if they are
 * as they were read, addresses taken and given back, ports bound and unbound.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { etagOf } from '../../driver/rest/etag.ts'
import {
  checkHistory,
  comparedRegister,
  lease,
  type Model,
  Recorder,
} from '../topology/linearizability.ts'
import { type Called, call } from './fault-call.ts'
import { type Hosts, HostsError } from './hosts.ts'
import { type Random, randomOf } from './random.ts'

const registers = ['r0', 'r1', 'r2'] as const
const limits = { workersPerHost: 2, pauseMs: 60, bound: 3, held: 3, addresses: 8 } as const
/** A port whose station talks, which comes and goes. */
const comesAndGoes = { port: 'f', host: 2 } as const

/** A call that was certainly not done, and tells nothing of the store. */
class NotDone extends Error {
  override readonly name = 'NotDone'
}

interface Worker {
  readonly name: string
  readonly host: number
  readonly dir: string
  readonly held: Set<string>
  readonly bound: string[]
}

export class Writers {
  readonly registers = new Recorder<{ readonly from: string; readonly to: string }, boolean>()
  readonly leases = new Recorder<'take' | 'release', boolean>()
  readonly #hosts: Hosts
  readonly #random: Random
  readonly #workers: readonly Worker[]
  readonly #net: string
  #pool = ''
  #running: readonly Promise<void>[] = []
  #isRunning = false
  #next = 0
  /** Calls that were answered as they should be. */
  done = 0

  constructor(hosts: Hosts, seed: number) {
    this.#hosts = hosts
    this.#random = randomOf(seed)
    this.#net = `10.77.${seed % 256}`
    this.#workers = hosts.stages.flatMap(({ dir }, host) =>
      Array.from({ length: limits.workersPerHost }, (_, n) => {
        return { name: `h${host}.${n}`, host, dir, held: new Set<string>(), bound: [] }
      }),
    )
  }

  /** Makes what they write to. */
  async prepare(): Promise<void> {
    const subnet = { Pool: `${this.#net}.0/24`, SubPool: '', Options: null, V6: false }
    const body = { AddressSpace: 'midonet-local', ...subnet }
    const socket = `${this.#hosts.stage(0).dir}/plugin.sock`
    const { text } = await call(socket, 'POST', '/IpamDriver.RequestPool', { body })
    this.#pool = String(JSON.parse(text).PoolID)
    await this.#hosts.put(
      ...registers.map((id) => ['bridge', { id, name: `${id}-`, adminUp: true }] as const),
    )
  }

  start(): void {
    this.#isRunning = true
    this.#running = this.#workers.map((worker) => this.#work(worker))
  }

  /** Ends when all calls have; the port that comes and goes is there. */
  async stop(): Promise<void> {
    this.#isRunning = false
    await Promise.all(this.#running)
    this.#running = []
    const { port, host } = comesAndGoes
    const value = { host: this.#hosts.ids[host], interface: `v-${port}` }
    const dir = this.#hosts.stage(0).dir
    for (let tries = 0; tries < 20; tries++) {
      const put = await call(`${dir}/run/agent.sock`, 'PUT', `/v1/binding/${port}`, { body: value })
      if (put.status === 200 || put.status === 201) return
      await sleep(50)
    }
    throw new HostsError(`port ${port} cannot be bound again`)
  }

  /** Histories that no order explains, in words. */
  unexplained(): readonly string[] {
    return [...verdicts(comparedRegister, this.registers), ...verdicts(lease, this.leases)]
  }

  async #work(worker: Worker): Promise<void> {
    while (this.#isRunning) {
      await sleep(this.#random.below(limits.pauseMs))
      const dice = this.#random.below(10)
      if (dice < 4) await this.#replace(worker)
      else if (dice < 7) await this.#lease(worker)
      else if (dice < 9) await this.#bind(worker)
      else await this.#comeAndGo(worker)
    }
  }

  /** Replaces what the own agent said, which may be old: then it must be refused. */
  async #replace({ name, dir }: Worker): Promise<void> {
    const id = this.#random.pick(registers) ?? 'r0'
    const path = `/v1/bridge/${id}`
    const read = await call(`${dir}/run/agent.sock`, 'GET', path, { ms: 1_000 })
    if (read.status !== 200) return
    const standing = JSON.parse(read.text)
    const from = String(standing.name).slice(`${id}-`.length)
    const to = `${name}-${this.#next++}`
    const act = async (): Promise<boolean> => {
      const headers = { 'if-match': etagOf(standing) }
      const body = { name: `${id}-${to}`, adminUp: true }
      return this.#told(await call(`${dir}/run/agent.sock`, 'PUT', path, { headers, body }), 412)
    }
    await this.registers.run(name, id, { from, to }, act, isNotDone)
  }

  async #lease({ name, dir, held }: Worker): Promise<void> {
    const [mine] = held
    const isTaking = mine === undefined || (held.size < limits.held && this.#random.below(2) === 0)
    const address = isTaking ? `${this.#net}.${10 + this.#random.below(limits.addresses)}` : mine
    if (isTaking && held.has(address)) return
    const act = async (): Promise<boolean> => {
      const path = `/IpamDriver.${isTaking ? 'RequestAddress' : 'ReleaseAddress'}`
      const body = { PoolID: this.#pool, Address: address, Options: {} }
      const called = await call(`${dir}/plugin.sock`, 'POST', path, { body })
      const { Err } = JSON.parse(called.text || '{}')
      if (typeof Err !== 'string') return this.#told(called)
      if (/ is taken/.test(Err)) return false
      if (/cannot be reached|not open yet/.test(Err)) throw new NotDone(Err)
      throw new HostsError(Err)
    }
    const done = await this.leases.run(name, address, isTaking ? 'take' : 'release', act, isNotDone)
    if (!isTaking) held.delete(address)
    else if (done === true) held.add(address)
  }

  /** Ports get tunnel keys; their interfaces are none. */
  async #bind({ name, host, dir, bound }: Worker): Promise<void> {
    const id = `w${name}-${this.#next++}`
    const oldest = bound.length >= limits.bound ? bound.shift() : undefined
    const port = { id, kind: 'bridge', bridge: 'red', adminUp: true }
    const binding = { id, host: this.#hosts.ids[host], interface: `none${id.slice(-9)}` }
    const operations =
      oldest === undefined
        ? [
            { op: 'put', kind: 'port', id, value: port },
            { op: 'put', kind: 'binding', id, value: binding },
          ]
        : [{ op: 'delete', kind: 'port', id: oldest, cascade: true }]
    const body = { operations }
    const { status } = await call(`${dir}/run/agent.sock`, 'POST', '/v1/transaction', { body })
    if (status !== 200) return
    this.done += 1
    if (oldest === undefined) bound.push(id)
  }

  async #comeAndGo({ dir }: Worker): Promise<void> {
    const { port, host } = comesAndGoes
    const body = { host: this.#hosts.ids[host], interface: `v-${port}` }
    const path = `/v1/binding/${port}`
    const isGoing = this.#random.below(2) === 0
    if (isGoing) await call(`${dir}/run/agent.sock`, 'DELETE', path)
    else await call(`${dir}/run/agent.sock`, 'PUT', path, { body })
  }

  /** Whether a call succeeded. @throws NotDone, HostsError when nobody knows */
  #told({ outcome, status, text }: Called, refused?: number): boolean {
    if (outcome === 'none') throw new NotDone('the agent is not there')
    if (status === 200 || status === 201) {
      this.done += 1
      return true
    }
    if (status === refused) return false
    const { code } = JSON.parse(text || '{}')
    if (code === 'UNREACHABLE' || code === 'NOT_READY' || code === 'BUSY') throw new NotDone(text)
    throw new HostsError(text)
  }
}

function isNotDone(error: unknown): boolean {
  return error instanceof NotDone
}

function verdicts<S, I, O>(model: Model<S, I, O>, recorder: Recorder<I, O>): readonly string[] {
  return [...recorder.histories()].flatMap(([key, history]) => {
    const verdict = checkHistory(model, history)
    if (verdict.kind === 'linearizable') return []
    const order = verdict.kind === 'not' ? verdict.order : []
    const rest = history.filter((one) => !order.includes(one)).slice(0, 5)
    const told = JSON.stringify({ order: order.slice(-4), rest })
    return [`${key}: ${history.length} calls are ${verdict.kind} linearizable: ${told}`]
  })
}
