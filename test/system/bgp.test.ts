/**
 * The walk-through: a router port bound to a veth, an AS number, peers and networks, typed as they
 * stand in it; real routers outside. Then uplinks fail while a connection runs both ways.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import test, { type ExecutionContext } from 'ava'
import { layCables, startRouters, until } from './bgp-world.ts'
import { Engine } from './engine.ts'
import { ensurePackages } from './packages.ts'
import { Stage } from './stage.ts'
import { ping } from './station.ts'

const cli = new URL('../../cli.js', import.meta.url).pathname
let stage: Stage

test.before(async () => {
  ensurePackages(['frr'])
  stage = new Stage(await Engine.open(), 'ebpf', { MIDONET_BGP_ROUTES: '50' })
})
test.after.always(() => stage.close())

/** Commands of one session on standard input, with aliases as on a terminal. */
async function type(...lines: string[]): Promise<string> {
  const run = `MIDONET_RUN_DIR=${stage.dir}/run ${process.execPath} ${cli} cli --aliases`
  return await stage.sh(`${run} <<'END'\n${lines.join('\n')}\nEND`)
}

/** What this takes in a session for `router0`, `host0` and so on to be what they were before. */
const known = ['router list', 'host list', 'router router0 list port', 'bridge list']

async function learned(): Promise<string> {
  const routes = await stage.ask('GET', '/v1/learnedRoute')
  if (!Array.isArray(routes)) return ''
  return routes.map(({ dst, gateway }) => `${dst} via ${gateway}`).join(', ')
}

const status = () => stage.cli('status')
const outside = '198.51.100.0/24'
const [first, second] = [`${outside} via 10.0.1.2`, `${outside} via 10.0.2.2`]

test.serial('the walk-through: a session comes up, and pings pass', async (t) => {
  t.is(await layCables(stage), '')
  const more = { r1: ['bfd', 'bfd profile fast'], r2: ['password hunter2'] }
  t.is(await startRouters(stage, more), '')
  await stage.startAgent()
  const made = await type(
    'router create name edge',
    'bridge create name inside',
    'router router0 add port address 172.16.0.1 net 172.16.0.0/24',
    'bridge bridge0 add port',
    'router router0 port port0 set peer bridge0:port0',
    'bridge bridge0 add port',
    'host list',
    'host host0 add binding port bridge0:port1 interface va',
    'router router0 add port address 10.0.2.1 net 10.0.2.0/30',
    'host host0 add binding port router0:port1 interface up2out',
    'router router0 add port address 10.0.1.1 net 10.0.1.0/30',
    'host host0 add binding port router0:port2 interface gns3out',
    'router router0 set asn 100',
    'router router0 add bgp-peer asn 3 address 10.0.1.2',
    'router router0 add bgp-network net 172.16.0.0/24',
  )
  t.regex(made, /host host0 interface gns3out port router0:port2/)
  const fabric = await until(
    () => stage.sh('ip -n r1 route'),
    (text) => text.includes('172.16.0.0'),
  )
  t.regex(fabric, /172\.16\.0\.0\/24 .*via 10\.0\.1\.1/)
  const session = /edge +100 +10\.0\.1\.2 +3 +Established +\d+ s +1 +1 /
  t.regex(await until(status, (text) => session.test(text)), session)
  t.is(await learned(), first)
  t.regex(await ping(stage, 'o', '172.16.0.2'), / 3 packets received/)
  t.regex(await ping(stage, 'a', '198.51.100.9'), / 3 packets received/)
})

test.serial('a second peer with a password; none is told to another, both are used', async (t) => {
  await type(
    ...known,
    'router router0 add bgp-peer asn 4 address 10.0.2.2 password hunter2 connect-retry 1',
  )
  const [peer] = (await stage.ask('GET', '/v1/bgpPeer?asn=3')) as { id: string }[]
  await type(...known, `router router0 bgp-peer ${peer?.id} set bfd true connect-retry 1`)
  t.is(await until(learned, (text) => text.includes(second)), `${first}, ${second}`)
  t.regex(await until(status, (text) => / up\n/.test(text)), /10\.0\.1\.2 +3 +Establ.* up\n/)
  const told = await stage.sh(
    'for n in 1 2; do ip netns exec r$n vtysh --vty_socket /run/router-r$n -c "show ip bgp"; done',
  )
  t.regex(told, /100 i/)
  t.notRegex(told, /100 [34]/, 'the virtual router is nobody’s way from one to the other')
  const peers = await type(...known, 'router router0 list bgp-peer')
  t.notRegex(peers, /hunter2/)
  t.notRegex(await status(), /hunter2|PROBLEM BGP/)
})

