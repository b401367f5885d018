/**
 * Two gateways of one router on hosts of their own, each with a real router outside, and a machine
 * on a third host that uses what both have learned:
 *
 *   a (host 3) ─ inside ─ edge (AS 100) ─┬─ up1 (host 1) ═ r1 (AS 3) ┬ lan ─ o
 *                                        └─ up2 (host 2) ═ r2 (AS 4) ┘ answers by r1 only
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import test, { type ExecutionContext } from 'ava'
import { startRouter, until } from './bgp-world.ts'
import { eventually, Hosts, hostName } from './hosts.ts'
import { ensurePackages } from './packages.ts'
import { guest } from './stage.ts'

const onlyLong = process.env.MIDONET_LONG === '1' ? test.serial : test.serial.skip
const talkChild = new URL('./talk-child.js', import.meta.url).pathname
const [world, outside, publicNet] = ['198.51.100.0/24', '198.51.100.9', '203.0.113.0/24']
const connections = 10
/** What is no host's: namespaces that are made in a host's own are not seen by others. */
const ground = {
  async sh(script: string): Promise<string> {
    const { code, stdout, stderr } = await guest.run('sh', '-c', script)
    return code === 0 ? stdout : `${stdout}${stderr} (status ${code})`
  },
}
let hosts: Hosts
let echo: ChildProcess | undefined

const gateways = [
  { name: 'r1', port: 'up1', host: 0, asn: 3, net: '10.0.1' },
  { name: 'r2', port: 'up2', host: 1, asn: 4, net: '10.0.2' },
] as const
const [first, second] = [`${world} via 10.0.1.2`, `${world} via 10.0.2.2`]
const both = `${first}, ${second}`

test.before(async (t) => {
  if (process.env.MIDONET_LONG !== '1') return
  t.timeout(180_000)
  ensurePackages(['frr'])
  hosts = await Hosts.open()
  for (const { dir } of hosts.stages) await ground.sh(`chmod 711 ${dir}`)
  hosts.addStation('a', 2, ['addr add 172.16.0.2/24 dev eth0', 'route add default via 172.16.0.1'])
  t.is(await layCables(), '')
  for (const [index, { name, asn, net }] of gateways.entries()) {
    const more = ['bfd', 'bfd profile fast']
    const settings = { asn, routerId: `198.51.100.${index + 1}`, networks: [world] }
    const peers = [{ address: `${net}.1`, asn: 100, more }]
    t.is(await startRouter(ground, `hs-${name}`, { ...settings, peers }), '')
  }
  await hosts.put(...topology())
  await hosts.bind('a', 2)
  for (const { port, host } of gateways)
    await hosts.put(['binding', { id: port, host: hosts.ids[host] ?? '', interface: port }])
  const words = ['netns', 'exec', 'hs-o', process.execPath, talkChild, 'echo', '7000', outside]
  echo = spawn('ip', words, { stdio: ['ignore', 'pipe', 'inherit'] })
  if (echo.stdout !== null) await once(echo.stdout, 'data')
})

test.after.always(async (t) => {
  if (hosts === undefined) return
  echo?.kill()
  await ground.sh('kill $(cat /run/router-hs-r*/*.pid); rm -rf /run/router-hs-r*')
  for (const stage of hosts.stages) {
    await stage.stopAgent('TERM')
    const said = await stage.clean()
    const left = await stage.sh(
      `ls ${stage.dir}/run/bgp 2>/dev/null; ip link 2>/dev/null | grep " mb"`,
    )
    if (said !== '' || !/^( \(status 1\))?$/.test(left)) t.fail(`${said} ${left}`)
  }
  await hosts.close()
})

