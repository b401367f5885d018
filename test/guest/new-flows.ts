/**
 * Runs in a guest, best with `npm run vm -- --icount`: how many new flows a second our forwarding
 * side sets up on the kernel module, every packet a new flow, 64 under way at a time. The cost of
 * making and taking the packets, measured with a flow that is there, is taken off. Prints one line
 * of JSON.
 */
import { openOvsDatapath } from '../../datapath/ovs/ovs-datapath.ts'
import { Forwarder } from '../../simulator/forwarder.ts'
import { frame } from '../simulator/frame.ts'
import { host, put, Topology } from '../simulator/world.ts'
import { enterFreshNetwork, TapPort } from '../system/tap-port.ts'

const window = 64
const warmUp = 4_032
/** Learned while warming up; their pairs with the stations are more than the flows made. */
const senders = 160
const flows = Number(process.argv[2] ?? 6_000)

enterFreshNetwork()
const [a, b] = [new TapPort('mda'), new TapPort('mdb')]
const datapath = openOvsDatapath()
const forwarder = new Forwarder({ datapath, host, now: () => performance.now() })
const onBridge = { kind: 'bridge', bridge: 'br', adminUp: true } as const
const stations = Array.from({ length: 64 }, (_, index) => ({
  mac: `02:00:00:0b:00:${index.toString(16).padStart(2, '0')}`,
  addresses: [],
}))

forwarder.apply(
  new Topology().put(
    put('bridge', { id: 'br', adminUp: true }),
    put('port', { ...onBridge, id: 'pa' }),
    put('port', { ...onBridge, id: 'pb', stations }),
    put('binding', { id: 'pa', host, interface: 'mda' }),
    put('binding', { id: 'pb', host, interface: 'mdb' }),
  ),
)
forwarder.adopt()

const packet = frame(
  `eth(src=02:00:00:0a:00:00,dst=02:00:00:0b:00:00),eth_type(0x0800),ipv4(src=10.1.0.1,dst=10.1.0.2,proto=17,tos=0,ttl=64,frag=no),udp(src=1,dst=2)`,
)
const bytes = new DataView(packet.buffer, packet.byteOffset)
let pair = 0

/** Sends packets window by window; `isNew` makes each of another pair of addresses. Says how many arrived. */
function exchange(count: number, isNew: boolean): number {
  let arrived = 0
  for (let sent = 0; sent < count; sent += window) {
    for (let index = 0; index < window; index++) {
      if (isNew) nextPair()
      a.send(packet)
    }
    if (isNew) for (let left = window; left > 0; ) left -= Math.max(1, forwarder.round(window))
    arrived += b.take().length
  }
  return arrived
}

function nextPair(): void {
  pair++
  bytes.setUint16(10, pair % senders)
  bytes.setUint16(4, Math.floor(pair / senders))
}

function measure(count: number, isNew: boolean): number {
  const start = process.hrtime.bigint()
  const arrived = exchange(count, isNew)
  const nanoseconds = Number(process.hrtime.bigint() - start)
  if (arrived !== Math.ceil(count / window) * window)
    console.error(`${arrived} arrived of ${count}`)
  return nanoseconds / count
}

exchange(warmUp, true)
exchange(warmUp, false)
const idle = measure(flows, false)
const each = measure(flows, true)
const { lost, masks } = datapath.counters()
console.log(
  JSON.stringify({
    flows: datapath.counters().flows,
    masks,
    lost,
    nanosecondsPerFlow: Math.round(each),
    nanosecondsOfHarness: Math.round(idle),
    flowsPerSecond: Math.round(1e9 / (each - idle)),
    rssMb: Math.round(process.memoryUsage().rss / 1e6),
  }),
)
process.exit(0)
