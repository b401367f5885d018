/**
 * From a commit on one host until it is applied on three, topology and datapath, against a bare
 * put in the same etcd until three watches of it, one at each member, tell it:
 *
 *   agent 1 ── PUT ─▶ etcd ─▶ agents 1, 2, 3 ─▶ their datapaths ─▶ event of /v1/watch?applied=true
 *   client  ── put ─▶ etcd ─▶ watches 1, 2, 3
 *
 * In turn, so that whatever else the machine does befalls both.
 */
import { Agent, request } from 'node:http'
import { EtcdClient } from '../../topology/etcd-client.ts'
import { Hosts, HostsError } from '../system/hosts.ts'
import type { Row } from './row.ts'

const rounds = 500
/** Of both alike: it takes so many until what runs in an agent and in this process is compiled. */
const warmUp = 1_500
const patienceMs = 10_000

/** Calls back when all of `count` have told of it. */
class Heard {
  readonly #count: number
  #wanted = ''
  readonly #by = new Set<number>()
  #done = (): void => {}

  constructor(count: number) {
    this.#count = count
  }

  /** Resolves when everybody has told of `what`. @throws HostsError */
  all(what: string): Promise<void> {
    this.#wanted = what
    this.#by.clear()
    return new Promise((resolve, reject) => {
      const late = (): void => reject(new HostsError(`${what} was not told in time`))
      const timer = setTimeout(late, patienceMs)
      this.#done = () => {
        clearTimeout(timer)
        resolve()
      }
    })
  }

  tell(by: number, text: string): void {
    if (!text.includes(this.#wanted)) return
    this.#by.add(by)
    if (this.#by.size === this.#count) this.#done()
  }
}

export async function benchCommit(): Promise<Row[]> {
  const hosts = await Hosts.open()
  const closing: (() => void)[] = []
  try {
    hosts.addStation('a', 0, ['addr add 10.1.0.2/24 dev eth0'])
    await hosts.put(
      ['bridge', { id: 'red', adminUp: true }],
      ['port', { id: 'a', kind: 'bridge', bridge: 'red', adminUp: true }],
    )
    await hosts.bind('a', 0)
    const [ours, peer] = [await agents(hosts, closing), await bare(hosts, closing)]
    const times = { ours: [] as number[], peer: [] as number[] }
    for (let round = 0; round < rounds + warmUp; round++)
      for (const [name, act] of [['ours', ours] as const, ['peer', peer] as const]) {
        const ms = await act(`mark-${name}-${round}`)
        if (round >= warmUp) times[name].push(ms)
      }
    return [
      { name: 'commit-to-applied', unit: 'ms, p50', ...both(times, 0.5) },
      { name: 'commit-to-applied-p99', unit: 'ms, p99', ...both(times, 0.99) },
    ]
  } finally {
    for (const close of closing) close()
    await hosts.close()
  }
}

type Act = (mark: string) => Promise<number>

/** The bridge of a bound port is changed: all forwarding sides have to take it. */
async function agents(hosts: Hosts, closing: (() => void)[]): Promise<Act> {
  const heard = new Heard(hosts.stages.length)
  for (const [at, { dir }] of hosts.stages.entries()) {
    const socketPath = `${dir}/run/agent.sock`
    await new Promise<void>((resolve, reject) => {
      const path = '/v1/watch?kind=bridge&applied=true'
      const outgoing = request({ socketPath, path, agent: false }, (incoming) => {
        incoming.setEncoding('utf8').on('data', (text) => heard.tell(at, text))
        resolve()
      })
      outgoing.on('error', reject).end()
      closing.push(() => outgoing.destroy())
    })
  }
  const agent = new Agent({ keepAlive: true, maxSockets: 1 })
  closing.push(() => agent.destroy())
  const socketPath = `${hosts.stage(0).dir}/run/agent.sock`
  const put = (body: object) =>
    new Promise<void>((resolve, reject) => {
      const options = { socketPath, method: 'PUT', path: '/v1/bridge/red', agent }
      request(options, (incoming) => incoming.resume().on('end', resolve))
        .on('error', reject)
        .end(JSON.stringify(body))
    })
  return async (name) => {
    const all = heard.all(name)
    const began = performance.now()
    const answered = put({ name, adminUp: true })
    await all
    const ms = performance.now() - began
    await answered
    return ms
  }
}

/** A connection of its own for each watch and for the put, as the agents have. */
async function bare({ etcd }: Hosts, closing: (() => void)[]): Promise<Act> {
  const endpoints = etcd.endpoints.split(',')
  const heard = new Heard(endpoints.length)
  const connect = (endpoint: string): EtcdClient => {
    const client = new EtcdClient({ endpoints: [endpoint] })
    closing.push(() => client.close())
    return client
  }
  for (const [at, endpoint] of endpoints.entries())
    await new Promise<void>((resolve, reject) => {
      const listener = {
        answer: ({
          events,
        }: {
          readonly events: readonly { readonly value: string | undefined }[]
        }) => {
          resolve()
          for (const { value } of events) heard.tell(at, value ?? '')
        },
        ended: reject,
      }
      void connect(endpoint).watch('/bare', '/barf', 0, listener)
    })
  const client = connect(endpoints[0] ?? '')
  return async (mark) => {
    const all = heard.all(mark)
    const began = performance.now()
    const answered = client.txn([], [{ put: '/bare', value: mark }])
    await all
    const ms = performance.now() - began
    await answered
    return ms
  }
}

function both(
  { ours, peer }: { readonly ours: readonly number[]; readonly peer: readonly number[] },
  share: number,
): Pick<Row, 'ours' | 'peer' | 'goal' | 'better'> {
  const at = (times: readonly number[]): number =>
    times.toSorted((a, b) => a - b)[Math.floor(times.length * share)] ?? Number.NaN
  return { ours: at(ours), peer: at(peer), goal: 2, better: 'lower' }
}
