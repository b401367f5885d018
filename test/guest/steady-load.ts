/**
 * Runs in a guest, best with `npm run vm -- --icount`: `steady-load.js ours|peer`. A TCP stream and
 * round trips between two namespaces on a bridge of the kernel module, all of whose flows are there:
 * what they cost then is the module's, and what our flows ask of it. Prints one line of JSON.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { enterFreshNetwork } from '../system/tap-port.ts'
import { LoadError, runTool, startOurs, startPeer } from './flow-sides.ts'
import { stationMac } from './flow-world.ts'

const [side = 'ours'] = process.argv.slice(2)
const seconds = '2'
const address = '10.1.0.2'
/** Times that a server is asked for before it counts as not there. */
const tries = 50

enterFreshNetwork()
furnish('a', 'mda', stationMac(0x0a, 0), '10.1.0.1/24')
furnish('b', 'mdb', stationMac(0x0b, 0), `${address}/24`)
const child = side === 'ours' ? (await startOurs(''))[0] : undefined
if (child === undefined) startPeer('')
const servers = [inside('b', 'iperf3', '-s'), inside('b', 'sockperf', 'server', '-p', '11111')]
// Addresses and flows are there when the figures are taken.
await untilServed()
const mbitPerSecond = stream()
const tripsPerSecond = roundTrips()
for (const server of servers) server.kill('SIGKILL')
child?.kill('SIGKILL')
console.log(JSON.stringify({ side, mbitPerSecond, tripsPerSecond }))
process.exit(0)

/** A namespace with one interface, whose other end is one of the bridge's. */
function furnish(name: string, link: string, mac: string, prefix: string): void {
  runTool('ip', ['netns', 'add', name])
  const ends = ['type', 'veth', 'peer', 'name', 'eth0', 'netns', name, 'address', mac]
  runTool('ip', ['link', 'add', link, ...ends])
  runTool('ip', ['link', 'set', link, 'up'])
  runTool('ip', ['-n', name, 'addr', 'add', prefix, 'dev', 'eth0'])
  runTool('ip', ['-n', name, 'link', 'set', 'lo', 'up'])
  runTool('ip', ['-n', name, 'link', 'set', 'eth0', 'up'])
}

function inside(name: string, ...command: readonly string[]): ChildProcess {
  return spawn('ip', ['netns', 'exec', name, ...command], { stdio: 'ignore' })
}

function client(...command: readonly string[]): string {
  return runTool('ip', ['netns', 'exec', 'a', ...command])
}

async function untilServed(): Promise<void> {
  let last: unknown
  for (let left = tries; left > 0; left--) {
    try {
      client('iperf3', '-c', address, '-t', '1')
      client('sockperf', 'ping-pong', '-i', address, '-t', '1')
      return
    } catch (error) {
      if (!(error instanceof LoadError)) throw error
      last = error
      await new Promise((resolve) => setTimeout(resolve, 200))
    }
  }
  throw last
}

function stream(): number {
  const text = client('iperf3', '-c', address, '-J', '-t', seconds, '-O', '1')
  return Math.round(JSON.parse(text).end.sum_received.bits_per_second / 1e6)
}

/** From the median latency of one way. */
function roundTrips(): number {
  const text = client('sockperf', 'ping-pong', '-i', address, '-t', seconds)
  const oneWayUs = Number(/percentile 50\.000 = +([\d.]+)/.exec(text)?.[1])
  return Math.round(1e6 / (2 * oneWayUs))
}
