/** What every datapath must do to packets: compared with the reference interpreter. */
import type { ExecutionContext, TestFn } from 'ava'
import { DatapathError } from '../../datapath/datapath.ts'
import type { Action } from '../../packet/action.ts'
import { applyActions } from '../../packet/apply.ts'
import { captures, fromHex, hexOf } from '../packet/captures.ts'
import { change, exact, keyOf, Net, some, type World, withHeaders, withOptions } from './net.ts'

const [a, b, c] = [0, 1, 2]
const hello = fromHex(captures.udpHello)
const syn = fromHex(captures.tcpSyn)

/** Frames and what is done to them; `$a` to `$c` are the vports. */
const cases: readonly (readonly [keyof typeof captures, string])[] = [
  ['udpHello', '$b'],
  ['udpHello', '$b,$c'],
  ['udpHello', '$c,set(ipv4(ttl=9)),$b'],
  ['udpHello', 'set(eth(src=02:00:00:00:00:01,dst=02:00:00:00:00:02)),set(ipv4(ttl=63)),$b'],
  ['udpHello', 'set(ipv4(src=1.2.3.4,dst=9.8.7.6,ttl=200,tos=0xb8)),set(tp(src=1,dst=65535)),$b'],
  ['udpUnchecked', 'set(ipv4(src=1.2.3.4)),set(tp(dst=1)),$b'],
  ['tcpSyn', 'set(ipv4(src=1.2.3.4,dst=9.8.7.6)),set(tp(src=1,dst=2)),$b'],
  ['echoRequest', 'set(ipv4(dst=9.8.7.6,ttl=1)),set(tp(src=1,dst=2)),$b'],
  ['fragmentLater', 'set(ipv4(src=1.2.3.4)),set(tp(src=1,dst=2)),$b'],
  ['udpHelloV6', 'set(ipv4(src=1.2.3.4)),$b'],
  ['udpHelloV6', 'set(ipv6(hlimit=1,tclass=200)),set(tp(src=1)),$b'],
  ['udpHelloV6', 'set(ipv6(src=fd00::1)),$b,set(ipv6(dst=fd00:0:1::2)),set(tp(dst=65535)),$c'],
  ['echoRequestV6', 'set(ipv6(src=fd00::1,dst=fd00::2,hlimit=9)),set(tp(src=1)),$b'],
  ['udpHelloV6', 'push_vlan(vid=5,pcp=3),set(ipv6(src=fd00::1)),$b,pop_vlan,$c'],
  ['udpHello', 'push_vlan(vid=5,pcp=3),$b'],
  ['udpHello', 'push_vlan(vid=5,pcp=3),set(ipv4(ttl=9)),$b,pop_vlan,$c'],
  ['udpHello', 'push_vlan(vid=5,pcp=3),push_vlan(vid=6,pcp=0),set(ipv4(ttl=9)),$b,pop_vlan,$c'],
  ['udpHello', 'pop_vlan,$b'],
  [
    'arpRequest',
    'set(eth(src=02:00:00:00:00:0b,dst=02:00:00:00:00:0a)),set(arp(sip=10.9.0.2,tip=10.9.0.1,op=2,sha=02:00:00:00:00:0b,tha=02:00:00:00:00:0a)),$a',
  ],
  ['arpRequest', 'set(ipv4(src=1.1.1.1)),$b'],
]

