/** What the forwarder does at its bounds, and when the datapath refuses. */
import test from 'ava'
import { DatapathError, type Upcall } from '../../datapath/datapath.ts'
import { formatMac } from '../../packet/address.ts'
import { createKey, equalKeys } from '../../packet/flow-key.ts'
import { frame } from './frame.ts'
import { host, type Item, put, World } from './world.ts'
import { wrap } from './wrapper.ts'

const mac = (n: number) => formatMac(0x0200_0000_0000 + n)
const eth = (src: number, dst: number | string, type = '0x86dd') =>
  frame(`eth(src=${mac(src)},dst=${typeof dst === 'string' ? dst : mac(dst)}),eth_type(${type})`)
const broadcast = 'ff:ff:ff:ff:ff:ff'

/** A bridge with ports `p0`… on interfaces `if0`…, the station of port n having MAC address n + 1. */
function bridgeOf(count: number, stations = true): Item[] {
  const items: Item[] = [put('bridge', { id: 'red', adminUp: true })]
  for (let n = 0; n < count; n++)
    items.push(
      put('port', {
        id: `p${n}`,
        kind: 'bridge',
        bridge: 'red',
        adminUp: true,
        stations: stations ? [{ mac: mac(n + 1), addresses: [] }] : [],
      }),
      put('binding', { id: `p${n}`, host, interface: `if${n}` }),
    )
  return items
}

/** A router with two exterior ports, 10.1.0.1/24 on `if1` and 10.2.0.1/24 on `if2`. */
function routerOf(): Item[] {
  return [
    put('router', { id: 'r', adminUp: true }),
    ...[1, 2].flatMap((n) => [
      put('port', {
        id: `q${n}`,
        kind: 'router',
        router: 'r',
        adminUp: true,
        mac: mac(0xf0 + n),
        addresses: [`10.${n}.0.1/24`],
      }),
      put('binding', { id: `q${n}`, host, interface: `if${n}` }),
    ]),
  ]
}

const udp = (dst: string, port = 1, ttl = 64) =>
  frame(
    `eth(src=${mac(9)},dst=${mac(0xf1)}),eth_type(0x0800),` +
      `ipv4(src=10.1.0.9,dst=${dst},proto=17,tos=0,ttl=${ttl},frag=no),udp(src=${port},dst=2)`,
  )

test('a burst that comes before its flow is simulated once', (t) => {
  const world = new World()
  world.put(...bridgeOf(2))
  for (let n = 0; n < 50; n++) world.datapath.inject('if0', eth(1, 2))
  world.forwarder.round(64)
  t.is(world.takeSent().length, 50)
  t.is(world.forwarder.status().simulations, 1)
})

test('a packet with a field that the key cannot say is sent on, but makes no flow', (t) => {
  const world = new World({
    between: (inner) =>
      wrap(inner, {
        receive: (budget, handle) =>
          inner.receive(budget, (upcall) => handle({ ...upcall, keyComplete: false })),
      }),
  })
  world.put(...bridgeOf(2))
  t.is(world.send('if0', eth(1, 2)).length, 1)
  t.is(world.send('if0', eth(1, 2)).length, 1)
  t.is(world.forwarder.status().flows, 0)
})

test('a malformed packet is counted, whatever its key says', (t) => {
  const upcall: Upcall = {
    reason: 'miss',
    packet: new Uint8Array(13),
    key: createKey(),
    keyComplete: true,
    offload: undefined,
  }
  const world = new World({
    between: (inner) =>
      wrap(inner, {
        receive(_, handle) {
          handle(upcall)
          return 1
        },
      }),
  })
  world.forwarder.round(1)
  t.deepEqual(world.forwarder.status().drops, { 'malformed frame': 1 })
})

test('a flow that no port explains is dropped until the vport is a port', (t) => {
  const world = new World()
  world.datapath.addPort('if0')
  t.deepEqual(world.send('if0', eth(1, 2)), [])
  t.is(world.forwarder.status().flows, 1)
  world.put(...bridgeOf(2))
  t.is(world.send('if0', eth(1, 2)).length, 1)
})

test('a flood too long for a flow reaches all ports all the same', (t) => {
  const most = 40
  const world = new World({
    actionsMax: most,
    between: (inner) =>
      wrap(inner, {
        execute(packet, offload, inPort, actions) {
          if (actions.length > most) throw new DatapathError('E2BIG', 'too many actions')
          inner.execute(packet, offload, inPort, actions)
        },
      }),
  })
  world.put(...bridgeOf(101))
  const sent = world.send('if0', eth(1, broadcast))
  t.is(new Set(sent.map((one) => one.interface)).size, 100)
  t.is(sent.length, 100)
  t.is(world.forwarder.status().flows, 0)
  t.true((world.forwarder.status().refused.E2BIG ?? 0) > 0)
})

