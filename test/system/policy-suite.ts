/**
 * Chains with real sockets: a stateful firewall and NAT.
 *
 *   a ── bridge red ─┐
 *                    ├─ router r ── out ══ far     (Linux routes between out and far, MTU 1300)
 *   b ── bridge blue ┘
 */
import type { TestFn } from 'ava'
import { type Machine, Stage } from './stage.ts'
import { furnishWorld, type WorldSpec } from './stage-world.ts'
import { ask, ping, serve, traceroute } from './station.ts'

const ipv4 = { ethType: { is: 0x0800 } }
const ports = (first: number, last = first) => ({ is: { first, last } })

const world: WorldSpec = {
  bridges: {
    red: { router: 'r', address: '10.1.0.1/24' },
    blue: { router: 'r', address: '10.2.0.1/24' },
  },
  stations: {
    a: { bridge: 'red', address: '10.1.0.2/24', gateway: '10.1.0.1' },
    b: {
      ...{ bridge: 'blue', address: '10.2.0.2/24', gateway: '10.2.0.1' },
      ...{ inbound: 'from-b', outbound: 'to-b' },
    },
    out: {
      ...{ router: 'r', routerAddress: '20.0.0.1/24', address: '20.0.0.2/24' },
      ...{ inbound: 'up-in', outbound: 'up-out' },
    },
  },
  routes: [{ router: 'r', dst: '0.0.0.0/0', station: 'out', gateway: '20.0.0.2' }],
  chains: {
    'from-b': [{ condition: { flow: { is: 'forward' } }, action: { kind: 'accept' } }],
    'to-b': [
      { condition: { flow: { is: 'return' } }, action: { kind: 'accept' } },
      {
        condition: { protocol: { is: 6 }, dstPorts: ports(80) },
        action: { kind: 'accept' },
      },
      { condition: { src: { is: '20.0.0.0/24' } }, action: { kind: 'accept' } },
      { condition: ipv4, action: { kind: 'drop' } },
    ],
    'up-in': [
      { action: { kind: 'reverseSnat', verdict: 'accept' } },
      {
        condition: { dst: { is: '203.0.113.7/32' } },
        action: { kind: 'staticDnat', address: '10.2.0.2', verdict: 'accept' },
      },
      {
        condition: {
          ...{ protocol: { is: 6 }, dst: { is: '20.0.0.1/32' } },
          dstPorts: ports(8080),
        },
        action: {
          kind: 'dnat',
          targets: [{ first: '10.1.0.2', last: '10.1.0.2', ports: { first: 80, last: 80 } }],
          verdict: 'accept',
        },
      },
    ],
    'up-out': [
      { action: { kind: 'reverseDnat', verdict: 'accept' } },
      {
        condition: { src: { is: '10.2.0.2/32' } },
        action: { kind: 'staticSnat', address: '203.0.113.7', verdict: 'accept' },
      },
      {
        condition: { src: { is: '10.0.0.0/8' } },
        action: {
          kind: 'snat',
          targets: [
            { first: '20.0.0.1', last: '20.0.0.1', ports: { first: 20_000, last: 29_999 } },
          ],
          verdict: 'accept',
        },
      },
    ],
  },
}

/** Beyond the datapath: another network, behind a narrower link. */
const outside = `set -e
ip netns add far
ip link add eth1 netns out mtu 1300 type veth peer name eth0 netns far mtu 1300
ip -n out addr add 30.0.0.1/24 dev eth1
ip -n out link set eth1 up
ip -n out route add 203.0.113.7 via 20.0.0.1
ip netns exec out sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward'
ip -n far addr add 30.0.0.2/24 dev eth0
ip -n far link set eth0 up
ip -n far link set lo up
ip -n far route add default via 30.0.0.1`

