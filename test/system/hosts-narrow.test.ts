/**
 * Two hosts with two routers between them, whose link is narrower than the hosts' own:
 *
 *   host 1 ═ 1500 ═ hs-net ═ 1380 ═ hs-mid ═ 1500 ═ host 2
 *
 * Over IPv4 tunnel packets may be cut on their way, over IPv6 their senders hear how large they may
 * be: none is lost for good.
 */
import { spawnSync } from 'node:child_process'
import test, { type ExecutionContext } from 'ava'
import { eventually, Hosts, HostsError } from './hosts.ts'
import { address6Of, addressOf, furnishHosts, type Station } from './hosts-world.ts'
import { ensurePackages } from './packages.ts'
import { slowness } from './stage.ts'

const mtu = 1450
const stationChild = new URL('./station-child.js', import.meta.url).pathname
const a: Station = { name: 'a', host: 0, bridge: 'red', n: 2 }
const b: Station = { name: 'b', host: 1, bridge: 'red', n: 3 }
const e: Station = { name: 'e', host: 1, bridge: 'blue', n: 6 }
let hosts: Hosts

test.before(async (t) => {
  t.timeout(120_000 * slowness)
  ensurePackages()
  hosts = await Hosts.open({ count: 2 })
  await furnishHosts(hosts, mtu, [a, b, e])
  narrow()
})

test.after.always(async () => {
  await hosts?.close()
})

/** Puts the routers between the hosts; each answers ARP for what is behind it. */
function narrow(): void {
  const script = `ip netns add hs-mid
ip -n hs-net link set hs-2 nomaster netns hs-mid
ip link add mid0 netns hs-net mtu 1380 type veth peer name mid1 netns hs-mid mtu 1380
for in in hs-net hs-mid; do
  ip netns exec $in sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.proxy_arp=1
  ip -n $in link set lo up
done
ip -n hs-net link set mid0 up
ip -n hs-mid link set mid1 up
ip -n hs-mid link set hs-2 up
ip -n hs-net addr add 192.168.77.201/32 dev lo
ip -n hs-mid addr add 192.168.77.202/32 dev lo
ip -n hs-net route add 192.168.77.0/24 dev br0
ip -n hs-net route add 192.168.77.2 dev mid0
ip -n hs-mid route add 192.168.77.0/24 dev mid1
ip -n hs-mid route add 192.168.77.2 dev hs-2
ip neigh flush dev hs-store
for at in hs-1 hs-2; do ip -n $at neigh flush all; done`
  sh(script)
}

function sh(script: string): void {
  const { status, stderr } = spawnSync('sh', ['-ec', script], { encoding: 'utf8' })
  if (status !== 0) throw new HostsError(stderr)
}

async function checkLargest(t: ExecutionContext): Promise<void> {
  t.timeout(90_000 * slowness)
  for (const to of [b, e]) {
    const script = `busybox ping -c 1 -W 1 -s ${mtu - 28} ${addressOf(to)}`
    const isReached = async () => / 1 packets received/.test(await hosts.in('a', script))
    t.true(await eventually(isReached, 30_000), `to ${to.name}`)
  }
}

type AddressOf = (station: Station) => string

async function checkTcp(t: ExecutionContext, address: AddressOf = addressOf): Promise<void> {
  t.timeout(150_000 * slowness)
  for (const [from, to] of [
    [a, b],
    [b, a],
    [a, e],
    [e, a],
  ] as const) {
    const script = `${process.execPath} ${stationChild} tcp ${address(to)} 80 1000000`
    const isSent = async () =>
      (await hosts.in(from.name, script)) === `from ${address(from)} got 1000000\n`
    t.true(await eventually(isSent, 30_000), `${from.name} to ${to.name}`)
  }
}

test.serial('the largest packets arrive, on the bridge and by the router', checkLargest)

test.serial('TCP both ways loses nothing for good', async (t) => {
  for (const { name } of [a, b, e])
    await hosts.serve(name, process.execPath, stationChild, 'serve', '80')
  await checkTcp(t)
})

test.serial('they came in pieces', async (t) => {
  const text = await hosts.stage(1).sh('cat /proc/net/snmp')
  const [names = '', values = ''] = text.split('\n').filter((line) => line.startsWith('Ip:'))
  const at = names.split(' ').indexOf('ReasmOKs')
  t.true(Number(values.split(' ')[at]) > 0, text)
})

/** The hosts' tunnels go over IPv6 from now on: of several zones, the first by id counts. */
async function overIpv6(): Promise<void> {
  sh(`for in in hs-net hs-mid; do ip netns exec $in sysctl -qw net.ipv6.conf.all.forwarding=1; done
ip -n hs-1 addr add fd77:1::1/64 dev under0 nodad
ip -n hs-net addr add fd77:1::ff/64 dev br0 nodad
ip -n hs-net addr add fd77:9::1/64 dev mid0 nodad
ip -n hs-mid addr add fd77:9::2/64 dev mid1 nodad
ip -n hs-mid addr add fd77:2::ff/64 dev hs-2 nodad
ip -n hs-2 addr add fd77:2::1/64 dev under0 nodad
ip -n hs-1 route add fd77:2::/64 via fd77:1::ff
ip -n hs-net route add fd77:2::/64 via fd77:9::2
ip -n hs-mid route add fd77:1::/64 via fd77:9::1
ip -n hs-2 route add fd77:1::/64 via fd77:2::ff`)
  const zone = 'a-six'
  await hosts.put(
    ['tunnelZone', { id: zone, name: zone, encapsulation: 'vxlan' }],
    ...hosts.ids.map((host, index) => {
      const value = { id: `${zone}_${host}`, zone, host, address: `fd77:${index + 1}::1` }
      return ['zoneMember', value] as const
    }),
  )
}

test.serial('over IPv6, too, the largest packets arrive', async (t) => {
  await overIpv6()
  await checkLargest(t)
  const route = await hosts.stage(0).sh('ip -6 route get fd77:2::1')
  t.regex(route, /mtu 1380/, 'what host 1 has heard of the way')
})

test.serial('over IPv6 TCP both ways loses nothing for good', (t) => checkTcp(t))
test.serial('nor does TCP over IPv6 within', (t) => checkTcp(t, address6Of))
