/** Death and rebirth of agent, Docker and containers: what goes on, what comes back, what is left. */
import { text } from 'node:stream/consumers'
import { setTimeout as sleep } from 'node:timers/promises'
import test, { type ExecutionContext } from 'ava'
import { Engine, image, type Leftovers, outsideAddress } from './engine.ts'

let engine: Engine
/** When a connection to the outside last carried a packet. */
let silentSince = 0

test.before(async () => {
  engine = await Engine.start()
  await network('red', '10.1.0.0/24')
  await network('blue', '10.2.0.0/24')
  await engine.sleeper('red1', 'red', '--restart', 'always')
  await engine.sleeper('red2', 'red', '--restart', 'always')
  await engine.sleeper('blue1', 'blue', '--restart', 'always')
  await openSilentConnection()
})

test.after.always('the machine is taken down', async () => {
  await engine?.close()
})

test.afterEach.always('what the agent said', (t) => {
  if (!t.passed) t.log(engine?.log('node'))
})

/**
 * Connects a container to a server outside, which speaks when it is told to by its other port, and
 * says there what the container answers.
 */
async function openSilentConnection(): Promise<void> {
  const server = `let client
    require('net').createServer((socket) => { client = socket.on('error', () => {}) }).listen(7300)
    require('net').createServer({ allowHalfOpen: true }, (asker) => {
      asker.on('error', () => {})
      client?.once('data', (answer) => asker.end(answer)).write('hello')
    }).listen(7301)`
  engine.spawn('ip', 'netns', 'exec', 'outside', process.execPath, '-e', server)
  const client = `const connect = () => {
      const socket = require('net').connect(7300, '${outsideAddress}')
      socket.on('data', (said) => socket.write(said.toString().toUpperCase()))
      socket.on('error', (error) => error.code === 'ECONNREFUSED' && setTimeout(connect, 200))
    }
    connect()`
  await startIn('red1', process.execPath, '-e', client)
  const heard = await eventually(spoken, (answer) => answer === 'HELLO', 15)
  if (heard !== 'HELLO') throw new Error(`the server outside heard ${heard}`)
  silentSince = Date.now()
}

/** What the container answers when the server outside speaks to it. */
async function spoken(): Promise<string> {
  const ask = `timeout 3 busybox nc ${outsideAddress} 7301 </dev/null`
  return (await engine.outside('sh', '-c', ask)).stdout.trim()
}

function network(name: string, subnet: string): Promise<string> {
  const create = ['network', 'create', '--driver', 'midonet', '--subnet', subnet]
  return engine.mustDocker(...create, '-o', 'org.midonet.router=shared', name)
}

/** Runs a command in a container's network; its output, when it has ended. */
async function startIn(container: string, command: string, ...args: string[]) {
  const pid = await engine.mustDocker('inspect', '-f', '{{.State.Pid}}', container)
  const child = engine.spawn('nsenter', '-t', pid, '-n', '--', command, ...args)
  const output = child.stdout === null ? Promise.resolve('') : text(child.stdout)
  return { child, output }
}

/**
 * A thousand packets a second to `address`; which of them were lost when it ends. Those of the
 * first second do not count: the flow is being made, and packets that wait for it are bounded.
 * Nor does one alone: a busy machine loses one now and then, over Docker's own bridge too.
 */
async function ping(from: string, address: string, seconds: number) {
  const count = seconds * 1000
  const args = ['ping', '-i', '0.001', '-c', String(count), '-W', '2', address]
  const { output } = await startIn(from, 'busybox', ...args)
  return async () => {
    const seen = new Set([...(await output).matchAll(/ seq=(\d+) /g)].map(([, seq]) => Number(seq)))
    const isLost = (seq: number) => seq < count && !seen.has(seq)
    const counted = Array.from({ length: count - 1000 }, (_, at) => at + 1000)
    const lost = counted.filter((seq) => isLost(seq) && (isLost(seq - 1) || isLost(seq + 1)))
    return { answered: seen.size, lost }
  }
}

/** A TCP stream; its intervals of a quarter second when it ends. */
async function stream(from: string, to: string, address: string, seconds: number) {
  await startIn(to, 'iperf3', '-s', '-1', '-p', '5300')
  await sleep(500)
  const rate = ['-b', '200M', '-i', '0.25', '-J']
  const { output } = await startIn(
    ...([from, 'iperf3', '-c', address, '-p', '5300', '-t', String(seconds), ...rate] as const),
  )
  return async () => {
    const { error, intervals } = JSON.parse(await output)
    const bits: number[] = intervals.map(
      ({ sum }: { sum: { bits_per_second: number } }) => sum.bits_per_second,
    )
    return { error, stalled: bits.filter((rate) => rate === 0).length, intervals: bits.length }
  }
}

/** Asks until the answer is as expected; the last one when time is over. */
async function eventually<T>(ask: () => Promise<T>, good: (answer: T) => boolean, seconds: number) {
  const end = Date.now() + seconds * 1000
  let answer = await ask()
  while (!good(answer) && Date.now() < end) {
    await sleep(250)
    answer = await ask()
  }
  return answer
}