test.serial('an advertised network follows the topology', async (t) => {
  const inFabric = (wanted: boolean) =>
    until(
      () => stage.sh('ip -n r1 route'),
      (text) => text.includes('203.0.113.0/24') === wanted,
    )
  await type(...known, 'router router0 add bgp-network net 203.0.113.0/24')
  t.regex(await inFabric(true), /203\.0\.113\.0\/24/)
  const [net] = (await stage.ask('GET', '/v1/bgpNetwork?prefix=203.0.113.0/24')) as { id: string }[]
  await stage.ask('DELETE', `/v1/bgpNetwork/${net?.id}`)
  t.notRegex(await inFabric(false), /203\.0\.113\.0\/24/)
})

test.serial('from inside, the world sees the address of SNAT', async (t) => {
  const done = await type(
    ...known,
    'router router0 add bgp-network net 203.0.113.0/24',
    'chain create name out',
    'chain create name in',
    'chain chain0 add rule pos 1 flow return-flow type accept',
    'chain chain0 add rule pos 2 src 172.16.0.0/24 type snat target 203.0.113.10:1024-65535',
    'chain chain1 add rule dst 203.0.113.10/32 type rev_snat',
    'router router0 set outfilter chain0 infilter chain1',
  )
  t.notRegex(done, /status/)
  await until(
    () => stage.sh('ip -n r1 route; ip -n r2 route'),
    (text) => text.split('203.0.113.0/24').length === 3,
  )
  t.regex(await ping(stage, 'a', '198.51.100.9'), / 3 packets received/)
  t.regex(await ping(stage, 'o', '172.16.0.2'), / 3 packets received/)
  const seen = stage.in('o', 'timeout 8 tcpdump -nli eth1 -c 1 icmp 2>/dev/null')
  await sleep(1_000)
  await ping(stage, 'a', '198.51.100.9')
  t.regex(await seen, /203\.0\.113\.10 > 198\.51\.100\.9/)
})

/** A connection that carries both ways for so long, while something happens. */
async function whileItRuns(
  t: ExecutionContext,
  seconds: number,
  happens: () => Promise<void>,
): Promise<void> {
  stage.spawn('ip', 'netns', 'exec', 'o', 'iperf3', '-s', '-1')
  await sleep(300)
  const command = `iperf3 -c 198.51.100.9 --bidir -b 5M -t ${seconds} -J`
  const client = stage.in('a', command)
  await sleep(1_000)
  await happens()
  const told = JSON.parse(await client)
  t.is(told.error, undefined)
  // Of the last second, from either side.
  const last = told.intervals.at(-2)
  t.true(last.sum.bytes > 100_000, `${last.sum.bytes} bytes to the outside`)
  t.true(last.sum_bidir_reverse.bytes > 100_000, `${last.sum_bidir_reverse.bytes} bytes back`)
}

test.serial('an uplink goes down, and a connection goes on by the other', async (t) => {
  await whileItRuns(t, 6, async () => {
    const start = performance.now()
    await stage.sh('ip -n r2 link set eth0 down')
    t.is(await until(learned, (text) => text === first), first)
    t.log(`withdrawn after ${Math.round(performance.now() - start)} ms`)
  })
  await stage.sh('ip -n r2 link set eth0 up')
  t.is(await until(learned, (text) => text.includes(second)), `${first}, ${second}`)
})

test.serial('an uplink swallows all, and BFD finds that out within a second', async (t) => {
  await whileItRuns(t, 6, async () => {
    await stage.sh('ip link set tap0 nomaster')
    const start = performance.now()
    t.is(await until(learned, (text) => text === second), second)
    const took = performance.now() - start
    t.log(`withdrawn after ${Math.round(took)} ms`)
    t.true(took < 2_000)
  })
  await stage.sh('ip link set tap0 master br0')
  t.is(await until(learned, (text) => text.includes(first), 30_000), `${first}, ${second}`)
})

test.serial('agents come and go: sessions and connections stay', async (t) => {
  const show = 'ip netns exec r1 vtysh --vty_socket /run/router-r1 -c "show ip bgp neighbors json"'
  const dropped = () => stage.sh(`${show} | grep connectionsDropped`)
  const before = await dropped()
  await whileItRuns(t, 8, async () => {
    await stage.stopAgent('KILL')
    await sleep(1_000)
    await stage.startAgent()
    t.is(await until(learned, (text) => text === `${first}, ${second}`), `${first}, ${second}`)
  })
  t.is(await dropped(), before)
  t.regex(await ping(stage, 'o', '172.16.0.2'), / 3 packets received/)
})