/** Declares the tests. */
export function testPolicy(
  test: TestFn,
  { datapath, open }: { readonly datapath: string; readonly open: () => Promise<Machine> },
): void {
  let stage: Stage
  test.before(async (t) => {
    t.timeout(300_000)
    stage = new Stage(await open(), datapath)
    await furnishWorld(stage, world)
    t.is(await stage.sh(outside), '')
    for (const station of ['a', 'b', 'far']) await serve(stage, station, 80)
    await serve(stage, 'b', 81)
  })
  test.after.always(async () => {
    await stage?.close()
  })

  test.serial(
    'stateful firewall: one port is open, and what b itself asks is answered',
    async (t) => {
      t.timeout(120_000)
      t.is(await ask(stage, 'a', { over: 'tcp', to: '10.2.0.2:80' }), 'from 10.1.0.2 got 5\n')
      t.is(await ask(stage, 'a', { over: 'tcp', to: '10.2.0.2:81' }), 'silence\n')
      t.is(await ask(stage, 'a', { over: 'udp', to: '10.2.0.2:80' }), 'silence\n')
      t.is(await ask(stage, 'b', { over: 'udp', to: '10.1.0.2:80' }), 'from 10.2.0.2 got 5\n')
      t.regex(await ping(stage, 'b', '10.1.0.2'), /3 packets received/)
      t.regex(await ping(stage, 'a', '10.2.0.2'), / 0 packets received/)
    },
  )

  test.serial('SNAT: the outside sees the router, over TCP, UDP and ping', async (t) => {
    t.timeout(120_000)
    for (const over of ['tcp', 'udp'] as const)
      t.is(await ask(stage, 'a', { over, to: '30.0.0.2:80' }), 'from 20.0.0.1 got 5\n')
    t.regex(await ping(stage, 'a', '30.0.0.2'), /3 packets received/)
  })

  test.serial('DNAT: a port of the router is a station that sees its client', async (t) => {
    t.timeout(120_000)
    t.is(await ask(stage, 'far', { over: 'tcp', to: '20.0.0.1:8080' }), 'from 30.0.0.2 got 5\n')
    const refused = await ask(stage, 'far', { over: 'tcp', to: '20.0.0.1:8081' })
    t.notRegex(refused, /got/)
  })

  test.serial('a floating address is b, both ways, and behind its firewall', async (t) => {
    t.timeout(120_000)
    t.is(await ask(stage, 'b', { over: 'tcp', to: '30.0.0.2:80' }), 'from 203.0.113.7 got 5\n')
    t.is(await ask(stage, 'far', { over: 'tcp', to: '203.0.113.7:80' }), 'from 30.0.0.2 got 5\n')
    t.is(await ask(stage, 'far', { over: 'tcp', to: '203.0.113.7:81' }), 'silence\n')
  })

  test.serial('ICMP errors come back through NAT: traceroute', async (t) => {
    t.timeout(120_000)
    const hops = await traceroute(stage, 'a', '30.0.0.2')
    t.regex(hops, /1 +10\.1\.0\.1 [\s\S]* 2 +20\.0\.0\.2 [\s\S]* 3 +30\.0\.0\.2 /)
  })

  test.serial('ICMP errors come back through NAT: path MTU', async (t) => {
    t.timeout(120_000)
    const bytes = 300_000
    const answer = await ask(stage, 'a', { over: 'udp', to: '30.0.0.2:80', bytes: 1400 })
    t.is(answer, 'silence\n', 'the first is too big, and says so')
    t.regex(await stage.sh('ip -n a route get 30.0.0.2'), /mtu 1300/)
    t.is(
      await ask(stage, 'a', { over: 'tcp', to: '30.0.0.2:80', bytes }),
      `from 20.0.0.1 got ${bytes}\n`,
    )
  })

  test.serial('fragments pass a router and a floating address', async (t) => {
    t.timeout(120_000)
    const answer = await ask(stage, 'b', { over: 'udp', to: '10.1.0.2:80', bytes: 4000 })
    t.is(answer, 'from 10.2.0.2 got 4000\n')
    t.regex(await ping(stage, 'out', '203.0.113.7', 4000), /3 packets received/)
  })
}