test('where there are too many masks a flow is made for the one header', (t) => {
  const exact = createKey().fill(0xffff_ffff)
  const world = new World({
    between: (inner) =>
      wrap(inner, {
        install(match, actions) {
          if (match.mask[8] !== 0 && !equalKeys(match.mask, exact))
            throw new DatapathError('E2BIG', 'too many masks')
          return inner.install(match, actions)
        },
      }),
  })
  world.put(...bridgeOf(3))
  t.is(world.send('if0', eth(1, broadcast)).length, 2)
  t.is(world.send('if0', eth(1, broadcast)).length, 2)
  t.is(world.forwarder.status().packets, 1)
  t.is(world.forwarder.status().refused.E2BIG, 1)
  t.is(world.send('if0', eth(1, broadcast, '0x88cc')).length, 2)
  t.is(world.forwarder.status().packets, 2)
})

test('a full datapath makes room by evicting the flows that are idle longest', (t) => {
  const world = new World({ flowsMax: 40 })
  world.put(...bridgeOf(12))
  let sent = 0
  for (let a = 1; a <= 12; a++)
    for (let b = 1; b <= 12; b++) {
      world.nowMs += 10
      if (a !== b) sent += world.send(`if${a - 1}`, eth(a, b)).length
    }
  t.is(sent, 132)
  const status = world.forwarder.status()
  t.is(status.flows, world.datapath.counters().flows)
  t.true(status.evicted > 0)
})

test('the bound on flows holds, and flows in use outlive idle ones', (t) => {
  const world = new World({ flowLimit: 20 })
  world.put(...bridgeOf(12))
  world.send('if0', eth(1, 2))
  for (let a = 2; a <= 12; a++)
    for (let b = 1; b <= 12; b++) {
      world.nowMs += 10
      if (a !== b) world.send(`if${a - 1}`, eth(a, b))
      world.send('if0', eth(1, 2))
      t.true(world.datapath.counters().flows <= 20)
    }
  // The first of them made the only upcall of this flow.
  t.is(world.forwarder.status().packets, 1 + 11 * 11)
})

test('ICMP errors are held to a rate, and the kernel drops the rest for a while', (t) => {
  const world = new World()
  world.put(...routerOf())
  let errors = 0
  for (let n = 0; n < 300; n++) errors += world.send('if1', udp('8.8.8.8', n)).length
  t.is(errors, 100)
  t.is(world.forwarder.status().flows, 1)
  const { packets } = world.forwarder.status()
  world.send('if1', udp('8.8.8.8', 7))
  t.is(world.forwarder.status().packets, packets)
  world.wait(1_300)
  t.is(world.forwarder.status().flows, 0)
  t.is(world.send('if1', udp('8.8.8.8', 7)).length, 1)
})

test('echo requests are all answered', (t) => {
  const world = new World()
  world.put(...routerOf())
  const echo = frame(
    `eth(src=${mac(9)},dst=${mac(0xf1)}),eth_type(0x0800),` +
      'ipv4(src=10.1.0.9,dst=10.2.0.1,proto=1,tos=0,ttl=64,frag=no),icmp(type=8,code=0)',
  )
  let replies = 0
  for (let n = 0; n < 300; n++) replies += world.send('if1', echo).length
  t.is(replies, 300)
  t.is(world.forwarder.status().flows, 0)
})

test('packets wait for ARP in bounded number, and all are let go', (t) => {
  const world = new World()
  world.put(...routerOf())
  for (let n = 0; n < 100; n++) world.send('if1', udp('10.2.0.50', n))
  t.is(world.forwarder.status().parked, 64)
  for (let n = 51; n < 251; n++)
    for (const port of [1, 2]) world.send('if1', udp(`10.2.0.${n}`, port))
  t.is(world.forwarder.status().parked, 256)
  t.is(world.forwarder.status().drops['too many packets wait for ARP'], 36 + 400 - 192)
  const sent = world.wait(3_300)
  t.is(world.forwarder.status().parked, 0)
  t.is(sent.filter((one) => one.interface === 'if1').length, 100)
  t.is(world.forwarder.status().icmpErrorsHeld, 156)
})

test('packets that wait go on in their order when the neighbour answers', (t) => {
  const world = new World()
  world.put(...routerOf())
  for (let n = 1; n <= 5; n++) world.send('if1', udp('10.2.0.50', n))
  const reply = frame(
    `eth(src=${mac(0x50)},dst=${mac(0xf2)}),eth_type(0x0806),` +
      `arp(sip=10.2.0.50,tip=10.2.0.1,op=2,sha=${mac(0x50)},tha=${mac(0xf2)})`,
  )
  const sent = world.send('if2', reply)
  t.deepEqual(
    sent.map((one) => [one.interface, one.frame[35]]),
    [1, 2, 3, 4, 5].map((n) => ['if2', n]),
  )
})