export function testActions(test: TestFn, open: () => World): void {
  for (const [name, text] of cases)
    test.serial(`${name} through ${text}`, (t) => {
      const net = new Net(open())
      checkActions(t, net, fromHex(captures[name]), text)
    })

  test.serial('a tagged frame is matched, changed, untagged and sent on tagged', (t) => {
    const net = new Net(open())
    const tagged = change(hello, 'push_vlan(vid=5,pcp=3)')
    checkActions(t, net, tagged, '$b')
    checkActions(t, net, tagged, 'set(ipv4(ttl=9,src=1.2.3.4)),set(tp(dst=7)),$b,pop_vlan,$c')
    checkActions(t, net, change(tagged, 'push_vlan(vid=6,pcp=0)'), 'pop_vlan,set(ipv4(ttl=1)),$b')
  })

  test.serial('IPv4 options do not hide what is behind them', (t) => {
    const net = new Net(open())
    checkActions(t, net, withOptions(hello), 'set(ipv4(src=1.2.3.4,ttl=3)),set(tp(src=5)),$b')
    checkActions(t, net, withOptions(syn), 'set(ipv4(dst=1.2.3.4,tos=8)),set(tp(dst=5)),$b')
  })

  test.serial('IPv6 extension headers do not hide what is behind them', (t) => {
    const net = new Net(open())
    const hello6 = fromHex(captures.udpHelloV6)
    const set = 'set(ipv6(src=fd00::1,dst=fd00::2)),set(tp(src=5)),$b'
    for (const headers of [[0], [60, 43, 60], [51], [0, 60, 43, 51, 60, 60, 60, 60], [44]])
      checkActions(t, net, withHeaders(hello6, headers), set)
    const later = withHeaders(hello6, [0, 44])
    later[14 + 40 + 8 + 3] = 16
    checkActions(t, net, later, set)
  })

  test.serial('more extension headers than are followed hide it, on all datapaths alike', (t) => {
    const net = new Net(open())
    const hello6 = fromHex(captures.udpHelloV6)
    const long = withHeaders(hello6, [60, 60, 60, 60, 60, 60, 60, 60, 60])
    t.is(keyOf(long, 1)[9], (keyOf(hello6, 1)[9] ?? 0) | 255)
    net.install(some(long, net.port(a), ['inPort', 'ethType']), net.actions('$b'))
    net.send(a, long)
    t.deepEqual(net.take(), [[b, hexOf(long)]])
  })
  testOptional(test, open)

  test.serial('an empty list drops, without an upcall', (t) => {
    const net = new Net(open())
    const id = net.install(exact(hello, net.port(a)), [])
    net.send(a, hello)
    t.deepEqual([net.take(), net.receive(), net.stats(id, 1)[0]], [[], [], 1])
  })

  test.serial('a flood reaches every port, a hundred of them too', (t) => {
    const net = new Net(open())
    const ports = Array.from({ length: 100 }, (_, index) => [b, c][index % 2] ?? b)
    const outputs = ports.map((port): Action => ({ kind: 'output', port: net.port(port) }))
    net.install(exact(hello, net.port(a)), outputs)
    net.send(a, hello)
    const taken = net.take()
    t.is(taken.filter(([port]) => port === b).length, 50)
    t.is(taken.filter(([port]) => port === c).length, 50)
    t.true(taken.every(([, frame]) => frame === captures.udpHello))
    net.world.datapath.execute(hello, undefined, net.port(a), outputs)
    t.is(net.take().length, 100)
  })

  test.serial('a packet to a port that is gone is lost, and nothing else with it', (t) => {
    const net = new Net(open())
    net.install(exact(hello, net.port(a)), [
      { kind: 'output', port: 999_999 },
      ...net.to(b),
      { kind: 'output', port: 999_998 },
    ])
    net.send(a, hello)
    t.deepEqual(net.take(), [[b, captures.udpHello]])
  })
}

/** Compares a flow, and an execution, with the reference interpreter. */
function checkActions(t: ExecutionContext, net: Net, frame: Uint8Array, text: string): void {
  const actions = net.actions(text)
  const expected = applyActions(frame, actions)
    .map(({ port, frame: sent }) => [net.indexOf(port), hexOf(sent)] as const)
    .toSorted()
  const id = net.install(exact(frame, net.port(a)), actions)
  net.send(a, frame)
  t.deepEqual(net.take().toSorted(), expected, `flow: ${text}`)
  t.deepEqual(net.receive(), [])
  t.deepEqual(net.stats(id, 1)[0], 1)
  net.world.datapath.execute(frame, undefined, net.port(a), actions)
  t.deepEqual(net.take().toSorted(), expected, `execute: ${text}`)
  net.world.datapath.remove(id)
}

/** Of each kind that a datapath may have: what it does with it, or that it says that it has not. */
function testOptional(test: TestFn, open: () => World): void {
  const optional = [
    ['clone', 'clone(set(ipv4(ttl=9)),push_vlan(vid=7,pcp=0),$c),$b'],
    ['clone', 'clone(set(ipv4(src=1.2.3.4)),set(tp(dst=9)),clone(set(ipv4(ttl=8)),$a),$c),$b'],
    ['checkPacketLength', 'check_pkt_len(size=20,gt(drop),le($b))'],
    ['checkPacketLength', 'check_pkt_len(size=1000,gt(drop),le(set(ipv4(ttl=9)),$b,$c))'],
  ] as const
  for (const [name, text] of optional)
    test.serial(`${text}, where there is ${name}`, (t) => {
      const net = new Net(open())
      if (net.world.datapath.capabilities[name]) {
        checkActions(t, net, hello, text)
        return
      }
      const install = () => net.install(exact(hello, net.port(a)), net.actions(text))
      t.is(t.throws(install, { instanceOf: DatapathError })?.code, 'EOPNOTSUPP')
      t.is(net.world.datapath.counters().flows, 0)
    })
}
