/** Runs in a guest (test/vm): a Docker Engine and our agent on the kernel module's datapath. */
import { setTimeout as sleep } from 'node:timers/promises'
import test from 'ava'
import { Engine, outsideAddress } from '../system/engine.ts'

let engine: Engine

test.before(async (t) => {
  t.timeout(500_000)
  engine = await Engine.start([], { MIDONET_DATAPATH: 'auto' })
  for (const [name, subnet] of [
    ['red', '10.1.0.0/24'],
    ['blue', '10.2.0.0/24'],
  ] as const) {
    const create = ['network', 'create', '-d', 'midonet', '--subnet', subnet]
    await engine.mustDocker(...create, '-o', 'org.midonet.router=shared', name)
  }
  await engine.sleeper('red1', 'red')
  await engine.sleeper('red2', 'red')
  await engine.sleeper('blue1', 'blue')
})

test.after.always('the machine is taken down', async () => {
  await engine?.close()
})

test.afterEach.always('what the agent said', (t) => {
  if (!t.passed) t.log(engine?.log())
})

test.serial('Docker’s containers are ports of the kernel module', async (t) => {
  const { stdout } = await engine.midonet('status')
  t.regex(stdout, /^datapath ovs: the kernel has Open vSwitch's module$/m)
  const ports = (await engine.midonet('dpctl', 'dump-ports')).stdout
  t.true((ports.match(/: mn/g) ?? []).length >= 3, ports)
})

test.serial(
  'containers reach each other by name, across the router, and the outside',
  async (t) => {
    t.timeout(200_000)
    t.true(await engine.reaches('red1', 'red2'))
    t.true(await engine.reaches('red1', await engine.address('blue1', 'blue')))
    t.true(await engine.reaches('blue1', await engine.address('red2', 'red')))
    t.true(await engine.reaches('red1', outsideAddress))
  },
)

test.serial('a killed agent loses no packet, and the next one takes its flows over', async (t) => {
  t.timeout(400_000)
  const [red2, blue1] = [await engine.address('red2', 'red'), await engine.address('blue1', 'blue')]
  await longNeighbours()
  const pings = [
    await startPing('red1', red2),
    await startPing('red1', blue1),
    await startPing('red2', outsideAddress),
  ]
  // What was about to be asked for is asked for now.
  await sleep(8_000)
  await engine.stopAgent('KILL')
  await sleep(2_000)
  await engine.startAgent()
  await sleep(2_000)
  for (const stop of pings) {
    const { sent, answered } = await stop()
    t.true(sent >= 20, `${sent} sent`)
    t.deepEqual(answered, [...answered.keys()])
    t.true(answered.length > sent - inFlight, `${answered.length} of ${sent} answered`)
  }
  t.true(await engine.reaches('blue1', red2))
  t.true(await engine.reaches('red2', outsideAddress))
})

/** Without an agent the kernel module answers no ARP request, so none is to be due meanwhile. */
async function longNeighbours(): Promise<void> {
  const script = `for file in /proc/sys/net/ipv4/neigh/*; do
  echo 600000 > $file/base_reachable_time_ms; echo 600 > $file/delay_first_probe_time
done`
  await engine.run('sh', '-c', script)
  for (const container of ['red1', 'red2', 'blue1'])
    await engine.run('nsenter', '-t', await pidOf(container), '-n', 'sh', '-c', script)
}

function pidOf(container: string): Promise<string> {
  return engine.mustDocker('inspect', '-f', '{{.State.Pid}}', container)
}

/** Packets whose answers may be on their way when it stops: a second's. */
const inFlight = 5

/** Five packets a second until it is stopped, and the numbers of those that were answered. */
async function startPing(from: string, address: string) {
  const ping = `busybox ping -i 0.2 -c 100000 -W 5 ${address}`
  const script = `${ping} & read -r _; kill -INT $!; wait $!`
  const inside = ['-t', await pidOf(from), '-n', '--', 'sh', '-c', script]
  const child = engine.spawn('nsenter', ...inside)
  let output = ''
  child.stdout?.on('data', (chunk) => {
    output += chunk
  })
  const ended = new Promise((resolve) => child.once('exit', resolve))
  return async () => {
    child.stdin?.end()
    await Promise.race([ended, sleep(20_000)])
    const [, sent] = /(\d+) packets transmitted/.exec(output) ?? []
    const answered = [...output.matchAll(/ seq=(\d+) /g)].map(([, number]) => Number(number))
    return { sent: Number(sent), answered }
  }
}