/** Nothing more is left than before, after the grace that the reconciler gives. */
async function nothingLeft(t: ExecutionContext, before: Leftovers): Promise<void> {
  const same = (counts: Leftovers) => JSON.stringify(counts) === JSON.stringify(before)
  t.deepEqual(await eventually(() => engine.leftovers(), same, 120), before)
}

/**
 * Removes a network whose containers are gone. Docker counts endpoints beside keeping them, and its
 * count can stay too high when many come and go at once, with its own bridge driver too; it is set
 * right when Docker starts. Nothing of ours may be left then, and a restart must do.
 */
async function removeNetwork(t: ExecutionContext, name: string): Promise<void> {
  const { code, stderr } = await engine.docker('network', 'rm', name)
  if (code === 0) return
  t.regex(stderr, /has active endpoints/)
  const format = '{{len .Containers}}'
  t.is(await engine.mustDocker('network', 'inspect', '-f', format, name), '0')
  const id = await engine.mustDocker('network', 'inspect', '-f', '{{.Id}}', name)
  const endpoints = await engine.objects('endpoint')
  t.deepEqual(
    endpoints.filter(({ network }) => network === id),
    [],
  )
  t.log(`Docker counts endpoints of ${name} that are not there; it is restarted`)
  await engine.stopDocker()
  await engine.startDocker()
  await allRun(t)
  await engine.mustDocker('network', 'rm', name)
}

/** Docker answers before it has started all containers again. */
async function allRun(t: ExecutionContext): Promise<void> {
  const format = ['inspect', '-f', '{{.State.Running}} {{.State.Error}}']
  const ask = () => engine.mustDocker(...format, 'red1', 'red2', 'blue1')
  const expected = Array(3).fill('true ').join('\n').trim()
  t.is(await eventually(ask, (states) => states === expected, 60), expected)
}

async function allReach(t: ExecutionContext): Promise<void> {
  await allRun(t)
  const [red2, blue1] = [await engine.address('red2', 'red'), await engine.address('blue1', 'blue')]
  for (const address of [red2, blue1, outsideAddress])
    t.true(await engine.reaches('red1', address), address)
}

test.serial(
  'established traffic loses nothing when the agent is killed and comes back',
  async (t) => {
    await allReach(t)
    const seconds = 14
    const [red2, blue1] = [
      await engine.address('red2', 'red'),
      await engine.address('blue1', 'blue'),
    ]
    const pings = [
      await ping('red1', red2, seconds),
      await ping('red1', blue1, seconds),
      await ping('red2', outsideAddress, seconds),
    ]
    const tcp = await stream('red2', 'blue1', blue1, seconds)
    await sleep(2_500)
    await engine.stopAgent('KILL')
    await sleep(4_000)
    await engine.startAgent()
    for (const result of pings) {
      const { answered, lost } = await result()
      t.deepEqual(lost, [])
      t.true(answered >= (seconds - 1) * 1000, `${answered} answered`)
    }
    const { error, stalled, intervals } = await tcp()
    t.is(error, undefined)
    t.is(stalled, 0)
    t.true(intervals >= seconds * 4 - 2)
  },
)

test.serial('after it, new containers work and old ones meet them', async (t) => {
  await engine.sleeper('red3', 'red')
  const red3 = await engine.address('red3', 'red')
  t.true(await engine.reaches('red1', red3))
  t.true(await engine.reaches('blue1', red3))
  t.true(await engine.reaches('red3', outsideAddress))
  await engine.mustDocker('rm', '-f', 'red3')
})

test.serial('ten deaths in a row change nothing', async (t) => {
  const before = await engine.leftovers()
  const red2 = await engine.address('red2', 'red')
  const result = await ping('red1', red2, 20)
  for (let death = 0; death < 10; death++) {
    await engine.stopAgent('KILL')
    await engine.startAgent()
  }
  t.deepEqual((await result()).lost, [])
  await allReach(t)
  await nothingLeft(t, before)
})

test.serial(
  'a connection to the outside that was silent for long outlives the agents',
  async (t) => {
    const flows = async () => (await engine.midonet('dpctl', 'dump-flows')).stdout
    t.notRegex(await eventually(flows, (text) => !/7300/.test(text), 60), /7300/)
    t.true(Date.now() - silentSince > 30_000)
    await engine.stopAgent('KILL')
    await engine.startAgent()
    t.is(await spoken(), 'HELLO', 'after one that was killed')
    // What it said just now is in no flow and not in the file before.
    await engine.stopAgent('TERM')
    await engine.startAgent()
    t.is(await spoken(), 'HELLO', 'after one that ended')
  },
)

