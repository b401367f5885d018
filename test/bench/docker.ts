/**
 * Our network against Docker's own bridge network on the same engine, interleaved:
 *
 *    bench1 ─ a, b        bench2 ─ c        plain (Docker's bridge) ─ p, q
 *        └─── router ───────┘
 *
 * Each figure is the median of eleven, after a warm-up. The tools run in the containers' network
 * namespaces, so that nothing of Docker but its network is measured.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { Engine, EngineError, image } from '../system/engine.ts'
import type { Row } from './row.ts'

/** Many and short: what else the machine does meets both sides alike, and a median leaves it out. */
const rounds = 11
const seconds = 1
const attachRounds = 25
const udpLoad = new URL('udp-load.js', import.meta.url).pathname

/** Both ends of a round trip: where the scheduler puts them would weigh more than the network. */
const oneCpu = ['taskset', '-c', '0'] as const

/** Two containers that talk, and how. */
export interface Pair {
  readonly name: string
  readonly client: number
  readonly server: number
  readonly address: string
}

export type Measure = (pair: Pair) => Promise<number>

/** Measures all rows that need Docker. */
export async function benchDocker(): Promise<Row[]> {
  const engine = await Engine.start()
  try {
    const { ours, routed, peer } = await makePairs(engine)
    const tcp = await compare(tcpStream(engine), [ours, routed, peer])
    const udp = await compare(smallUdp(engine), [ours, peer])
    const rr = await compare(roundTrips(engine), [ours, routed, peer])
    const attach = await compareAttach('attach', engine, 'bench1', 'plain')
    return [
      row('tcp-stream', 'Gbit/s', tcp, ours, peer, 1),
      row('udp-small', 'packet/s', udp, ours, peer, 1.2),
      row('rr', '1/s', rr, ours, peer, 1),
      row('tcp-stream-routed', 'Gbit/s', tcp, routed, peer, 0.95),
      row('rr-routed', '1/s', rr, routed, peer, 0.95),
      attach,
    ]
  } finally {
    await engine.close()
  }
}

export function row(
  name: string,
  unit: string,
  medians: ReadonlyMap<Pair, number>,
  ours: Pair,
  peer: Pair,
  goal: number,
): Row {
  const figure = (pair: Pair) => medians.get(pair) ?? Number.NaN
  return { name, unit, ours: figure(ours), peer: figure(peer), goal, better: 'higher' }
}

async function makePairs(engine: Engine) {
  const router = ['-o', 'org.midonet.router=bench']
  const create = ['network', 'create', '--driver']
  await engine.mustDocker(...create, 'midonet', '--subnet', '10.1.0.0/24', ...router, 'bench1')
  await engine.mustDocker(...create, 'midonet', '--subnet', '10.2.0.0/24', ...router, 'bench2')
  await engine.mustDocker(...create, 'bridge', '--subnet', '10.3.0.0/24', 'plain')
  const a = await makeContainer(engine, 'bench-a', 'bench1')
  const b = await makeContainer(engine, 'bench-b', 'bench1')
  const c = await makeContainer(engine, 'bench-c', 'bench2')
  const p = await makeContainer(engine, 'bench-p', 'plain')
  const q = await makeContainer(engine, 'bench-q', 'plain')
  return {
    ours: { name: 'ours', client: a.pid, server: b.pid, address: b.address },
    routed: { name: 'routed', client: a.pid, server: c.pid, address: c.address },
    peer: { name: 'peer', client: p.pid, server: q.pid, address: q.address },
  } satisfies Record<string, Pair>
}

export async function makeContainer(engine: Engine, name: string, network: string) {
  await engine.sleeper(name, network)
  const pid = Number(await engine.mustDocker('inspect', '-f', '{{.State.Pid}}', name))
  const net = ['nsenter', '-t', String(pid), '-n', '--'] as const
  engine.spawn(...net, 'iperf3', '-s')
  engine.spawn(...net, ...oneCpu, 'sockperf', 'server', '-p', '11111')
  engine.spawn(...net, process.execPath, udpLoad, 'receive')
  return { pid, address: await engine.address(name, network) }
}

/** Medians by pair; the pairs take turns, and another goes first in each round. */
export async function compare(
  measure: Measure,
  pairs: readonly Pair[],
): Promise<Map<Pair, number>> {
  const figures = new Map<Pair, number[]>(pairs.map((pair) => [pair, []]))
  for (let round = -1; round < rounds; round++)
    for (const [at] of pairs.entries()) {
      const pair = pairs[(at + round + pairs.length) % pairs.length]
      if (pair === undefined) continue
      const figure = await measure(pair)
      // The first round warms up: flows, neighbours, caches.
      if (round >= 0) figures.get(pair)?.push(figure)
    }
  return new Map([...figures].map(([pair, all]) => [pair, median(all)]))
}

/** Runs a tool as the pair's client. */
async function client(engine: Engine, pair: Pair, ...command: string[]): Promise<string> {
  const args = ['-t', String(pair.client), '-n', '--', ...command]
  const { code, stdout, stderr } = await engine.run('nsenter', ...args)
  if (code === 0) return stdout
  throw new EngineError(`${pair.name}: ${command.join(' ')}: ${stderr} ${stdout.slice(-500)}`)
}

export function tcpStream(engine: Engine): Measure {
  return async (pair) => {
    const time = ['-t', String(seconds), '-O', '0.3']
    const text = await client(engine, pair, 'iperf3', '-c', pair.address, '-J', ...time)
    return JSON.parse(text).end.sum_received.bits_per_second / 1e9
  }
}

/** Counted where they are read. */
function smallUdp(engine: Engine): Measure {
  const received = async (pair: Pair) => {
    const { stdout } = await engine.run('cat', `/proc/${pair.server}/net/snmp`)
    return Number(/^Udp: (\d+)/m.exec(stdout)?.[1])
  }
  return async (pair) => {
    const before = await received(pair)
    await client(engine, pair, process.execPath, udpLoad, 'send', pair.address, String(seconds))
    return ((await received(pair)) - before) / seconds
  }
}

/** From the median latency of one way: the mean tells more of what else the machine does. */
export function roundTrips(engine: Engine): Measure {
  return async (pair) => {
    const time = ['-t', String(seconds)]
    const text = await client(
      engine,
      pair,
      ...oneCpu,
      'sockperf',
      'ping-pong',
      '-i',
      pair.address,
      ...time,
    )
    const oneWayUs = Number(/percentile 50\.000 = +([\d.]+)/.exec(text)?.[1])
    return 1e6 / (2 * oneWayUs)
  }
}

/** A container's whole life, which is attaching and detaching it and what Docker does besides. */
export async function compareAttach(
  name: string,
  engine: Engine,
  ours: string,
  peer: string,
): Promise<Row> {
  const networks = [ours, peer] as const
  const times = new Map<string, number[]>(networks.map((network) => [network, []]))
  for (let round = -1; round < attachRounds; round++)
    for (const at of [0, 1] as const) {
      const network = networks[(at + round + 2) % 2] ?? peer
      const started = performance.now()
      await engine.mustDocker('run', '--rm', '--network', network, image, 'true')
      if (round >= 0) times.get(network)?.push((performance.now() - started) / 1000)
      // Docker cleans up a moment after the command has ended.
      await sleep(300)
    }
  const of = (network: string) => median(times.get(network) ?? [])
  return { name, unit: 's', ours: of(ours), peer: of(peer), goal: 1, better: 'lower' }
}

export function median(figures: readonly number[]): number {
  const sorted = figures.toSorted((a, b) => a - b)
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN
}
