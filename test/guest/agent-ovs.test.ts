/**
 * Runs in a guest (test/vm): our whole agent on the kernel module's datapath. A test plays Docker
 * at the plugin's socket; containers are network namespaces.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, openSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import test from 'ava'
import { dockerId, endpointBody, joinBody, networkBody, post, send } from '../driver/agent.ts'

const plugin = '/run/docker/plugins/midonet.sock'
const socketPath = '/run/midonet/agent.sock'
const main = new URL('../../main.js', import.meta.url).pathname
const cli = new URL('../../cli.js', import.meta.url).pathname
const [red, blue] = [dockerId(1), dockerId(2)]

mkdirSync('/run/docker/plugins', { recursive: true })
let agent: ChildProcess | undefined

interface Status {
  readonly ready: boolean
  readonly datapath: { readonly kind: string; readonly why: string }
  readonly forwarding: {
    readonly forwarder: { readonly flows: number; readonly packets: number; readonly lost: number }
  }
}

async function status(): Promise<Status> {
  const { body } = await send(socketPath, 'GET', '/status')
  // The agent is of this version.
  return body as unknown as Status
}

/** Starts the agent and waits until it can serve Docker. */
async function start(): Promise<void> {
  const log = openSync('/tmp/agent.log', 'a')
  const env = { ...process.env, MIDONET_STATE_DIR: '/tmp/midonet', MIDONET_DATAPATH: 'auto' }
  agent = spawn(process.execPath, [main], { env, stdio: ['ignore', log, log] })
  for (let tries = 0; tries < 600; tries++) {
    await sleep(200)
    const now = await status().catch(() => undefined)
    if (now?.ready === true) return
  }
}

async function stop(signal: NodeJS.Signals): Promise<void> {
  if (agent === undefined) return
  const gone = once(agent, 'exit')
  agent.kill(signal)
  await gone
  agent = undefined
}

function run(...command: readonly string[]): string {
  const {
    stdout,
    stderr,
    status: code,
  } = spawnSync(command[0] ?? '', command.slice(1), {
    encoding: 'utf8',
  })
  return code === 0 ? stdout : `${stdout}${stderr}`
}

/** A container of the network: a namespace with one end of the endpoint's link. */
async function container(name: string, network: string, seed: number, cidr: string): Promise<void> {
  const id = dockerId(seed)
  await post(plugin, '/NetworkDriver.CreateEndpoint', endpointBody(network, id, cidr))
  const { body } = await post(plugin, '/NetworkDriver.Join', joinBody(network, id))
  const answer = body as { InterfaceName: { SrcName: string }; Gateway: string }
  const link = answer.InterfaceName.SrcName
  run('ip', 'netns', 'add', name)
  run('ip', 'link', 'set', link, 'netns', name)
  run('ip', '-n', name, 'link', 'set', link, 'name', 'eth0')
  run('ip', '-n', name, 'addr', 'add', cidr, 'dev', 'eth0')
  run('ip', '-n', name, 'link', 'set', 'eth0', 'up')
  run('ip', '-n', name, 'route', 'add', 'default', 'via', answer.Gateway)
}

function ping(from: string, to: string, count = 3): string {
  return run('ip', 'netns', 'exec', from, 'busybox', 'ping', '-c', `${count}`, '-w', '20', to)
}

test.before(async (t) => {
  t.timeout(300_000)
  await start()
  const options = { 'org.midonet.router': 'shop' }
  for (const [id, subnet] of [
    [red, '10.1.0.0/24'],
    [blue, '10.2.0.0/24'],
  ] as const)
    await post(plugin, '/NetworkDriver.CreateNetwork', networkBody({ id, subnet, options }))
  await container('red1', red, 0x11, '10.1.0.2/24')
  await container('red2', red, 0x12, '10.1.0.3/24')
  await container('blue1', blue, 0x13, '10.2.0.2/24')
})

test.after.always(async () => {
  await stop('SIGTERM')
})

test.serial('the kernel module is taken where it is, and the status says why', async (t) => {
  const { datapath } = await status()
  t.is(datapath.kind, 'ovs')
  t.regex(datapath.why, /Open vSwitch's module/)
})

test.serial('containers reach each other on a network, across a router, and the router', (t) => {
  t.timeout(120_000)
  t.regex(ping('red1', '10.1.0.3'), /3 packets received/)
  t.regex(ping('red1', '10.2.0.2'), /3 packets received/)
  t.regex(ping('blue1', '10.1.0.3'), /3 packets received/)
  t.regex(ping('red1', '10.1.0.1'), /3 packets received/)
  t.regex(ping('blue1', '10.1.0.77', 1), / 0 packets received/)
})

test.serial('flows do the work, not the agent', async (t) => {
  t.timeout(120_000)
  ping('red1', '10.2.0.2', 1)
  const before = (await status()).forwarding.forwarder
  t.regex(ping('red1', '10.2.0.2', 10), /10 packets received/)
  const after = (await status()).forwarding.forwarder
  // Neighbours are asked for now and then, which is the agent's to answer.
  t.true(after.packets - before.packets <= 4, `${after.packets - before.packets} packets`)
  t.true(after.flows >= 2)
  t.is(after.lost, 0)
})

test.serial('the flows are there to be seen, in the words of Open vSwitch', (t) => {
  t.timeout(120_000)
  ping('red1', '10.2.0.2', 1)
  const flows = run(process.execPath, cli, 'dpctl', 'dump-flows')
  t.regex(flows, /in_port\(\d+\).*eth_type\(0x0800\).*packets:\d+.*actions:.*set\(eth\(/)
  t.regex(run(process.execPath, cli, 'dpctl', 'show'), /midonet.*ovs(.|\n)*port \d+: mn/)
})

test.serial('a killed agent loses no packet, and the next one takes its flows over', async (t) => {
  t.timeout(300_000)
  // Neighbours known for long: the kernel module answers no ARP request, so none is due meanwhile.
  for (const name of ['red1', 'blue1'])
    for (const key of ['base_reachable_time_ms', 'delay_first_probe_time'])
      run('ip', 'netns', 'exec', name, 'sysctl', '-w', `net.ipv4.neigh.eth0.${key}=600000`)
  t.regex(ping('red1', '10.2.0.2'), /3 packets received/)
  const pinging = spawn('ip', 'netns exec red1 busybox ping -i 1 -c 10000 10.2.0.2'.split(' '), {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  let output = ''
  pinging.stdout.on('data', (chunk) => {
    output += chunk
  })
  const ended = once(pinging, 'exit')
  await sleep(2000)
  await stop('SIGKILL')
  await sleep(2000)
  await start()
  await sleep(2000)
  spawnSync('busybox', ['kill', '-INT', `${pinging.pid}`])
  await Promise.race([ended, sleep(10_000)])
  const [, sent, received] = /(\d+) packets transmitted, (\d+) packets received/.exec(output) ?? []
  t.true(Number(sent) >= 5, output)
  t.is(received, sent)
  const { flows } = (await status()).forwarding.forwarder
  t.true(flows >= 2, `${flows} flows adopted`)
})
