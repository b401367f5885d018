/**
 * What every datapath must do. An implementation takes part by a `World`: the datapath, interfaces
 * to it, and a way to put frames in and see those that come out.
 */
import type { ExecutionContext, TestFn } from 'ava'
import {
  type Datapath,
  DatapathError,
  type FlowMatch,
  type Upcall,
} from '../../datapath/datapath.ts'
import type { Action } from '../../packet/action.ts'
import { applyActions } from '../../packet/apply.ts'
import { extractKey } from '../../packet/extract.ts'
import { createKey, type FieldName, type FlowKey, fields } from '../../packet/flow-key.ts'
import { parseActions } from '../../packet/text.ts'
import { captures, fromHex, hexOf } from '../packet/captures.ts'

/** A frame that came out of an interface. */
export interface Delivered {
  readonly name: string
  readonly frame: Uint8Array
}

export interface World {
  readonly datapath: Datapath
  /** At least three; not yet vports. */
  readonly interfaces: readonly string[]
  /** As if the interface received a frame. */
  send(name: string, frame: Uint8Array): void
  /** Frames that came out since the last call; in order for each interface. */
  take(): readonly Delivered[]
  /** The datapath as an agent finds it that starts after this one died. */
  reopen(): World
}

const [a, b, c] = [0, 1, 2]
const hello = fromHex(captures.udpHello)
const syn = fromHex(captures.tcpSyn)

/** Declares the tests. Each gets the world as `open` makes or restores it: no ports, no flows. */
export function testDatapath(test: TestFn, open: () => World): void {
  testFlows(test, open)
  testActions(test, open)
  testUpcalls(test, open)
  testPorts(test, open)
  testLimits(test, open)
  testAdoption(test, open)
}

function testFlows(test: TestFn, open: () => World): void {
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
      t.deepEqual(net.stats(id), [count, count * hello.length])
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
    t.deepEqual(net.stats(id), [2, 2 * hello.length])
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
    t.deepEqual(net.stats(second), [1, syn.length])
    t.is(datapath.counters().flows, 1)
  })

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
        t.is(net.stats(ids[index] ?? -1)[0], 1)
      }
      for (const id of ids) datapath.remove(id)
      t.deepEqual([datapath.counters().flows, datapath.counters().masks], [0, 0])
    }
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
  ['udpHelloV6', 'set(ipv4(src=1.2.3.4,ttl=1)),set(tp(src=1)),$b'],
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