test.serial('who asks whether a neighbour lives is answered while no agent runs', async (t) => {
  await engine.sleeper('asker', 'red')
  // Both are asked for by broadcast once, as whatever a container does first brings about.
  const neighbours = ['10.1.0.1', await engine.address('red2', 'red')]
  for (const address of neighbours) t.true(await engine.reaches('asker', address))
  await engine.stopAgent('KILL')
  for (const address of neighbours) {
    const seen = await (await startIn('asker', 'ip', 'neighbour', 'show', address)).output
    const mac = /lladdr (\S+)/.exec(seen)?.[1] ?? ''
    const probe = ['neighbour', 'change', address, 'lladdr', mac, 'dev', 'eth0', 'nud', 'probe']
    await (await startIn('asker', 'ip', ...probe)).output
    const state = async () =>
      await (await startIn('asker', 'ip', 'neighbour', 'show', address)).output
    t.regex(await eventually(state, (now) => !/PROBE/.test(now), 10), /REACHABLE/, address)
  }
  await engine.startAgent()
  await engine.mustDocker('rm', '-f', 'asker')
})

test.serial('a container whose process is killed leaves nothing behind', async (t) => {
  const before = await engine.leftovers()
  await engine.sleeper('victim', 'red', '-p', '8090:80')
  const pid = await engine.mustDocker('inspect', '-f', '{{.State.Pid}}', 'victim')
  await engine.run('kill', '-9', pid)
  await nothingLeft(t, before)
  await engine.mustDocker('rm', '-f', 'victim')
})

test.serial('Docker restarted: containers come back and nothing is left over', async (t) => {
  const before = await engine.leftovers()
  await engine.stopDocker()
  await engine.startDocker()
  await allReach(t)
  await nothingLeft(t, before)
})

test.serial('Docker killed: containers come back and nothing is left over', async (t) => {
  const before = await engine.leftovers()
  await engine.stopDocker('KILL')
  await engine.startDocker()
  await allReach(t)
  await nothingLeft(t, before)
})

test.serial('Docker and the agent killed together', async (t) => {
  const before = await engine.leftovers()
  await Promise.all([engine.stopDocker('KILL'), engine.stopAgent('KILL')])
  await Promise.all([engine.startAgent(), engine.startDocker()])
  await allReach(t)
  await nothingLeft(t, before)
})

test.serial('a container removed while the agent is away leaves nothing behind', async (t) => {
  const before = await engine.leftovers()
  await engine.sleeper('gone', 'red')
  await engine.stopAgent()
  // Docker asks for a while, then removes the container without us.
  await engine.mustDocker('rm', '-f', 'gone')
  await engine.startAgent()
  await nothingLeft(t, before)
  await engine.sleeper('new', 'red')
  t.true(await engine.reaches('new', await engine.address('red1', 'red')))
  await engine.mustDocker('rm', '-f', 'new')
})

test.serial('with live-restore traffic goes on while Docker restarts', async (t) => {
  await engine.stopDocker()
  await engine.startDocker(['--live-restore'])
  await allReach(t)
  const before = await engine.leftovers()
  const result = await ping('red1', await engine.address('red2', 'red'), 8)
  await engine.stopDocker()
  await engine.startDocker(['--live-restore'])
  t.deepEqual((await result()).lost, [])
  await allReach(t)
  await nothingLeft(t, before)
  await engine.mustDocker('restart', '-t', '0', 'red2')
  await allReach(t)
  await engine.stopDocker()
  await engine.startDocker()
  await allReach(t)
})

test.serial('a hundred containers at once are all reached, each at its own address', async (t) => {
  const before = await engine.leftovers()
  await network('crowd', '10.9.0.0/24')
  const names = Array.from({ length: 100 }, (_, at) => `crowd${at}`)
  await Promise.all(names.map((name) => engine.sleeper(name, 'crowd')))
  const format = '{{.NetworkSettings.Networks.crowd.IPAddress}}'
  const addresses = (await engine.mustDocker('inspect', '-f', format, ...names)).split('\n')
  t.is(new Set(addresses).size, 100)
  const script = `for a in ${addresses.join(' ')}; do ping -q -c 1 -W 2 $a >/dev/null || echo $a; done`
  for (const name of ['crowd0', 'crowd50', 'crowd99', 'red1'])
    t.is(await engine.mustDocker('exec', name, 'sh', '-c', script), '', name)
  await engine.mustDocker('rm', '-f', ...names)
  await removeNetwork(t, 'crowd')
  await nothingLeft(t, before)
})

test.serial('the IPAM driver gives forty callers forty addresses', async (t) => {
  const before = await engine.leftovers()
  const ipam = ['--driver', 'midonet', '--ipam-driver', 'midonet', '--subnet', '10.10.0.0/24']
  await engine.mustDocker('network', 'create', ...ipam, 'drawn')
  const names = Array.from({ length: 40 }, (_, at) => `drawn${at}`)
  await Promise.all(
    names.map((name) =>
      engine.mustDocker('create', '--network', 'drawn', '--name', name, image, 'sleep', '9999'),
    ),
  )
  await Promise.all(names.map((name) => engine.mustDocker('start', name)))
  const format = '{{.NetworkSettings.Networks.drawn.IPAddress}}'
  const addresses = (await engine.mustDocker('inspect', '-f', format, ...names)).split('\n')
  t.is(new Set(addresses).size, names.length)
  await engine.mustDocker('rm', '-f', ...names)
  await removeNetwork(t, 'drawn')
  await nothingLeft(t, before)
})
