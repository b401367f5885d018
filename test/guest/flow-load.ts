/**
 * Runs in a guest, best with `npm run vm -- --icount`: `flow-load.js ours|peer [acl|adopt]`. How fast our
 * forwarding side, or ovs-vswitchd, sets up flows on the kernel module: every packet a new flow, 64
 * under way at a time, then one at a time. The cost of making and taking the packets, measured with
 * a flow that is there, is taken off. Prints one line of JSON.
 *
 * ovs-vswitchd keeps 10 000 flows at first, in time more, and beyond that it only executes. What is
 * compared is setting up flows: so both warm up in parts, and rest after each until its flows have
 * gone for being idle; and that it set up all that was measured is looked at.
 */
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { frame } from '../simulator/frame.ts'
import { enterFreshNetwork, TapPort } from '../system/tap-port.ts'
import { countUnkept, LoadError, startOurs, startPeer } from './flow-sides.ts'
import { senders, stationMac, stations } from './flow-world.ts'

const window = 64
const waitsInVain = 5_000
/** Packets of one flow, until the harness runs as fast as it will. */
const practice = 19_200
const [side = 'ours', policy = ''] = process.argv.slice(2)
const measured = 7_680
/** For `adopt`, which is about the next agent only, as many as make 10 000 flows. */
const warmUps =
  policy === 'adopt' ? [2_176] : [8_000, 12_000, 12_000, 12_000, 12_000, 12_000, 12_000]
/** One may have a collection of garbage in it that comes once in many. */
const rounds = policy === 'adopt' ? 1 : 3
const alone = 200
/** Of those that come one at a time: until both sides run as fast as they will. */
const practiceAlone = policy === 'adopt' ? 0 : 1_000
/** Longer than either side keeps a flow that carries nothing: ovs-vswitchd 10 s, ours 30 s and a turn. */
const restMs = 45_000
const isAcl = policy === 'acl'

enterFreshNetwork()
const [a, b] = [new TapPort('mda'), new TapPort('mdb')]
const udp = (src: string, dst: string): Uint8Array =>
  frame(
    `eth(src=${src},dst=${dst}),eth_type(0x0800),ipv4(src=10.1.0.1,dst=10.1.0.2,proto=17,tos=0,ttl=64,frag=no),udp(src=1,dst=2)`,
  )
const packet = udp(stationMac(0x0a, 0), stationMac(0x0b, 0))
const view = new DataView(packet.buffer, packet.byteOffset)
let number = 0

/** Makes the packet one of another flow: of another pair of stations, or another connection. */
function renew(): void {
  number++
  if (isAcl) view.setUint16(34, 2_000 + (number % 60_000))
  else {
    view.setUint16(10, number % senders)
    view.setUint16(4, Math.floor(number / senders) % stations)
  }
}

function exchange(count: number, each: number, isNew: boolean): void {
  for (let sent = 0; sent < count; sent += each) {
    for (let index = 0; index < each; index++) {
      if (isNew) renew()
      a.send(packet)
    }
    expect(b, each)
  }
}

/**
 * Takes so many packets from a port. Where instructions are counted the clock leaps to the end of a
 * wait as soon as nothing runs, and nothing runs while a page comes from the host: so it waits often.
 * @throws LoadError when they do not come
 */
function expect(port: TapPort, count: number): void {
  for (let left = count, vain = 0; left > 0; ) {
    const { length } = port.take()
    left -= length
    if (left > 0) port.wait(20)
    vain = length === 0 ? vain + 1 : 0
    if (vain === waitsInVain) throw new LoadError(`${left} of ${count} packets did not arrive`)
  }
}

/** Until the flows have gone, of which `adopt` wants many. */
function rest(): void {
  if (policy !== 'adopt') Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, restMs)
}

/** What a new flow takes, the harness in it. */
function measureRound(): number {
  rest()
  // We forget who has sent nothing for 15 s, the peer after 300 s: both know the stations again.
  if (policy !== 'adopt') exchange(senders, window, true)
  return nanoseconds(() => exchange(measured, window, true)) / measured
}

function median(values: number[]): number {
  return values.sort((x, y) => x - y)[values.length >> 1] ?? 0
}

function nanoseconds(run: () => void): number {
  const start = process.hrtime.bigint()
  run()
  return Number(process.hrtime.bigint() - start)
}

/**
 * Packets that no flow of the peer's matched, as the module counts them. Of ours the flows found
 * by the next agent are counted instead: ovs-dpctl would redirect the upcalls of our datapath.
 */
function countMisses(): number {
  if (side === 'ours') return 0

  const { stdout } = spawnSync('ovs-dpctl', ['show'], { encoding: 'utf8' })
  return Number(/missed:(\d+)/.exec(stdout)?.[1] ?? 0)
}

function rssMb(pid: number): number {
  const kib = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]
  return Math.round(Number(kib) / 1024)
}

const started = side === 'ours' ? await startOurs(policy) : undefined
const pid = started === undefined ? startPeer(policy) : (started[0].pid ?? 0)
// Where the stations are is known to both before the traffic starts.
for (let index = 0; index < stations; index++)
  b.send(udp(stationMac(0x0b, index), stationMac(0x0a, 0)))
expect(a, stations)
exchange(practice, window, false)
// What is put off while flows are set up must not be taken for the harness: it is measured before.
const idle = nanoseconds(() => exchange(measured, window, false)) / measured
for (const count of warmUps) {
  rest()
  exchange(count, window, true)
}
const before = countMisses()
const unkept = started === undefined ? countUnkept() : 0
const each = median(Array.from({ length: rounds }, measureRound))
for (let left = practiceAlone; left > 0; left--) exchange(1, 1, true)
const singly: number[] = []
for (let left = alone; left > 0; left--) singly.push(nanoseconds(() => exchange(1, 1, true)))
const firstPacket = median(singly)
const misses = countMisses() - before
if (started === undefined && countUnkept() > unkept)
  throw new LoadError('ovs-vswitchd has not set up all flows: its limit was reached')
const memory = rssMb(pid)
let adopted = { flows: 0, adoptMs: 0 }
if (started !== undefined) {
  started[0].kill('SIGKILL')
  const [next, told] = await startOurs(policy)
  adopted = told
  next.kill('SIGKILL')
}

console.log(
  JSON.stringify({
    side,
    policy,
    nanosecondsPerFlow: Math.round(each - idle),
    nanosecondsOfHarness: Math.round(idle),
    flowsPerSecond: Math.round(1e9 / (each - idle)),
    firstPacketUs: Math.round(firstPacket / 1000),
    rssMb: memory,
    // Of ours only the last round's are there.
    newFlows: (started === undefined ? rounds : 1) * measured + alone,
    misses: started === undefined ? misses : adopted.flows,
    ...adopted,
  }),
)
process.exit(0)
