/**
 * What every datapath must do. An implementation takes part by a `World`: the datapath, interfaces
 * to it, and a way to put frames in and see those that come out.
 */
import type { ExecutionContext, TestFn } from 'ava'
import type { FlowMatch } from '../../datapath/datapath.ts'
import type { Action } from '../../packet/action.ts'
import { createKey } from '../../packet/flow-key.ts'
import { captures, fromHex } from '../packet/captures.ts'
import { change, exact, keyOf, Net, some, type World } from './net.ts'
import { testActions } from './suite-actions.ts'
import { testMeters } from './suite-meter.ts'
import { testAdoption, testLimits, testPorts } from './suite-port.ts'
import { testHandling, testUpcalls } from './suite-upcall.ts'

const [a, b, c] = [0, 1, 2]
const hello = fromHex(captures.udpHello)
const syn = fromHex(captures.tcpSyn)

/** Declares the tests. Each gets the world as `open` makes or restores it: no ports, no flows. */
export function testDatapath(test: TestFn, open: () => World): void {
  testMatching(test, open)
  testReplacing(test, open)
  testMany(test, open)
  testActions(test, open)
  testMeters(test, open)
  testUpcalls(test, open)
  testHandling(test, open)
  testPorts(test, open)
  testLimits(test, open)
  testAdoption(test, open)
}

function testMatching(test: TestFn, open: () => World): void {
  test.serial('a packet no flow matches is handed over; executed, it goes on', (t) => {
    const net = new Net(open())
    net.send(a, hello)
    const [upcall] = net.receive()
    t.is(upcall?.reason, 'miss')
    t.is(upcall?.packet, captures.udpHello)
    t.deepEqual(upcall?.key, keyOf(hello, net.port(a)))
    t.deepEqual(net.take(), [])
    net.world.datapath.execute(hello, undefined, net.port(a), net.to(b))
    t.deepEqual(net.take(), [[b, captures.udpHello]])
  })

  test.serial('an installed flow forwards without the agent, and counts', (t) => {
    const net = new Net(open())
    const id = net.install(exact(hello, net.port(a)), net.to(b))
    t.deepEqual(net.stats(id), [0, 0])
    t.is(net.world.datapath.stats(id)?.idleMs, Number.POSITIVE_INFINITY)
    for (let count = 1; count <= 3; count++) {
      net.send(a, hello)
      t.deepEqual(net.take(), [[b, captures.udpHello]])
      t.deepEqual(net.stats(id, count), [count, count * hello.length])
    }
    t.deepEqual(net.receive(), [])
    const idleMs = net.world.datapath.stats(id)?.idleMs ?? -1
    t.true(idleMs >= 0 && idleMs < 10_000, `idle for ${idleMs} ms`)
  })

  test.serial('a flow matches by the bits of its mask and by no others', (t) => {
    const net = new Net(open())
    const match = some(hello, net.port(a), ['inPort', 'ethDst', 'ipProto'])
    // Bits outside the mask must not matter, in the flow's key neither.
    match.key[14] = 0x0102_0304
    net.install(match, net.to(b))
    net.send(a, hello)
    net.send(b, hello)
    net.send(a, syn)
    t.deepEqual(net.take(), [[b, captures.udpHello]])
    t.deepEqual(
      net.receive().map(({ key, packet }) => [key[0], packet]),
      [
        [net.port(b), captures.udpHello],
        [net.port(a), captures.tcpSyn],
      ],
    )
  })

  test.serial('half a field can be matched', (t) => {
    const net = new Net(open())
    const match = some(hello, net.port(a), ['inPort', 'ethType'])
    match.mask[14] = 0xffff_ff00
    net.install(match, net.to(b))
    net.send(a, change(hello, 'set(ipv4(dst=10.9.0.77))'))
    t.is(net.take().length, 1)
    net.send(a, change(hello, 'set(ipv4(dst=10.9.1.2))'))
    t.is(net.take().length, 0)
    t.is(net.receive().length, 1)
  })
}

function testReplacing(test: TestFn, open: () => World): void {
  test.serial('flows of several masks stand side by side', (t) => {
    const net = new Net(open())
    net.install(exact(hello, net.port(a)), net.to(b))
    net.install(some(syn, net.port(a), ['inPort', 'ipProto']), net.to(c))
    net.install(some(syn, net.port(b), ['inPort']), net.to(a))
    for (let round = 0; round < 2; round++) {
      net.send(a, hello)
      net.send(a, syn)
      net.send(b, syn)
    }
    t.deepEqual(net.take().toSorted(), [
      [a, captures.tcpSyn],
      [a, captures.tcpSyn],
      [b, captures.udpHello],
      [b, captures.udpHello],
      [c, captures.tcpSyn],
      [c, captures.tcpSyn],
    ])
    t.deepEqual(net.receive(), [])
    const { flows, masks } = net.world.datapath.counters()
    t.deepEqual([flows, masks], [3, 3])
  })

  test.serial('a flow installed again is replaced in place', (t) => {
    const net = new Net(open())
    const match = exact(hello, net.port(a))
    const id = net.install(match, net.to(b))
    net.send(a, hello)
    t.is(net.install(match, net.to(c)), id)
    net.send(a, hello)
    t.deepEqual(net.take(), [
      [b, captures.udpHello],
      [c, captures.udpHello],
    ])
    t.deepEqual(net.stats(id, 2), [2, 2 * hello.length])
    t.is(net.world.datapath.counters().flows, 1)
  })

  test.serial('a removed flow is gone, and unknown ids are no error', (t) => {
    const net = new Net(open())
    const { datapath } = net.world
    const first = net.install(exact(hello, net.port(a)), net.to(b))
    const second = net.install(exact(syn, net.port(a)), net.to(b))
    datapath.remove(first)
    datapath.remove(first)
    datapath.remove(123_456)
    t.is(datapath.stats(first), undefined)
    net.send(a, hello)
    net.send(a, syn)
    t.deepEqual(net.take(), [[b, captures.tcpSyn]])
    t.is(net.receive().length, 1)
    t.deepEqual(net.stats(second, 1), [1, syn.length])
    t.is(datapath.counters().flows, 1)
  })
}

