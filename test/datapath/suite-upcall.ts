/** What is handed over to the agent, and what it does about it. */
import type { TestFn } from 'ava'
import { captures, fromHex, hexOf } from '../packet/captures.ts'
import { change, exact, keyOf, Net, type World } from './net.ts'

const [a, b] = [0, 1]
const hello = fromHex(captures.udpHello)
const syn = fromHex(captures.tcpSyn)

export function testUpcalls(test: TestFn, open: () => World): void {
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
}

export function testHandling(test: TestFn, open: () => World): void {
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