test('a packet that waits goes on when the topology learns the neighbour, or ends with its port', (t) => {
  const world = new World()
  const items = routerOf()
  world.put(...items)
  world.send('if1', udp('10.2.0.50'))
  const port = world.topology.get('port', 'q2')
  if (port?.kind === 'router')
    world.put(put('port', { ...port, neighbors: [{ address: '10.2.0.50', mac: mac(0x50) }] }))
  t.is(world.takeSent().filter((one) => one.interface === 'if2').length, 1)
  world.send('if1', udp('10.2.0.51'))
  world.remove('binding', 'q1')
  world.remove('port', 'q1')
  t.is(world.forwarder.status().parked, 0)
  t.is(world.forwarder.status().drops['port is gone'], 1)
})

test('a packet that waited while its interface went makes no flow', (t) => {
  const world = new World()
  world.put(...routerOf())
  world.send('if1', udp('10.2.0.50'))
  world.datapath.loseInterface('if1')
  world.wait(1_100)
  const port = world.topology.get('port', 'q2')
  if (port?.kind === 'router')
    world.put(put('port', { ...port, neighbors: [{ address: '10.2.0.50', mac: mac(0x50) }] }))
  t.is(world.takeSent().filter((one) => one.interface === 'if2').length, 1)
  t.is(world.forwarder.status().flows, 0)
})

test('the time to the next duty is known', (t) => {
  const world = new World()
  t.is(world.forwarder.nextTimeoutMs(), Number.POSITIVE_INFINITY)
  world.put(...routerOf())
  world.forwarder.tick()
  t.true(world.forwarder.nextTimeoutMs() <= 250)
  world.send('if1', udp('10.2.0.50'))
  t.true(world.forwarder.nextTimeoutMs() <= 1_000)
  world.nowMs += 10_000
  t.is(world.forwarder.nextTimeoutMs(), 0)
})

test('a vport whose link has gone takes its flows with it', (t) => {
  const world = new World()
  world.put(...bridgeOf(2))
  world.send('if0', eth(1, 2))
  const [, second] = world.datapath.ports()
  world.forwarder.handleLinkGone(second?.number ?? 0)
  t.is(world.forwarder.status().flows, 0)
  t.is(world.forwarder.status().pendingPorts, 1)
  world.forwarder.handleLinkGone(4711)
})

test('an agent that starts removes ports and flows that nothing explains', (t) => {
  const world = new World()
  world.put(...bridgeOf(2))
  world.send('if0', eth(1, 2))
  const stranger = world.datapath.addPort('stranger')
  const key = createKey()
  key[0] = stranger.number
  world.datapath.install({ key, mask: createKey().fill(0xffff_ffff) }, [
    { kind: 'output', port: 1 },
  ])
  world.restart()
  t.deepEqual(
    world.datapath.ports().map(({ name }) => name),
    ['if0', 'if1'],
  )
  t.is(world.datapath.counters().flows, 1)
})

test('an agent that starts removes flows whose actions it cannot read', (t) => {
  const world = new World({
    between: (inner) =>
      wrap(inner, {
        *flows() {
          for (const flow of inner.flows()) yield { ...flow, actions: undefined }
        },
      }),
  })
  world.put(...bridgeOf(2))
  world.send('if0', eth(1, 2))
  world.restart()
  t.is(world.datapath.counters().flows, 0)
})

test('a datapath that cannot send is counted and survived', (t) => {
  const world = new World({
    between: (inner) =>
      wrap(inner, {
        execute() {
          throw new DatapathError('ENETDOWN', 'the link is down')
        },
      }),
  })
  world.put(...bridgeOf(2))
  t.deepEqual(world.send('if0', eth(1, 2)), [])
  t.is(world.forwarder.status().executeFailures, 1)
  t.is(world.forwarder.status().flows, 1)
})

test('a flow that vanished from the datapath is forgotten', (t) => {
  const world = new World()
  world.put(...bridgeOf(2))
  world.send('if0', eth(1, 2))
  for (const { id } of world.datapath.flows()) world.datapath.remove(id)
  world.wait(6_000)
  t.is(world.forwarder.status().flows, 0)
})

test('learned addresses are bounded: further ones are flooded', (t) => {
  const world = new World({ flowLimit: 100 })
  world.put(...bridgeOf(2, false))
  for (let n = 0; n < 10_050; n++) world.send('if0', eth(0x1_0000 + n, 0x99))
  t.is(world.forwarder.status().learned, 10_000)
  t.is(world.send('if1', eth(0x98, 0x1_0000 + 10_049)).length, 1)
  t.is(world.forwarder.status().flows, 100)
})

test('a trace refuses what it cannot understand and says what to do', (t) => {
  const world = new World()
  world.put(...bridgeOf(2))
  t.throws(() => world.forwarder.trace('nobody', '00'), { code: 'NO_PORT' })
  t.throws(() => world.forwarder.trace('p0', '0011'), { code: 'NO_PACKET', message: /14 bytes/ })
  t.throws(() => world.forwarder.trace('p0', 'eth(src=x)'), { code: 'NO_PACKET', message: /hex/ })
  const hex = Buffer.from(eth(1, 2)).toString('hex')
  t.is(world.forwarder.trace('p0', hex).outcome, 'forward')
})
