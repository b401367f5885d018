/**
 * Connections of real sockets whose answers come back by another gateway than the one they left by:
 *
 *   a (host 1) ─ red ─ router ─┬─ up1 (host 2) ─▶ outside    packets from inside
 *                              └─ up2 (host 3) ◀─ outside    packets from outside
 */
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { setTimeout as delay } from 'node:timers/promises'
import test, { type ExecutionContext } from 'ava'
import { eventually, Hosts, hostName } from './hosts.ts'
import { ensurePackages } from './packages.ts'
import { slowness } from './stage.ts'

const talkChild = new URL('./talk-child.js', import.meta.url).pathname
const outside = '198.18.0.1'
/** The source of what the outside begins. */
const client = '203.0.114.2'
const publicAddress = '192.0.2.1'
const vip = '192.0.2.80'
let hosts: Hosts

test.before(async (t) => {
  t.timeout(120_000 * slowness)
  ensurePackages()
  hosts = await Hosts.open()
  hosts.addStation('a', 0, [
    'link set eth0 address 02:00:00:00:e1:0a',
    'addr add 10.1.0.2/24 dev eth0',
    'route add default via 10.1.0.1',
  ])
  addOutside()
  await hosts.put(...topology())
  for (const [port, host] of [
    ['a', 0],
    ['up1', 1],
    ['up2', 2],
  ] as const)
    await hosts.bind(port, host)
  await echo('hs-out', 7000, outside)
  await echo('hs-a', 7000, '10.1.0.2')
})

test.after.always(async () => {
  for (const child of children) child.kill()
  await hosts?.close()
})

/** A namespace with a link to each gateway: what comes in by the first goes back by the second. */
function addOutside(): void {
  hosts.addStation('out', 1, ['addr add 203.0.113.2/24 dev eth0', `addr add ${outside}/32 dev lo`])
  const script = `ip -n ${hostName(1)} link set v-out down
ip -n ${hostName(1)} link set v-out name v-up1
ip -n ${hostName(1)} link set v-up1 up
ip link add name v-up2 netns ${hostName(2)} mtu 1450 type veth peer name eth1 mtu 1450 netns hs-out
ip -n ${hostName(2)} link set v-up2 up
ip -n hs-out addr add 203.0.114.2/24 dev eth1
ip -n hs-out link set eth0 address 02:00:00:00:e2:02
ip -n hs-out link set eth1 address 02:00:00:00:e2:03 up
ip -n hs-out route add 192.0.2.0/24 via 203.0.114.1 dev eth1
ip netns exec hs-out sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.eth0.rp_filter=0 net.ipv4.conf.all.arp_announce=2`
  const { status, stderr } = spawnSync('sh', ['-ec', script], { encoding: 'utf8' })
  if (status !== 0) throw new Error(stderr)
}

function topology() {
  const nat = { first: publicAddress, last: publicAddress, ports: { first: 1024, last: 65_535 } }
  const router = { kind: 'router', router: 'r', adminUp: true } as const
  const route = { router: 'r', src: '0.0.0.0/0', weight: 1 } as const
  return [
    ['portGroup', { id: 'ups', stateful: true }],
    ['chain', { id: 'out' }],
    ['chain', { id: 'in' }],
    [
      'rule',
      {
        ...{ id: 'snat', chain: 'out', position: 1, condition: { outPortGroup: { is: 'ups' } } },
        action: { kind: 'snat', targets: [nat], verdict: 'accept' },
      },
    ],
    [
      'rule',
      {
        ...{ id: 'back', chain: 'in', position: 1 },
        condition: { dst: { is: `${publicAddress}/32` } },
        action: { kind: 'reverseSnat', verdict: 'accept' },
      },
    ],
    ['router', { id: 'r', adminUp: true, inboundChain: 'in', outboundChain: 'out' }],
    ['bridge', { id: 'red', adminUp: true, mtu: 1450 }],
    ['port', { id: 'red-r', kind: 'bridge', bridge: 'red', adminUp: true, peer: 'r-red' }],
    [
      'port',
      {
        ...{ ...router, id: 'r-red', peer: 'red-r', mac: '02:00:00:00:e1:01' },
        addresses: ['10.1.0.1/24'],
      },
    ],
    [
      'port',
      {
        ...{ id: 'a', kind: 'bridge', bridge: 'red', adminUp: true },
        stations: [{ mac: '02:00:00:00:e1:0a', addresses: ['10.1.0.2'] }],
      },
    ],
    ...[
      ['up1', '203.0.113', '02'],
      ['up2', '203.0.114', '03'],
    ].map(([id = '', net, last]) => {
      const mac = `02:00:00:00:e1:${last}`
      const neighbors = [{ address: `${net}.2`, mac: `02:00:00:00:e2:${last}` }]
      const own = { id, mac, addresses: [`${net}.1/24`], neighbors, portGroups: ['ups'] }
      return ['port', { ...router, ...own }] as const
    }),
    [
      'route',
      {
        ...route,
        id: 'all',
        dst: '0.0.0.0/0',
        action: 'port',
        port: 'up1',
        gateway: '203.0.113.2',
      },
    ],
    ['route', { ...route, id: 'public', dst: '192.0.2.0/24', action: 'blackhole' }],
    ['loadBalancer', { id: 'lb', router: 'r', adminUp: true }],
    ['balancerPool', { id: 'pool', loadBalancer: 'lb', adminUp: true }],
    [
      'poolMember',
      { id: 'm', pool: 'pool', address: '10.1.0.2', port: 7000, weight: 1, adminUp: true },
    ],
    [
      'vip',
      {
        ...{ id: 'vip', pool: 'pool', loadBalancer: 'lb', address: vip, port: 80 },
        ...{ protocol: 'tcp', persistence: 'none', adminUp: true },
      },
    ],
  ] as const
}