function testActions(test: TestFn, open: () => World): void {
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

  test.serial('an empty list drops, without an upcall', (t) => {
    const net = new Net(open())
    const id = net.install(exact(hello, net.port(a)), [])
    net.send(a, hello)
    t.deepEqual([net.take(), net.receive(), net.stats(id)[0]], [[], [], 1])
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
  t.deepEqual(net.stats(id)[0], 1)
  net.world.datapath.execute(frame, undefined, net.port(a), actions)
  t.deepEqual(net.take().toSorted(), expected, `execute: ${text}`)
  net.world.datapath.remove(id)
}

function testUpcalls(test: TestFn, open: () => World): void {
  test.serial('an action hands a packet over as it is then', (t) => {
    const net = new Net(open())
    net.install(exact(hello, net.port(a)), net.actions('set(ipv4(ttl=9)),$b,userspace(reason=1)'))
    net.send(a, hello)
    const changed = change(hello, 'set(ipv4(ttl=9))')
    const [upcall, ...others] = net.receive()
    t.deepEqual(others, [])
    t.is(upcall?.reason, 'action')
    t.is(upcall?.packet, hexOf(changed))
    t.deepEqual(upcall?.key, keyOf(changed, net.port(a)))
    t.deepEqual(net.take(), [[b, hexOf(changed)]])
  })

  test.serial('executing hands nothing over', (t) => {
    const net = new Net(open())
    net.world.datapath.execute(hello, undefined, net.port(a), net.actions('userspace(reason=1),$b'))
    t.deepEqual(net.take(), [[b, captures.udpHello]])
    t.deepEqual(net.receive(), [])
  })

  test.serial('a tag is in its place in what is handed over', (t) => {
    const net = new Net(open())
    const tagged = change(hello, 'push_vlan(vid=5,pcp=3)')
    const twice = change(tagged, 'push_vlan(vid=6,pcp=0)')
    net.send(a, tagged)
    net.send(a, twice)
    const upcalls = net.receive()
    t.deepEqual(
      upcalls.map(({ packet }) => packet),
      [hexOf(tagged), hexOf(twice)],
    )
    t.deepEqual(upcalls[0]?.key, keyOf(tagged, net.port(a)))
  })

  test.serial('no more is received than the budget says', (t) => {
    const net = new Net(open())
    for (let count = 0; count < 5; count++) net.send(a, hello)
    let seen = 0
    const handle = (): void => {
      seen++
    }
    t.is(net.world.datapath.receive(2, handle), 2)
    t.is(net.world.datapath.receive(2, handle), 2)
    t.is(net.world.datapath.receive(2, handle), 1)
    t.is(net.world.datapath.receive(2, handle), 0)
    t.is(seen, 5)
  })

  test.serial('misses and upcalls are counted, and waiting ends when one is there', (t) => {
    const net = new Net(open())
    const before = net.world.datapath.counters()
    net.send(a, hello)
    net.send(b, hello)
    net.world.datapath.wait(5000)
    net.receive()
    const after = net.world.datapath.counters()
    t.is(after.misses - before.misses, 2)
    t.is(after.upcalls - before.upcalls, 2)
    t.is(after.lost - before.lost, 0)
  })

  test.serial('a packet can be changed and sent on from within its upcall', (t) => {
    const net = new Net(open())
    net.send(a, hello)
    net.send(a, syn)
    const { datapath } = net.world
    datapath.receive(10, ({ packet, offload, key }) =>
      datapath.execute(packet, offload, key[0] ?? 0, net.actions('set(ipv4(ttl=9)),$b')),
    )
    t.deepEqual(net.take(), [
      [b, hexOf(change(hello, 'set(ipv4(ttl=9))'))],
      [b, hexOf(change(syn, 'set(ipv4(ttl=9))'))],
    ])
  })
}

function testPorts(test: TestFn, open: () => World): void {
  test.serial('a port is taken in once, and given back', (t) => {
    const net = new Net(open())
    const { datapath, interfaces } = net.world
    const name = interfaces[a] ?? ''
    t.deepEqual(datapath.addPort(name), { number: net.port(a), name })
    t.is(datapath.ports().length, 3)
    t.true(datapath.ports().every(({ number }) => number > 0))
    datapath.removePort(net.port(b))
    datapath.removePort(net.port(b))
    datapath.removePort(999_999)
    t.deepEqual(
      datapath
        .ports()
        .map((port) => port.name)
        .toSorted(),
      [interfaces[a], interfaces[c]].toSorted(),
    )
    t.is(datapath.addPort(interfaces[b] ?? '').number, net.port(b))
  })

  test.serial('an interface that is no port any more forwards nothing', (t) => {
    const net = new Net(open())
    net.install(exact(hello, net.port(a)), net.to(b))
    net.world.datapath.removePort(net.port(a))
    net.send(a, hello)
    net.send(a, syn)
    t.deepEqual([net.take(), net.receive()], [[], []])
  })

  test.serial('an interface that is not there is refused', (t) => {
    const { datapath } = open()
    const error = t.throws(() => datapath.addPort('mdnowhere'), { instanceOf: DatapathError })
    t.is(error?.code, 'ENODEV')
    t.regex(error?.message ?? '', /mdnowhere/)
  })
}

function testLimits(test: TestFn, open: () => World): void {
  test.serial('too many actions are refused, and leave nothing', (t) => {
    const net = new Net(open())
    const outputs = Array.from({ length: 1000 }, () => net.to(b)).flat()
    const match = exact(hello, net.port(a))
    const error = t.throws(() => net.install(match, outputs), { instanceOf: DatapathError })
    t.is(error?.code, 'E2BIG')
    const { flows, masks } = net.world.datapath.counters()
    t.deepEqual([flows, masks], [0, 0])
  })

  test.serial('32 masks fit, too many are refused, and freed ones are used again', (t) => {
    const net = new Net(open())
    const install = (index: number): number => {
      const match = exact(hello, net.port(a))
      match.mask[18] = index
      match.key[18] = index
      // Apart from all others: flows must not overlap.
      match.key[10] = index
      return net.install(match, net.to(b))
    }
    const ids: number[] = []
    const error = t.throws(
      () => {
        for (let index = 1; index < 2000; index++) ids.push(install(index))
      },
      { instanceOf: DatapathError },
    )
    t.is(error?.code, 'E2BIG')
    t.true(ids.length >= 32)
    t.is(net.world.datapath.counters().masks, ids.length)
    net.world.datapath.remove(ids[7] ?? -1)
    t.notThrows(() => install(5000))
    t.is(net.world.datapath.counters().masks, ids.length)
  })
}

function testAdoption(test: TestFn, open: () => World): void {
  test.serial('a new agent finds ports and flows, and traffic goes on meanwhile', (t) => {
    const before = new Net(open())
    const match = some(hello, before.port(a), ['inPort', 'ethDst', 'ipProto'])
    const id = before.install(match, before.to(b))
    before.install(exact(syn, before.port(b)), before.actions('set(ipv4(ttl=9)),$a,$c'))
    before.send(a, hello)
    before.take()
    const flows = [...before.world.datapath.flows()].map(({ key, mask, actions }) => ({
      key: key.slice(),
      mask: mask.slice(),
      actions,
    }))
    before.world.datapath.close()
    before.send(a, hello)
    t.deepEqual(before.take(), [[b, captures.udpHello]])

    const after = new Net(before.world.reopen())
    const { datapath } = after.world
    t.is(datapath.ports().length, 3)
    t.is(after.port(a), before.port(a))
    const found = [...datapath.flows()]
    const kept = found.map(({ key, mask, actions }) => ({ key, mask, actions }))
    const inOrder = (list: typeof kept): typeof kept =>
      list.toSorted((x, y) => x.key.join().localeCompare(y.key.join()))
    t.deepEqual(inOrder(kept), inOrder(flows))
    const counted = found.find(({ key }) => key[0] === after.port(a))
    t.is(counted?.stats.packets, 2)

    after.send(a, hello)
    t.deepEqual(after.take(), [[b, captures.udpHello]])
    t.is(after.install(match, after.to(c)), counted?.id ?? id)
    after.send(a, hello)
    t.deepEqual(after.take(), [[c, captures.udpHello]])
    after.send(c, hello)
    t.is(after.receive().length, 1)
    for (const flow of [...datapath.flows()]) datapath.remove(flow.id)
    t.deepEqual([datapath.counters().flows, datapath.counters().masks], [0, 0])
  })
}

/** A world with its first three interfaces as ports, which are known by index 0 to 2. */
class Net {
  readonly world: World
  readonly #ports: readonly number[]

  constructor(world: World) {
    this.world = world
    const { datapath, interfaces } = world
    this.#ports = interfaces.slice(0, 3).map((name) => datapath.addPort(name).number)
    world.take()
  }

  port(index: number): number {
    return this.#ports[index] ?? 0
  }

  indexOf(port: number): number {
    return this.#ports.indexOf(port)
  }

  to(index: number): readonly Action[] {
    return [{ kind: 'output', port: this.port(index) }]
  }

  actions(text: string): readonly Action[] {
    return parseActions(text.replaceAll(/\$([abc])/g, (_, name: string) => this.#number(name)))
  }

  #number(name: string): string {
    return String(this.port('abc'.indexOf(name)))
  }

  install(match: FlowMatch, actions: readonly Action[]): number {
    return this.world.datapath.install(match, actions)
  }

  stats(id: number): readonly [number, number] {
    const stats = this.world.datapath.stats(id)
    return [stats?.packets ?? -1, stats?.bytes ?? -1]
  }

  send(index: number, frame: Uint8Array): void {
    this.world.send(this.world.interfaces[index] ?? '', frame)
  }

  take(): readonly (readonly [number, string])[] {
    const { interfaces } = this.world
    return this.world.take().map(({ name, frame }) => [interfaces.indexOf(name), hexOf(frame)])
  }

  /** Copies of all waiting upcalls. */
  receive(): readonly { reason: Upcall['reason']; packet: string; key: FlowKey }[] {
    const upcalls: { reason: Upcall['reason']; packet: string; key: FlowKey }[] = []
    this.world.datapath.receive(100_000, ({ reason, packet, key }) => {
      upcalls.push({ reason, packet: hexOf(packet), key: key.slice() })
    })
    return upcalls
  }
}

export function keyOf(frame: Uint8Array, inPort: number): FlowKey {
  const key = createKey()
  extractKey(frame, inPort, key)
  return key
}

/** Matches this frame's whole key. */
export function exact(frame: Uint8Array, inPort: number): FlowMatch {
  return { key: keyOf(frame, inPort), mask: createKey().fill(0xffff_ffff) }
}

/** Matches some fields of this frame. */
function some(frame: Uint8Array, inPort: number, names: readonly FieldName[]): FlowMatch {
  const mask = createKey()
  for (const name of names) {
    const { word, shift, bits } = fields[name]
    const low = bits >= 32 ? 0xffff_ffff : ((1 << bits) - 1) << shift
    if (bits === 48) mask[word] = 0xffff
    const at = bits === 48 ? word + 1 : word
    mask[at] = (mask[at] ?? 0) | low
  }
  return { key: keyOf(frame, inPort), mask }
}

function change(frame: Uint8Array, text: string): Uint8Array {
  return applyActions(frame, parseActions(`${text},1`))[0]?.frame ?? frame
}

/** The same packet with eight bytes of options, all no-operations. */
function withOptions(frame: Uint8Array): Uint8Array {
  const options = new Uint8Array(8).fill(1)
  const longer = Uint8Array.from([...frame.subarray(0, 34), ...options, ...frame.subarray(34)])
  longer[14] = 0x47
  longer[17] = (longer[17] ?? 0) + 8
  return longer
}
