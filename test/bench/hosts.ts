/**
 * Two hosts: our tunnels against the kernel's own bridge and VXLAN, side by side on the same hosts
 * and the same underlay, in turn:
 *
 *    a ── host 1 ═ our VXLAN ═ host 2 ── b        p ── br-k, vx-k ═ VXLAN ═ vx-k, br-k ── q
 *
 * Each figure is the median of many short slices, after a warm-up.
 */
import { type ChildProcess, type ExecFileException, execFile, spawn } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { Hosts, HostsError, hostName, underlayOf } from '../system/hosts.ts'
import type { Row } from './row.ts'

const rounds = 11
const seconds = 1
/** Small packets are counted in shorter ones. */
const slices = 15
const sliceSeconds = 0.5
const mtu = 1450
const udpLoad = new URL('udp-load.js', import.meta.url).pathname
/** Both ends of a round trip: where the scheduler puts them would weigh more than the network. */
const oneCpu = ['taskset', '-c', '0'] as const
/** The same for a flow of small packets, whose receiver must not take the sender's processor. */
const [sendCpu, receiveCpu] = ['0', String(Math.min(1, availableParallelism() - 1))]

interface Pair {
  readonly client: string
  readonly server: string
  readonly address: string
}

type Measure = (pair: Pair) => Promise<number>

const ours: Pair = { client: 'a', server: 'b', address: '10.1.0.3' }
const peer: Pair = { client: 'p', server: 'q', address: '10.9.0.3' }

export async function benchHosts(): Promise<Row[]> {
  const hosts = await Hosts.open({ count: 2 })
  const servers: ChildProcess[] = []
  try {
    await furnish(hosts)
    for (const { server } of [ours, peer]) {
      servers.push(start(server, 'iperf3', '-s'))
      servers.push(start(server, ...oneCpu, 'sockperf', 'server', '-p', '11111'))
      servers.push(
        start(server, 'taskset', '-c', receiveCpu, process.execPath, udpLoad, 'receive', 'awake'),
      )
    }
    return [
      await row('hosts-tcp-stream', 'Gbit/s', 0.9, tcpStream),
      await row('hosts-rr', '1/s', 0.9, roundTrips),
      await row('hosts-udp-small', 'packet/s', 1, smallUdp, slices),
    ]
  } finally {
    for (const server of servers) server.kill()
    await hosts.close()
  }
}

async function furnish(hosts: Hosts): Promise<void> {
  const stations = [
    ['a', 0, 'addr add 10.1.0.2/24 dev eth0'],
    ['b', 1, 'addr add 10.1.0.3/24 dev eth0'],
    ['p', 0, 'addr add 10.9.0.2/24 dev eth0'],
    ['q', 1, 'addr add 10.9.0.3/24 dev eth0'],
  ] as const
  for (const [name, host, script] of stations) hosts.addStation(name, host, [script], mtu)
  await hosts.put(
    ['bridge', { id: 'red', adminUp: true, mtu }],
    ['port', { id: 'a', kind: 'bridge', bridge: 'red', adminUp: true }],
    ['port', { id: 'b', kind: 'bridge', bridge: 'red', adminUp: true }],
  )
  await hosts.bind('a', 0)
  await hosts.bind('b', 1)
  for (const [host, name] of [
    [0, 'p'],
    [1, 'q'],
  ] as const) {
    const ends = `local ${underlayOf(host)} remote ${underlayOf(1 - host)}`
    const script = `ip link add br-k mtu ${mtu} type bridge
ip link add vx-k mtu ${mtu} type vxlan id 77 dstport 4790 ${ends}
ip link set vx-k master br-k up; ip link set v-${name} master br-k up; ip link set br-k up`
    await run(['netns', 'exec', hostName(host), 'sh', '-ec', script])
  }
}

function start(station: string, ...command: readonly string[]): ChildProcess {
  return spawn('ip', ['netns', 'exec', `hs-${station}`, ...command], { stdio: 'ignore' })
}

function run(words: readonly string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    const ended = (error: ExecFileException | null, stdout: string, stderr: string): void => {
      if (error === null) resolve(stdout)
      else reject(new HostsError(`ip ${words.join(' ')}: ${stderr}${stdout.slice(-500)}`))
    }
    execFile('ip', [...words], { maxBuffer: 1 << 24 }, ended)
  })
}

const client = ({ client: name }: Pair, ...command: readonly string[]): Promise<string> =>
  run(['netns', 'exec', `hs-${name}`, ...command])

/** Medians of both; they take turns, and another goes first in each round. */
async function row(
  name: string,
  unit: string,
  goal: number,
  measure: Measure,
  times = rounds,
): Promise<Row> {
  const figures = { ours: [] as number[], peer: [] as number[] }
  for (let round = -1; round < times; round++)
    for (const isOurs of round % 2 === 0 ? [true, false] : [false, true]) {
      const figure = await measure(isOurs ? ours : peer)
      // The first round warms up: flows, neighbours, caches.
      if (round >= 0) figures[isOurs ? 'ours' : 'peer'].push(figure)
    }
  return {
    name,
    unit,
    ours: median(figures.ours),
    peer: median(figures.peer),
    goal,
    better: 'higher',
  }
}

async function tcpStream(pair: Pair): Promise<number> {
  const words = ['iperf3', '-c', pair.address, '-J', '-t', String(seconds), '-O', '0.3']
  return JSON.parse(await client(pair, ...words)).end.sum_received.bits_per_second / 1e9
}

/** From the median latency of one way: the mean tells more of what else the machine does. */
async function roundTrips(pair: Pair): Promise<number> {
  const words = ['sockperf', 'ping-pong', '-i', pair.address, '-t', String(seconds)]
  const text = await client(pair, ...oneCpu, ...words)
  const oneWayUs = Number(/percentile 50\.000 = +([\d.]+)/.exec(text)?.[1])
  return 1e6 / (2 * oneWayUs)
}

/**
 * Counted where the network ends, at the receiver's IP: whether a receiver that others hold up has room
 * for them says nothing of it. Over the time for which the sender had its processor, or the kernel's thread
 * there, which takes over what is left of a sender that has had its turn.
 */
async function smallUdp(pair: Pair): Promise<number> {
  const received = async () => {
    const text = await run(['netns', 'exec', `hs-${pair.server}`, 'cat', '/proc/net/snmp'])
    // InDelivers
    return Number(/^Ip: (?:\d+ ){8}(\d+)/m.exec(text)?.[1])
  }
  const [before, threadBefore] = [await received(), threadSeconds()]
  const send = [process.execPath, udpLoad, 'send', pair.address, String(sliceSeconds)]
  const had = Number(await client(pair, 'taskset', '-c', sendCpu, ...send))
  const seconds = had + threadSeconds() - threadBefore
  return ((await received()) - before) / seconds
}

/** For how long the thread has run that does network work on the sender's processor; 0: not to be seen. */
function threadSeconds(): number {
  for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    try {
      if (readFileSync(`/proc/${pid}/comm`, 'utf8') !== `ksoftirqd/${sendCpu}\n`) continue
      return Number(readFileSync(`/proc/${pid}/schedstat`, 'utf8').split(' ')[0]) / 1e9
    } catch {
      // A process that has ended meanwhile.
    }
  }
  return 0
}

function median(figures: readonly number[]): number {
  const sorted = figures.toSorted((a, b) => a - b)
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN
}