const children: ReturnType<typeof spawn>[] = []

async function echo(namespace: string, port: number, address: string): Promise<void> {
  const words = [process.execPath, talkChild, 'echo', `${port}`, address]
  const child = spawn('ip', ['netns', 'exec', namespace, ...words], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  children.push(child)
  await once(child.stdout, 'data')
}

function talk(station: string, to: string, port: number, seconds: number): Promise<string> {
  return hosts.in(station, `${process.execPath} ${talkChild} talk ${to} ${port} ${seconds}`)
}

/** Nothing was lost; returns the longest time between two answers, in milliseconds. */
function checkTalk(t: ExecutionContext, text: string, from: string): number {
  const found = /^from (\S+) sent (\d+) got (\d+) longest (\d+) $/m.exec(text)
  t.truthy(found, text)
  const [, seen, sent, got, longest] = found ?? []
  t.is(seen, from)
  t.is(got, sent)
  t.true(Number(sent) > 50, text)
  return Number(longest)
}

async function messages(index: number): Promise<Record<string, number>> {
  const status = Object(await hosts.stage(index).ask('GET', '/status'))
  return Object(status.forwarding?.forwarder?.stateMessages)
}

test.serial('a translation is undone by the gateway that the answer comes by', async (t) => {
  t.timeout(60_000 * slowness)
  t.true(
    await eventually(async () => /got [3-9]\d /.test(await talk('a', outside, 7000, 1)), 30_000),
    'it begins to work',
  )
  const ms = checkTalk(t, await talk('a', outside, 7000, 2), publicAddress)
  const [one, two, three] = await Promise.all([0, 1, 2].map(messages))
  t.log({ longestMs: ms, one, two, three })
  t.true((one?.sent ?? 0) > 0)
  t.true((three?.taken ?? 0) > 0)
  t.is(one?.givenUp, 0)
})

test.serial('a VIP answers by another gateway than it was asked by', async (t) => {
  t.timeout(30_000 * slowness)
  checkTalk(t, await talk('out', vip, 80, 2), client)
})

test.serial('connections outlive the agents that made them', async (t) => {
  t.timeout(90_000 * slowness)
  const [there, back] = [talk('a', outside, 7000, 14), talk('out', vip, 80, 14)]
  await delay(2_000)
  for (const index of [0, 2, 1]) {
    await hosts.stage(index).stopAgent('KILL')
    await hosts.stage(index).startAgent()
    await delay(500)
  }
  const longest = [checkTalk(t, await there, publicAddress), checkTalk(t, await back, client)]
  t.log({ longestMs: longest })
})

test.serial('connections go on when their port moves to another host', async (t) => {
  t.timeout(60_000 * slowness)
  const [there, back] = [talk('a', outside, 7000, 6), talk('out', vip, 80, 6)]
  await delay(2_500)
  hosts.moveStation('a', 2)
  await hosts.bind('a', 2)
  const longest = [checkTalk(t, await there, publicAddress), checkTalk(t, await back, client)]
  t.log({ longestMs: longest })
})