/** Links of the gateways to their routers, and the network on which those meet. */
function layCables(): Promise<string> {
  return ground.sh(`set -e
for n in r1 r2 lan o; do ip netns add hs-$n; ip -n hs-$n link set lo up; done
ip -n hs-lan link add br0 type bridge
ip -n hs-lan link set br0 up
${gateways
  .map(
    ({ name, port, host, net }) => `
ip link add ${port} netns ${hostName(host)} type veth peer name eth0 netns hs-${name}
ip -n ${hostName(host)} link set ${port} up
ip -n hs-${name} addr add ${net}.2/30 dev eth0
ip -n hs-${name} link set eth0 up`,
  )
  .join('')}
for n in r1:198.51.100.1 r2:198.51.100.2 o:${outside}; do
  ip -n hs-lan link add v\${n%%:*} type veth peer name eth1 netns hs-\${n%%:*}
  ip -n hs-lan link set v\${n%%:*} master br0 up
  ip -n hs-\${n%%:*} addr add \${n#*:}/24 dev eth1
  ip -n hs-\${n%%:*} link set eth1 up
done
ip -n hs-o route add default via 198.51.100.1
`)
}

/** What comes from inside is translated; answers are known at both gateways. */
function topology() {
  const target = {
    first: '203.0.113.10',
    last: '203.0.113.10',
    ports: { first: 1024, last: 65_535 },
  }
  const router = { kind: 'router', router: 'edge', adminUp: true } as const
  const condition = { outPortGroup: { is: 'ups' } }
  const back = { dst: { is: '203.0.113.10/32' } }
  const snat = { kind: 'snat', targets: [target], verdict: 'accept' }
  return [
    ['portGroup', { id: 'ups', stateful: true }],
    ['chain', { id: 'out' }],
    ['chain', { id: 'in' }],
    ['rule', { id: 'snat', chain: 'out', position: 1, condition, action: snat }],
    [
      'rule',
      {
        ...{ id: 'back', chain: 'in', position: 1, condition: back },
        action: { kind: 'reverseSnat', verdict: 'accept' },
      },
    ],
    ['router', { id: 'edge', adminUp: true, asn: 100, inboundChain: 'in', outboundChain: 'out' }],
    ['bridge', { id: 'inside', adminUp: true, mtu: 1450 }],
    ['port', { id: 'in-r', kind: 'bridge', bridge: 'inside', adminUp: true, peer: 'r-in' }],
    [
      'port',
      {
        ...router,
        id: 'r-in',
        peer: 'in-r',
        mac: '02:00:00:00:e1:01',
        addresses: ['172.16.0.1/24'],
      },
    ],
    ['port', { id: 'a', kind: 'bridge', bridge: 'inside', adminUp: true }],
    ...gateways.flatMap(({ port, asn, net }) => {
      const mac = `02:00:00:00:e1:1${asn}`
      const own = { ...router, id: port, mac, addresses: [`${net}.1/30`], portGroups: ['ups'] }
      const peer = { id: `peer-${port}`, router: 'edge', asn, address: `${net}.2`, bfd: true }
      return [
        ['port', own],
        ['bgpPeer', { ...peer, connectRetry: 1 }],
      ] as const
    }),
    ['bgpNetwork', { id: 'public', router: 'edge', prefix: publicNet }],
  ] as const
}

/** The routes that the agent of a host knows of. */
async function learned(host = 2): Promise<string> {
  const routes = await hosts.stage(host).ask('GET', '/v1/learnedRoute')
  if (!Array.isArray(routes)) return ''
  return routes
    .map(({ dst, gateway }) => `${dst} via ${gateway}`)
    .sort()
    .join(', ')
}

/** Waits until a host knows these routes; says how long that took. */
async function waitLearned(
  t: ExecutionContext,
  routes: string,
  withinMs = 15_000,
): Promise<number> {
  const start = performance.now()
  t.is(await until(learned, (text) => text === routes, withinMs), routes)
  return Math.round(performance.now() - start)
}

/** Waits until a router outside has a route to what is advertised, or none; says how long it took. */
async function waitTold(t: ExecutionContext, name: string, isThere: boolean, withinMs = 15_000) {
  const start = performance.now()
  const look = () => ground.sh(`ip -n hs-${name} route`)
  const seen = await until(look, (text) => text.includes(publicNet) === isThere, withinMs)
  t.is(seen.includes(publicNet), isThere, seen)
  return Math.round(performance.now() - start)
}

