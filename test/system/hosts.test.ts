/** Three hosts, each with an agent and a datapath, one etcd, stations on all of them. */
import { spawn } from 'node:child_process'
import { setTimeout as sleep } from 'node:timers/promises'
import test from 'ava'
import { events } from '../driver/rest-client.ts'
import { eventually, Hosts, hostName, underlayOf } from './hosts.ts'
import { address6Of, addressOf, furnishHosts, stationOf, stations } from './hosts-world.ts'
import { ensurePackages } from './packages.ts'
import { slowness } from './stage.ts'

const mtu = 1450
const child = new URL('./hosts-child.js', import.meta.url).pathname
const cli = new URL('../../cli.js', import.meta.url).pathname
const stationChild = new URL('./station-child.js', import.meta.url).pathname
const group = '239.7.7.7'
let hosts: Hosts

test.before(async (t) => {
  t.timeout(120_000 * slowness)
  ensurePackages()
  hosts = await Hosts.open()
  await furnishHosts(hosts, mtu)
})

test.after.always(async () => {
  await hosts?.close()
})

/** Whether `from` gets an answer from an address, in some tries. */
function reaches(from: string, address: string, size = 56): Promise<boolean> {
  const script = `busybox ping -c 1 -W 1 -s ${size} ${address}`
  return eventually(async () => / 1 packets received/.test(await hosts.in(from, script)))
}

test.serial('all stations reach each other, on one bridge and by the router', async (t) => {
  t.timeout(120_000 * slowness)
  const pairs = stations.flatMap((from) => stations.map((to) => [from, to] as const))
  await Promise.all(
    pairs.map(async ([from, to]) => {
      t.true(await reaches(from.name, addressOf(to)), `${from.name} to ${to.name}`)
      t.true(await reaches(from.name, address6Of(to)), `${from.name} to ${to.name} by IPv6`)
    }),
  )
})

test.serial('packets of full size go whole', async (t) => {
  for (const [from, to] of [
    ['a', 'b'],
    ['c', 'd'],
    ['f', 'e'],
  ] as const) {
    t.true(await reaches(from, addressOf(stationOf(to)), mtu - 28))
    t.true(await reaches(from, address6Of(stationOf(to)), mtu - 48))
  }
})

test.serial('TCP both ways', async (t) => {
  t.timeout(60_000 * slowness)
  for (const { name } of stations)
    await hosts.serve(name, process.execPath, stationChild, 'serve', '80')
  for (const [from, to] of [
    ['a', 'b'],
    ['b', 'a'],
    ['c', 'd'],
    ['d', 'c'],
    ['e', 'f'],
  ] as const) {
    const [source, target] = [stationOf(from), stationOf(to)]
    for (const [address, own] of [
      [addressOf(target), addressOf(source)],
      [address6Of(target), address6Of(source)],
    ]) {
      const script = `${process.execPath} ${stationChild} tcp ${address} 80 3000000`
      t.is(await hosts.in(from, script), `from ${own} got 3000000\n`, `${from} to ${to}`)
    }
  }
})

test.serial('broadcast and multicast reach all of the bridge, and nobody else', async (t) => {
  t.timeout(60_000 * slowness)
  for (const { name } of stations)
    await hosts.serve(name, process.execPath, child, 'hear', '7777', group)
  // Linux hears its own broadcasts and multicasts.
  const others = ['a', 'b', 'c'].map((name) => addressOf(stationOf(name))).join(' ')
  const call = (address: string) =>
    hosts.in('a', `${process.execPath} ${child} call ${address} 7777`)
  t.is(await call('10.1.0.255'), `${others}\n`)
  t.is(await call(group), `${others}\n`)
})

test.serial('a trace tells which host a packet goes to, and by which key', async (t) => {
  const { dir } = hosts.stage(0)
  const mac = async (name: string) =>
    (await hosts.in(name, 'cat /sys/class/net/eth0/address')).trim()
  const eth = `eth(src=${await mac('a')},dst=${await mac('b')})`
  const words = `trace --in a --packet '${eth},eth_type(0x0800),ipv4(src=10.1.0.2,dst=10.1.0.3)'`
  const said = await hosts
    .stage(0)
    .sh(`MIDONET_RUN_DIR=${dir}/run ${process.execPath} ${cli} ${words}`)
  t.regex(said, new RegExp(`out to host ${hosts.ids[1]?.slice(0, 12)} by tunnel key \\d+`))
})

test.serial('a trace request tells each host’s part of a packet’s way', async (t) => {
  const condition = { protocol: { is: 1 } }
  const device = { kind: 'bridge', id: 'red' }
  await hosts.put(['traceRequest', { id: 'live', device, limit: 9, enabled: true, condition }])
  const shown = (index: number) => hosts.stage(index).cli('trace', '--show', 'live')
  const told = [
    { index: 0, what: `out to host ${hosts.ids[1]?.slice(0, 12)}\\S* by tunnel key \\d+` },
    {
      index: 1,
      what: `from host ${hosts.ids[0]?.slice(0, 12)}\\S* by tunnel key \\d+: for port b`,
    },
  ]
  for (const { index, what } of told) {
    const isTold = async () => {
      await reaches('a', '10.1.0.3')
      return new RegExp(what).test(await shown(index))
    }
    t.true(await eventually(isTold), `${what}\n${await shown(index)}`)
  }
  t.regex(await shown(2), /no packet has met the condition here yet/)
  await hosts.transact([{ op: 'delete', kind: 'traceRequest', id: 'live' }])
})