function testMany(test: TestFn, open: () => World): void {
  test.serial('many flows come and go, and each is the one that was asked for', (t) => {
    const net = new Net(open())
    const { datapath } = net.world
    for (let round = 0; round < 3; round++) {
      const ids = Array.from({ length: 300 }, (_, index) => {
        const match = exact(hello, net.port(a))
        match.key[18] = index
        return net.install(match, index % 2 === 0 ? net.to(b) : net.to(c))
      })
      t.is(new Set(ids).size, 300)
      for (const index of [0, 1, 149, 298, 299]) {
        net.send(a, change(hello, `set(tp(src=${index},dst=0))`))
        t.deepEqual(
          net.take().map(([port]) => port),
          [index % 2 === 0 ? b : c],
        )
        t.is(net.stats(ids[index] ?? -1, 1)[0], 1)
      }
      for (const id of ids) datapath.remove(id)
      t.deepEqual([datapath.counters().flows, datapath.counters().masks], [0, 0])
    }
  })

  test.serial('statistics of many flows are told in their order', (t) => {
    const net = new Net(open())
    const { datapath } = net.world
    const ids = Array.from({ length: 1_200 }, (_, index) => {
      const match = exact(hello, net.port(a))
      match.key[18] = index
      return net.install(match, net.to(b))
    })
    const [gone = -1] = ids.splice(700, 1)
    datapath.remove(gone)
    for (const source of [3, 3, 1_100]) net.send(a, change(hello, `set(tp(src=${source},dst=0))`))
    net.take()
    // The kernel counts after it has sent.
    t.deepEqual([net.stats(ids[3] ?? -1, 2)[0], net.stats(ids[1_099] ?? -1, 1)[0]], [2, 1])
    const told = datapath.statsOf([123_456, ...ids, gone])
    t.deepEqual([told.length, told[0], told.at(-1)], [1_201, undefined, undefined])
    t.deepEqual(
      told
        .slice(1, -1)
        .flatMap((stats, index) => (stats?.packets === 0 ? [] : [[index, stats?.packets]])),
      [
        [3, 2],
        [1_099, 1],
      ],
    )
    for (const id of ids) datapath.remove(id)
  })

  test.serial('what is installed can be read back', (t) => {
    const net = new Net(open())
    const match = some(hello, net.port(a), ['inPort', 'ethType', 'ipDst'])
    const actions = net.actions(
      'set(eth(src=02:00:00:00:00:01,dst=02:00:00:00:00:02)),set(ipv4(ttl=3,tos=4,src=1.2.3.4,dst=5.6.7.8)),set(tp(src=9,dst=10)),push_vlan(vid=7,pcp=5),$b,pop_vlan,$c,set(tunnel(tun_id=0x5,dst=1.1.1.1,src=2.2.2.2)),$a,$b,$c,$a,$b,$c,$a,$b,$c,$a',
    )
    checkReadBack(t, net, match, actions)
    const arp = fromHex(captures.arpRequest)
    checkReadBack(
      t,
      net,
      some(arp, net.port(b), ['inPort', 'ethType', 'arpOp', 'ipDst']),
      net.actions(
        'set(arp(sip=1.1.1.1,tip=2.2.2.2,op=2,sha=02:00:00:00:00:03,tha=02:00:00:00:00:04)),$b',
      ),
    )
  })
}

/** Installs a flow, alone; a datapath may match more of a packet than it was asked to. */
function checkReadBack(
  t: ExecutionContext,
  net: Net,
  match: FlowMatch,
  actions: readonly Action[],
): void {
  const id = net.install(match, actions)
  const [flow, ...others] = [...net.world.datapath.flows()]
  t.deepEqual(others, [])
  t.is(flow?.id, id)
  const key = flow?.key ?? createKey()
  const mask = flow?.mask ?? createKey()
  t.deepEqual(
    mask.map((word, index) => word & (match.mask[index] ?? 0)),
    match.mask,
  )
  t.deepEqual(
    key,
    match.key.map((word, index) => word & (mask[index] ?? 0)),
  )
  t.deepEqual(flow?.actions, actions)
  t.deepEqual(flow?.stats, { packets: 0, bytes: 0, idleMs: Number.POSITIVE_INFINITY })
  net.world.datapath.remove(id)
}
