/** Ports, how much there may be of flows, and what stays when the agent goes. */
import type { TestFn } from 'ava'
import { DatapathError } from '../../datapath/datapath.ts'
import { captures, fromHex } from '../packet/captures.ts'
import { exact, Net, some, type World } from './net.ts'

const [a, b, c] = [0, 1, 2]
const hello = fromHex(captures.udpHello)
const syn = fromHex(captures.tcpSyn)

export function testPorts(test: TestFn, open: () => World): void {
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

export function testLimits(test: TestFn, open: () => World): void {
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

export function testAdoption(test: TestFn, open: () => World): void {
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