test.serial('a daemon that dies is started again, and told', async (t) => {
  await stage.sh(`kill -KILL $(cat ${stage.dir}/run/bgp/*/bgpd.pid)`)
  t.regex(await until(status, (text) => /bgpd had ended/.test(text)), /bgpd had ended/)
  t.is(await until(learned, (text) => text === `${first}, ${second}`), `${first}, ${second}`)
})

/** Has r1 learn so many routes of a kind from its kernel, or forget them. */
function routesOfR1(verb: 'add' | 'del', count: number): Promise<string> {
  const one = `ip -n r1 route ${verb} blackhole 100.64.0.$n/32 proto static`
  return stage.sh(`for n in $(seq ${count}); do ${one}; done`)
}

async function destinations(): Promise<number> {
  const routes = (await stage.ask('GET', '/v1/learnedRoute?limit=1000')) as { dst: string }[]
  return new Set(routes.map(({ dst }) => dst)).size
}

test.serial('more routes than may be are left out; a flood of them ends sessions', async (t) => {
  const count = async () => String(await destinations())
  t.is(await routesOfR1('add', 80), '')
  t.is(await until(count, (text) => text === '50'), '50')
  const leftOut = /router edge: 31 learned routes are left out: .* 50 \(MIDONET_BGP_ROUTES\)/
  t.regex(await until(status, (text) => leftOut.test(text)), leftOut)
  t.is(await routesOfR1('del', 80), '')
  t.is(await until(learned, (text) => text === `${first}, ${second}`), `${first}, ${second}`)
  t.notRegex(await status(), /left out/)
  t.is(await routesOfR1('add', 250), '')
  // The other router tells them, too.
  t.is(await until(learned, (text) => text === ''), '')
  const ended = /10\.0\.1\.2 +3 +(Idle|Active|Connect)/
  t.regex(await until(status, (text) => ended.test(text)), ended)
  t.is(await routesOfR1('del', 250), '')
  // After a minute it is tried again.
  if (process.env.MIDONET_LONG !== '1') return
  t.timeout(120_000)
  const both = `${first}, ${second}`
  t.is(await until(learned, (text) => text === both, 90_000), both)
})

const left = () =>
  stage.sh(`ls /run/netns | grep midonet; ip link | grep " mb"; ls ${stage.dir}/run/bgp`)

async function deletePeers(t: ExecutionContext): Promise<void> {
  const peers = (await stage.ask('GET', '/v1/bgpPeer')) as { id: string }[]
  for (const { id } of peers) await stage.ask('DELETE', `/v1/bgpPeer/${id}`)
  t.is(await until(left, (text) => text === ''), '')
}

test.serial('without peers there is nothing, and all is removed', async (t) => {
  await deletePeers(t)
  t.is(await stage.sh('pgrep -f "[r]un/bgp"'), ' (status 1)')
  t.is(await learned(), '')
})

test.serial('without FRR it is said what to install, and all else works', async (t) => {
  t.is(await stage.sh('mount -t tmpfs none /usr/lib/frr'), '')
  const peer = { id: 'p', router: await routerId(), asn: 3, address: '10.0.1.2', connectRetry: 1 }
  await stage.put('bgpPeer', peer)
  const missing = /BGP needs FRR, which is not installed; install it: apt-get install frr/
  t.regex(await until(status, (text) => missing.test(text)), missing)
  t.regex(await ping(stage, 'a', '10.0.1.1'), / 3 packets received/)
  // Installed, but frr's user cannot get to its files.
  t.is(await stage.sh(`umount /usr/lib/frr; chmod 700 ${stage.dir}`), '')
  await stage.put('bgpPeer', { ...peer, bfd: true })
  const closed = new RegExp(`FRR's user frr cannot enter ${stage.dir}; .*chmod o\\+x`)
  t.regex(await until(status, (text) => closed.test(text)), closed)
  t.is(await stage.sh(`chmod 711 ${stage.dir}`), '')
  await stage.put('bgpPeer', peer)
  t.is(await until(learned, (text) => text === first), first)
  t.notRegex(await status(), /PROBLEM BGP/)
  await deletePeers(t)
})

async function routerId(): Promise<string> {
  const [router] = (await stage.ask('GET', '/v1/router?name=edge')) as { id: string }[]
  return router?.id ?? ''
}
