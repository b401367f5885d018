/**
 * IPv6 with real sockets: routers, a stateful firewall, NAT66.
 *
 *   a ── bridge red ─┐
 *                    ├─ router r ── out     (knows no way back to fd00:1::/64 but by r's address)
 *   b ── bridge blue ┘
 */
import type { TestFn } from 'ava'
import { type Machine, Stage } from './stage.ts'
import { furnishWorld, type WorldSpec } from './stage-world.ts'
import { ask, serve } from './station.ts'

const way = { first: '2001:db8::1', last: '2001:db8::1' }

const world: WorldSpec = {
  bridges: {
    red: { router: 'r', address: '10.1.0.1/24', address6: 'fd00:1::1/64' },
    blue: { router: 'r', address: '10.2.0.1/24', address6: 'fd00:2::1/64', mtu: 1400 },
  },
  stations: {
    a: {
      ...{ bridge: 'red', address: '10.1.0.2/24', gateway: '10.1.0.1' },
      ...{ address6: 'fd00:1::2/64', gateway6: 'fd00:1::1' },
    },
    b: {
      ...{ bridge: 'blue', address: '10.2.0.2/24', gateway: '10.2.0.1', mtu: 1400 },
      ...{ address6: 'fd00:2::2/64', gateway6: 'fd00:2::1', outbound: 'to-b' },
    },
    out: {
      ...{ router: 'r', routerAddress: '20.0.0.1/24', address: '20.0.0.2/24' },
      ...{ routerAddress6: '2001:db8::1/64', address6: '2001:db8::2/64' },
      ...{ inbound: 'up-in', outbound: 'up-out' },
    },
  },
  routes: [],
  chains: {
    'to-b': [
      { condition: { flow: { is: 'return' } }, action: { kind: 'accept' } },
      {
        condition: { protocol: { is: 6 }, dstPorts: { is: { first: 81, last: 81 } } },
        action: { kind: 'drop' },
      },
    ],
    'up-in': [
      { action: { kind: 'reverseSnat', verdict: 'accept' } },
      {
        condition: {
          ...{ protocol: { is: 6 }, dst: { is: '2001:db8::1/128' } },
          dstPorts: { is: { first: 8080, last: 8080 } },
        },
        action: {
          kind: 'dnat',
          targets: [{ first: 'fd00:1::2', last: 'fd00:1::2', ports: { first: 80, last: 80 } }],
          verdict: 'accept',
        },
      },
    ],
    'up-out': [
      { action: { kind: 'reverseDnat', verdict: 'accept' } },
      {
        condition: { src: { is: 'fd00::/8' } },
        action: {
          kind: 'snat',
          targets: [{ ...way, ports: { first: 20_000, last: 29_999 } }],
          verdict: 'accept',
        },
      },
    ],
  },
}

/** Declares the tests. */
export function testSix(
  test: TestFn,
  { datapath, open }: { readonly datapath: string; readonly open: () => Promise<Machine> },
): void {
  let stage: Stage
  test.before(async (t) => {
    t.timeout(300_000)
    stage = new Stage(await open(), datapath)
    await furnishWorld(stage, world)
    for (const station of ['a', 'b', 'out']) await serve(stage, station, 80)
    await serve(stage, 'b', 81)
  })
  test.after.always(async () => {
    await stage?.close()
  })

  const ping6 = (station: string, to: string, bytes = 56) =>
    stage.in(station, `busybox ping -6 -c 3 -w 15 -s ${bytes} ${to}`)

  test.serial('IPv6 goes by the router, over TCP, UDP and ping', async (t) => {
    t.timeout(120_000)
    for (const over of ['tcp', 'udp'] as const)
      t.is(await ask(stage, 'a', { over, to: '[fd00:2::2]:80' }), 'from fd00:1::2 got 5\n')
    t.regex(await ping6('b', 'fd00:1::2'), /3 packets received/)
  })

  test.serial('a rule of a firewall holds for IPv6', async (t) => {
    t.timeout(120_000)
    t.is(await ask(stage, 'a', { over: 'tcp', to: '[fd00:2::2]:81' }), 'silence\n')
  })

  test.serial('a router says what is too big, and TCP follows', async (t) => {
    t.timeout(120_000)
    const bytes = 300_000
    const answer = await ask(stage, 'a', { over: 'tcp', to: '[fd00:2::2]:80', bytes })
    t.is(answer, `from fd00:1::2 got ${bytes}\n`)
    await ask(stage, 'a', { over: 'udp', to: '[fd00:2::2]:80', bytes: 1420 })
    t.regex(await stage.sh('ip -n a -6 route get fd00:2::2'), /mtu 1400/)
  })

  test.serial('NAT66: the outside sees the router, and fragments come through', async (t) => {
    t.timeout(120_000)
    for (const over of ['tcp', 'udp'] as const)
      t.is(
        await ask(stage, 'a', { over, to: '[2001:db8::2]:80' }),
        'from 2001:db8::1 got 5\n',
        over,
      )
    t.regex(await ping6('a', '2001:db8::2'), /3 packets received/)
    const long = await ask(stage, 'a', { over: 'udp', to: '[2001:db8::2]:80', bytes: 5000 })
    t.is(long, 'from 2001:db8::1 got 5000\n')
  })

  test.serial('a port of the router is a station that sees its client', async (t) => {
    t.timeout(120_000)
    const answer = await ask(stage, 'out', { over: 'tcp', to: '[2001:db8::1]:8080' })
    t.is(answer, 'from 2001:db8::2 got 5\n')
  })
}
