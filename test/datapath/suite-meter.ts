/** Actions that not every packet of a flow fares the same by: the length, and meters. */
import type { TestFn } from 'ava'
import { captures, fromHex } from '../packet/captures.ts'
import { change, exact, Net, type World, withOptions } from './net.ts'

const [a, b] = [0, 1]
const hello = fromHex(captures.udpHello)

export function testMeters(test: TestFn, open: () => World): void {
  test.serial('what is longer than a flow allows goes to the agent, as it came', (t) => {
    const net = new Net(open())
    const text = (size: number) =>
      `check_pkt_len(size=${size},gt(userspace(reason=1)),le(set(ipv4(ttl=9)),$b))`
    const actions = net.actions(text(hello.length))
    const match = { ...exact(hello, net.port(a)), mask: exact(hello, 0).mask.slice().fill(0) }
    match.mask[0] = 0xffff_ffff
    const id = net.install(match, actions)
    const longer = withOptions(hello)
    net.send(a, hello)
    net.send(a, longer)
    t.deepEqual(net.take().length, 1)
    t.deepEqual(
      net.receive().map(({ reason, packet }) => [reason, packet.length / 2]),
      [['action', longer.length]],
    )
    t.deepEqual([...net.world.datapath.flows()].find((flow) => flow.id === id)?.actions, actions)
    // A tag does not count.
    const tagged = change(hello, 'push_vlan(vid=5,pcp=3)')
    net.install(exact(tagged, net.port(a)), actions)
    net.send(a, tagged)
    t.is(net.take().length, 1)
    net.world.datapath.remove(id)
    net.install(match, net.actions(`check_pkt_len(size=${hello.length},gt(drop),le($b))`))
    net.send(a, longer)
    t.deepEqual([net.take(), net.receive()], [[], []])
  })

  test.serial('a meter lets pass what its rate allows, and is found again', (t) => {
    const net = new Net(open())
    const { datapath } = net.world
    // So slow that hardly anything comes into the bucket while the test runs: a bit in a millisecond.
    const startMs = performance.now()
    datapath.setMeter(7, { kbps: 1, burstKb: 1 })
    net.install(exact(hello, net.port(a)), net.actions('meter(7),$b'))
    for (let count = 0; count < 40; count++) net.send(a, hello)
    const passed = net.take().length
    const bits = hello.length * 8
    const expected = Math.floor(1000 / bits) + 1
    const more = Math.ceil((performance.now() - startMs) / bits)
    t.true(passed >= expected - 1, `${passed} packets passed, ${expected} expected`)
    t.true(passed <= expected + more, `${passed} packets passed, ${expected} and ${more} expected`)
    t.deepEqual(datapath.meters(), [7])
    t.deepEqual(datapath.meter(7)?.rate, { kbps: 1, burstKb: 1 })
    t.is(datapath.meter(8), undefined)
    datapath.setMeter(7, { kbps: 100_000_000, burstKb: 1_000_000 })
    net.send(a, hello)
    t.deepEqual(
      net.take().map(([out]) => out),
      [b],
    )
    datapath.removeMeter(7)
    datapath.removeMeter(7)
    t.deepEqual(datapath.meters(), [])
    net.send(a, hello)
    t.is(net.take().length, 1, 'without the meter all pass')
  })
}