test.serial('what is changed by one agent’s API is told by another’s, in order', async (t) => {
  const socket = `${hosts.stage(1).dir}/run/agent.sock`
  const isLast = (text: string) => text.includes('"id":"last"')
  const stream = events(socket, '/v1/watch?kind=chain&list=true', isLast)
  await stream.opened
  const ask = (method: string, path: string, body?: object) =>
    hosts.stage(0).ask(method, `/v1/chain${path}`, body)
  const wanted: object[] = []
  for (const id of ['c1', 'c2', 'c3']) {
    await ask('POST', '', { id })
    await ask('PATCH', `/${id}`, { name: `name-${id}` })
    // At once or a moment later, never something else.
    const url = `/v1/chain/${id}`
    t.true(await eventually(async () => (await named(url)) === `name-${id}`))
    await ask('DELETE', `/${id}`)
    const value = { id, name: `name-${id}` }
    wanted.push({ kind: 'chain', id, value: { id } }, { kind: 'chain', id, value })
    wanted.push({ kind: 'chain', id })
  }
  await ask('POST', '', { id: 'last' })
  const text = await stream.text
  const changes = [...text.matchAll(/^data: (.*)$/gm)].map(([, data]) => JSON.parse(data ?? ''))
  t.deepEqual(changes.slice(-10, -1), wanted)
  await ask('DELETE', '/last')
})

async function named(path: string): Promise<unknown> {
  return Object(await hosts.stage(1).ask('GET', path)).name
}

/** Frames of `forge` that came to station b until `isOver` held. */
async function forged(
  from: string,
  key: number,
  isOver: (seen: string) => boolean | Promise<boolean>,
): Promise<string> {
  const words = ['netns', 'exec', 'hs-b', 'tcpdump', '-lnqi', 'eth0', 'ether', 'proto', '0x88b5']
  const dump = spawn('ip', words, { stdio: ['ignore', 'pipe', 'pipe'] })
  let seen = ''
  let said = ''
  dump.stdout.setEncoding('utf8').on('data', (text) => {
    seen += text
  })
  dump.stderr.setEncoding('utf8').on('data', (text) => {
    said += text
  })
  try {
    await eventually(() => said.includes('listening on'))
    const script = `${process.execPath} ${child} forge ${underlayOf(1)} ${key} 02:00:00:00:66:66`
    const forging = spawn('ip', ['netns', 'exec', from, 'sh', '-c', `${script}; ${script}`])
    await new Promise((resolve) => forging.once('exit', resolve))
    await eventually(() => isOver(seen))
    return seen
  } finally {
    dump.kill()
  }
}

/** Tells whether host 2 has dropped another packet for that reason since. */
async function watchDrops(reason: string): Promise<() => Promise<boolean>> {
  const count = async (): Promise<number> => {
    const { forwarding } = Object(await hosts.stage(1).ask('GET', '/status'))
    return forwarding.forwarder.drops[reason] ?? 0
  }
  const before = await count()
  return async () => (await count()) > before
}

test.serial('what comes from no member, or for no port, is dropped', async (t) => {
  t.timeout(60_000 * slowness)
  const bindings = Object(await hosts.stage(0).ask('GET', '/v1/binding/b'))
  const key = Number(bindings.tunnelKey)
  t.true(key > 0)
  const outside = spawn('ip', ['-n', 'hs-net', 'addr', 'add', '192.168.77.200/24', 'dev', 'br0'])
  await new Promise((resolve) => outside.once('exit', resolve))
  const isSeen = (seen: string) => seen !== ''
  t.not(await forged(hostName(0), key, isSeen), '', 'the forger forges well')
  const stranger = await watchDrops('the tunnel comes from no member of the zone')
  t.is(await forged('hs-net', key, stranger), '')
  t.true(await stranger())
  const nobody = await watchDrops('the tunnel key names no port of this host')
  t.is(await forged(hostName(0), key ^ 1, nobody), '')
  t.true(await nobody())
})

test.serial(
  'a port moves to another host under load, and its traffic follows at once',
  async (t) => {
    t.timeout(60_000 * slowness)
    const load = hosts.in('a', 'busybox ping -i 0.02 -c 250 -W 1 10.1.0.4')
    await sleep(1500)
    hosts.moveStation('c', 1)
    await hosts.bind('c', 1)
    const [, received = '0'] = /(\d+) packets received/.exec(await load) ?? []
    const lost = 250 - Number(received)
    t.log(`${lost} of 250 packets lost, one each 20 ms`)
    t.true(lost <= 25, `${lost} packets lost`)
    for (const { name } of stations) t.true(await reaches(name, '10.1.0.4'), `${name} to c`)
  },
)

test.serial('a dead agent’s host goes on, and the next one takes its tunnels over', async (t) => {
  t.timeout(90_000 * slowness)
  const load = hosts.in('a', 'busybox ping -i 0.02 -c 300 -W 1 10.1.0.3')
  await sleep(500)
  await hosts.stage(1).stopAgent('KILL')
  await sleep(500)
  await hosts.stage(1).startAgent()
  t.regex(await load, /, 0% packet loss/)
  t.true(await reaches('d', addressOf(stationOf('b'))))
})

test.serial('a host that leaves its zone has no tunnel left', async (t) => {
  t.timeout(30_000 * slowness)
  const tunnels = () => hosts.stage(2).sh('ip -o link show type vxlan')
  t.regex(await tunnels(), /mt-vxlan/)
  const id = `default_${hosts.ids[2]}`
  await hosts.transact([{ op: 'delete', kind: 'zoneMember', id }])
  t.true(await eventually(async () => (await tunnels()) === ''))
  t.false(
    await hosts
      .in('f', 'busybox ping -c 1 -W 1 10.2.0.5')
      .then((said) => / 1 packets received/.test(said)),
  )
})