/** Connections of `a` to the outside for so long: none ends, nothing is lost, all are translated. */
async function talkAll(t: ExecutionContext, seconds: number): Promise<void> {
  const one = `${process.execPath} ${talkChild} talk ${outside} 7000 ${seconds}`
  const said = await hosts.in('a', `for n in $(seq ${connections}); do ${one} & done; wait`)
  const lines = said.trim().split('\n')
  t.is(lines.length, connections, said)
  const longest: number[] = []
  for (const line of lines) {
    const found = /^from 203\.0\.113\.10 sent (\d+) got (\d+) longest (\d+) *$/.exec(line)
    t.truthy(found, line)
    t.is(found?.[1], found?.[2], line)
    longest.push(Number(found?.[3]))
  }
  t.log(`the longest silence of each, in ms: ${longest.join(' ')}`)
}

/** Packets that a router outside was given by the virtual one. */
async function given(name: string): Promise<number> {
  const path = '/sys/class/net/eth0/statistics/rx_packets'
  return Number(await ground.sh(`ip netns exec hs-${name} cat ${path}`))
}

onlyLong('a third host uses what two gateways have learned, and answers come by one', async (t) => {
  t.timeout(120_000)
  await waitLearned(t, both, 30_000)
  for (const { name } of gateways) await waitTold(t, name, true)
  t.true(await eventually(async () => / 1 packets received/.test(await ping('a', outside))))
  const before = await Promise.all(gateways.map(({ name }) => given(name)))
  await talkAll(t, 5)
  for (const [index, { name }] of gateways.entries()) {
    const packets = (await given(name)) - (before[index] ?? 0)
    t.log(`${packets} packets by ${name}`)
    t.true(packets > 200, `${packets} packets by ${name}`)
  }
})

function ping(station: string, address: string): Promise<string> {
  return hosts.in(station, `busybox ping -c 1 -W 1 ${address}`)
}

/** Kills the daemons of a host; the agent is dead, so nobody starts them again. */
async function killDaemons(host: number): Promise<void> {
  const { dir } = hosts.stage(host)
  await hosts.stage(host).sh(`kill -KILL $(cat ${dir}/run/bgp/*/*.pid)`)
}

onlyLong('a gateway dies, agent and daemons: its routes leave, connections stay', async (t) => {
  t.timeout(180_000)
  const talks = talkAll(t, 20)
  await sleep(2_000)
  await hosts.stage(1).stopAgent('KILL')
  await killDaemons(1)
  t.log(`the router outside knew after ${await waitTold(t, 'r2', false)} ms`)
  t.log(`the third host knew after ${await waitLearned(t, first, 20_000)} ms`)
  await talks
  await hosts.stage(1).startAgent()
  t.log(`all is back after ${await waitLearned(t, both, 30_000)} ms`)
  await waitTold(t, 'r2', true)
})

onlyLong('an agent dies alone: outside nothing changes, and the next one takes over', async (t) => {
  t.timeout(120_000)
  const show = 'vtysh --vty_socket /run/router-hs-r2 -c "show ip bgp neighbors json"'
  const dropped = () => ground.sh(`ip netns exec hs-r2 ${show} | grep connectionsDropped`)
  const before = await dropped()
  const talks = talkAll(t, 10)
  await sleep(1_000)
  await hosts.stage(1).stopAgent('KILL')
  await sleep(1_000)
  await hosts.stage(1).startAgent()
  await talks
  await waitLearned(t, both)
  t.is(await dropped(), before)
})

onlyLong('a gateway loses the store and all tunnels: it draws no traffic any more', async (t) => {
  t.timeout(240_000)
  const talks = talkAll(t, 45)
  await sleep(2_000)
  await ground.sh(`ip -n hs-net link set ${hostName(1)} down`)
  const [used, told] = await Promise.all([
    waitLearned(t, first, 40_000),
    waitTold(t, 'r2', false, 40_000),
  ])
  t.log(`its routes were used for ${used} ms, its networks were told for ${told} ms`)
  t.true(told < 30_000)
  t.regex(await hosts.stage(1).cli('status'), /BGP networks are withdrawn/)
  await talks
  await ground.sh(`ip -n hs-net link set ${hostName(1)} up`)
  t.log(`told again after ${await waitTold(t, 'r2', true, 30_000)} ms`)
  await waitLearned(t, both, 30_000)
  await talkAll(t, 2)
})
