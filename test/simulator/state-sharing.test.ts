/** Connections whose answers come by another host than the one they left by. */
import test, { type ExecutionContext } from 'ava'
import { limits as channelLimits } from '../../simulator/state-channel.ts'
import type { Port, Route } from '../../topology/model.ts'
import type { Cluster } from './cluster.ts'
import {
  addresses,
  cluster,
  defaultRoute,
  describe,
  firewallRules,
  frame,
  publicAddress,
  snatRules,
  sourceOf,
} from './cluster-world.ts'
import { put } from './world.ts'

const server = '8.8.8.8'
const [syn, synAck, ack, finAck] = [2, 18, 16, 17]

/** Opens a connection from in1; returns the source port that the outside sees. */
function open(t: ExecutionContext, world: Cluster, srcPort = 4000): number {
  const [out, ...more] = world.exchange('in1', there(srcPort, syn))
  t.deepEqual(more, [])
  if (out === undefined) {
    t.fail('nothing left')
    return 0
  }
  return sourceOf(out)
}

function there(srcPort: number, flags: number) {
  return frame({ from: 'in1', src: addresses.in1 ?? '', dst: server, srcPort, dstPort: 80, flags })
}

function back(from: 'up2' | 'up3', dstPort: number, flags: number, dst = publicAddress) {
  return frame({ from, src: server, dst, srcPort: 80, dstPort, flags })
}

function seen(world: Cluster, port: string, bytes: Uint8Array, ms?: number): string[] {
  return world.exchange(port, bytes, ms).map(describe)
}

test('a translation is undone by the other gateway', (t) => {
  const world = cluster(snatRules(1024, 65_535))
  const port = open(t, world)
  t.deepEqual(seen(world, 'up3', back('up3', port, synAck)), [
    `h1 in1: ${server}:80 > 10.0.0.2:4000`,
  ])
  t.deepEqual(seen(world, 'in1', there(4000, ack)), [
    `h2 up2: ${publicAddress}:${port} > ${server}:80`,
  ])
  for (const { forwarder } of world.hosts) t.is(forwarder.status().connections, 1)
})

test('hosts that hear nothing of each other give no port twice', (t) => {
  const world = cluster(snatRules(1024, 65_535))
  world.bind('in4', 'h3')
  world.isCut = (_from, _to, isState) => isState
  const port = open(t, world)
  const other = { from: 'in4', src: addresses.in4 ?? '', dst: server, dstPort: 80, flags: syn }
  const [out] = world.exchange('in4', frame({ ...other, srcPort: 4000 }), 2_500)
  t.truthy(out)
  if (out !== undefined) t.not(sourceOf(out), port)
})

test('a port that nobody has a connection at stays closed', (t) => {
  const world = cluster(snatRules(1024, 65_535))
  const port = open(t, world)
  t.deepEqual(seen(world, 'up3', back('up3', port + 1, synAck), 1000), [])
  t.deepEqual(seen(world, 'up2', back('up2', port + 1, synAck), 1000), [])
})

test('a firewall on the router lets answers in by the other gateway, and nothing else', (t) => {
  const world = cluster(firewallRules)
  const inside = addresses.in1 ?? ''
  t.is(open(t, world), 4000)
  t.deepEqual(seen(world, 'up3', back('up3', 4000, synAck, inside)), [
    `h1 in1: ${server}:80 > ${inside}:4000`,
  ])
  t.deepEqual(seen(world, 'up3', back('up3', 4001, synAck, inside), 1000), [])
  t.deepEqual(seen(world, 'up3', back('up3', 4001, syn, inside)), [])
})

test('state that is late is waited for, not without end', (t) => {
  const world = cluster(snatRules(1024, 65_535))
  world.isCut = (_, to, isState) => isState && to === 'h3'
  const port = open(t, world)
  world.delivered.length = 0
  world.send('up3', back('up3', port, synAck))
  world.run(20)
  t.deepEqual(world.delivered, [])
  t.is(world.host('h3').forwarder.status().awaited, 1)
  world.isCut = () => false
  world.run(150)
  t.deepEqual(world.delivered.map(describe), [`h1 in1: ${server}:80 > 10.0.0.2:4000`])

  world.isCut = (_, to, isState) => isState && to === 'h3'
  const other = open(t, world, 4001)
  t.deepEqual(seen(world, 'up3', back('up3', other, synAck), 400), [])
  t.is(world.host('h3').forwarder.status().awaited, 0)
})

test('the first packet of a connection waits for nothing, whatever it asks for', (t) => {
  const world = cluster(snatRules(1024, 65_535))
  t.is(world.exchange('in1', there(4000, syn), 5).length, 1)
  for (const { forwarder } of world.hosts) t.is(forwarder.status().awaited, 0)
  const datagram = { src: addresses.in1 ?? '', dst: server, srcPort: 53, dstPort: 53 } as const
  const out = seen(world, 'in1', frame({ from: 'in1', protocol: 17, ...datagram }), 5)
  t.is(out.length, 1)
})

test('state is told once for each host and change, and acknowledged', (t) => {
  const world = cluster(snatRules(1024, 65_535))
  const before = world.stateFrames
  const port = open(t, world)
  // To the owner of the gateway's port and to the other member of its group; two answers.
  t.is(world.stateFrames - before, 4)
  world.exchange('up3', back('up3', port, synAck))
  world.exchange('in1', there(4000, ack))
  // The answer was seen, by h3; the other two are told.
  t.is(world.stateFrames - before, 8)
  world.run(5_000)
  t.is(world.stateFrames - before, 8)
})

test('who closes a connection is known by all', (t) => {
  const world = cluster(snatRules(1024, 65_535))
  const port = open(t, world)
  world.exchange('up3', back('up3', port, synAck))
  world.exchange('in1', there(4000, finAck))
  world.exchange('up3', back('up3', port, finAck))
  world.exchange('in1', there(4000, ack))
  world.run(60_000, 250)
  for (const { forwarder } of world.hosts) t.is(forwarder.status().connections, 0)
})

test('a connection in use at one host does not end at the others', (t) => {
  const world = cluster(snatRules(1024, 65_535))
  const datagram = { src: addresses.in1 ?? '', dst: server, srcPort: 53, dstPort: 53 } as const
  const [out] = world.exchange('in1', frame({ from: 'in1', protocol: 17, ...datagram }))
  const port = out === undefined ? 0 : sourceOf(out)
  // Never answered: it would end after 60 s.
  for (let at = 0; at < 30; at++) {
    world.exchange('in1', frame({ from: 'in1', protocol: 17, ...datagram }), 0)
    world.run(10_000, 250)
  }
  const reply = { src: server, dst: publicAddress, srcPort: 53, dstPort: port } as const
  t.deepEqual(seen(world, 'up3', frame({ from: 'up3', protocol: 17, ...reply })), [
    `h1 in1: ${server}:53 > 10.0.0.2:53`,
  ])
  world.run(900_000, 250)
  for (const { forwarder } of world.hosts) t.is(forwarder.status().connections, 0)
})

test('an agent that starts again asks the others for what it knew', (t) => {
  const world = cluster(snatRules(1024, 65_535))
  const port = open(t, world)
  world.exchange('up3', back('up3', port, synAck))
  // Its flows have gone, so they tell nothing; more than a table of state is lost with them.
  world.run(40_000, 250)
  for (const name of ['h1', 'h3']) {
    world.restart(name)
    world.run(100)
    t.is(world.host(name).forwarder.status().connections, 1)
  }
  t.deepEqual(seen(world, 'in1', there(4000, ack)), [
    `h2 up2: ${publicAddress}:${port} > ${server}:80`,
  ])
  t.deepEqual(seen(world, 'up3', back('up3', port, ack)), [`h1 in1: ${server}:80 > 10.0.0.2:4000`])
})

test('an agent that starts again learns from whoever else was told what it should know', (t) => {
  const world = cluster(snatRules(1024, 65_535))
  const port = open(t, world)
  world.run(100)
  // Whom it was told to, the host that it came in by knew alone.
  world.bind('in1', 'h3')
  world.isCut = (from, to) => from === 'h1' || to === 'h1'
  world.restart('h3')
  world.run(3_000)
  t.deepEqual(seen(world, 'in1', there(4000, ack), 2_500), [
    `h2 up2: ${publicAddress}:${port} > ${server}:80`,
  ])
})

test('a packet that comes before a new agent has its state waits for that', (t) => {
  const world = cluster(snatRules(1024, 65_535))
  const port = open(t, world)
  world.exchange('up3', back('up3', port, synAck))
  world.run(40_000, 250)
  world.restart('h1')
  t.deepEqual(seen(world, 'in1', there(4000, ack), 100), [
    `h2 up2: ${publicAddress}:${port} > ${server}:80`,
  ])
})

test('connections follow a port that moves to another host', (t) => {
  const world = cluster(snatRules(1024, 65_535))
  const port = open(t, world)
  world.exchange('up3', back('up3', port, synAck))
  world.bind('in1', 'h3')
  t.deepEqual(seen(world, 'in1', there(4000, ack), 100), [
    `h2 up2: ${publicAddress}:${port} > ${server}:80`,
  ])
  world.bind('up2', 'h1')
  t.deepEqual(seen(world, 'up2', back('up2', port, ack), 100), [
    `h3 in1: ${server}:80 > 10.0.0.2:4000`,
  ])
})

test("a port takes its own chain's connections along", (t) => {
  const world = cluster([
    put('chain', { id: 'guard' }),
    put('rule', {
      id: 'own-answers',
      chain: 'guard',
      position: 1,
      condition: { flow: { is: 'return' } },
      action: { kind: 'accept' },
    }),
    put('rule', { id: 'own-refuse', chain: 'guard', position: 2, action: { kind: 'drop' } }),
    put('chain', { id: 'watch' }),
    put('rule', {
      id: 'watch',
      chain: 'watch',
      position: 1,
      condition: { flow: { is: 'forward' } },
      action: { kind: 'accept' },
    }),
  ])
  const port = world.topology.get('port', 'in1')
  if (port !== undefined)
    world.put(put('port', { ...port, inboundChain: 'watch', outboundChain: 'guard' }))
  const inside = addresses.in1 ?? ''
  open(t, world)
  const answer = `${server}:80 > ${inside}:4000`
  t.deepEqual(seen(world, 'up2', back('up2', 4000, synAck, inside)), [`h1 in1: ${answer}`])
  t.is(world.host('h2').forwarder.status().connections, 0)
  world.bind('in1', 'h3')
  t.deepEqual(seen(world, 'up2', back('up2', 4000, ack, inside), 100), [`h3 in1: ${answer}`])
})

test('another way out: the new gateway is told before the packet', (t) => {
  const world = cluster(snatRules(1024, 65_535))
  const port = open(t, world)
  const group = world.topology.get('portGroup', 'ups')
  if (group !== undefined) world.put(put('portGroup', { ...group, stateful: false }))
  const second = open(t, world, 4001)
  t.is(world.host('h3').forwarder.status().connections, 1)
  world.put(defaultRoute('up3'))
  for (const [srcPort, nat] of [
    [4000, port],
    [4001, second],
  ] as const) {
    const out = [`h3 up3: ${publicAddress}:${nat} > ${server}:80`]
    t.deepEqual(seen(world, 'in1', there(srcPort, ack)), out)
    t.is(seen(world, 'up3', back('up3', nat, ack)).length, 1)
  }
})

test('a VIP keeps to its member whichever gateway a packet comes by', (t) => {
  const world = cluster([
    put('loadBalancer', { id: 'lb', router: 'r', adminUp: true }),
    put('balancerPool', { id: 'pool', loadBalancer: 'lb', adminUp: true }),
    ...(['in1', 'in4'] as const).map((id) =>
      put('poolMember', {
        id,
        pool: 'pool',
        address: addresses[id] ?? '',
        port: 8080,
        weight: 1,
        adminUp: true,
      }),
    ),
    put('vip', {
      id: 'vip',
      pool: 'pool',
      loadBalancer: 'lb',
      address: publicAddress,
      port: 80,
      protocol: 'tcp',
      persistence: 'sourceIp',
      adminUp: true,
    }),
  ])
  const ask = (from: 'up2' | 'up3', srcPort: number, flags: number) =>
    frame({ from, src: server, dst: publicAddress, srcPort, dstPort: 80, flags })
  const [first] = seen(world, 'up2', ask('up2', 7000, syn))
  const member = first?.includes('in1') === true ? 'in1' : 'in4'
  const toMember = `h1 ${member}: ${server}:7000 > ${addresses[member]}:8080`
  t.is(first, toMember)
  t.deepEqual(seen(world, 'up3', ask('up3', 7000, ack)), [toMember])
  const answer = {
    ...{ from: member, src: addresses[member] ?? '', dst: server },
    ...{ srcPort: 8080, dstPort: 7000, flags: synAck },
  }
  const answered = [`h2 up2: ${publicAddress}:80 > ${server}:7000`]
  t.deepEqual(seen(world, member, frame(answer)), answered)

  // Agents come and go; what they left in the datapath and what others know make them know all.
  for (const name of ['h1', 'h2', 'h3', 'h1']) {
    world.restart(name)
    t.deepEqual(seen(world, 'up3', ask('up3', 7000, ack), 100), [toMember])
    t.deepEqual(seen(world, member, frame(answer), 100), answered)
    world.run(2_000)
    t.deepEqual(seen(world, 'up3', ask('up3', 7000, ack), 100), [toMember])
    t.deepEqual(seen(world, member, frame({ ...answer, flags: ack }), 100), answered)
  }

  // The other member becomes the better one for new clients; this client stays.
  const better = world.topology.get('poolMember', member === 'in1' ? 'in4' : 'in1')
  if (better !== undefined) world.put(put('poolMember', { ...better, weight: 100 }))
  const [next] = seen(world, 'up3', ask('up3', 7001, syn))
  t.is(next, `h1 ${member}: ${server}:7001 > ${addresses[member]}:8080`)
})

test('of equal ways out the answer of a member takes the one that its question came by', (t) => {
  const member = { id: 'in1', pool: 'pool', address: addresses.in1 ?? '', port: 8080, weight: 1 }
  const world = cluster([
    put('route', { ...defaultRoute('up3').value, id: 'other' } as Route),
    // Shorter packets than the uplinks': flows look at the length before they do anything.
    put('bridge', { id: 'b', adminUp: true, mtu: 1400 }),
    put('loadBalancer', { id: 'lb', router: 'r', adminUp: true }),
    put('balancerPool', { id: 'pool', loadBalancer: 'lb', adminUp: true }),
    put('poolMember', { ...member, adminUp: true }),
    put('vip', {
      ...{ id: 'vip', pool: 'pool', loadBalancer: 'lb', address: publicAddress, port: 80 },
      ...{ protocol: 'tcp', persistence: 'none', adminUp: true },
    }),
  ])
  for (let srcPort = 7000; srcPort < 7012; srcPort++)
    for (const up of ['up2', 'up3'] as const) {
      const port = srcPort + (up === 'up2' ? 0 : 100)
      const ask = { from: up, src: server, dst: publicAddress, srcPort: port, dstPort: 80 }
      const answer = { from: 'in1', src: member.address, dst: server, srcPort: 8080, dstPort: port }
      for (const flags of [syn, ack]) {
        t.is(seen(world, up, frame({ ...ask, flags })).length, 1)
        t.deepEqual(seen(world, 'in1', frame({ ...answer, flags: synAck })), [
          `h${up.slice(2)} ${up}: ${publicAddress}:80 > ${server}:${port}`,
        ])
      }
    }
})

test("a gateway's port of another host brings its routes, also when all comes at once", (t) => {
  const world = cluster([])
  const up3 = world.topology.get('port', 'up3')
  const uplink = (mac: string) =>
    put('port', {
      ...(up3 as Extract<Port, { kind: 'router' }>),
      id: 'up4',
      addresses: ['100.64.0.1/24'],
      mac,
    })
  world.put(
    uplink('02:00:00:00:00:d4'),
    put('binding', { id: 'up4', host: 'h3', interface: 'up4', tunnelKey: 99 }),
    put('route', { ...defaultRoute('up3').value, id: 'nearer', port: 'up4', weight: 0 } as Route),
  )
  world.run(50)
  const out = [`h3 up4: ${addresses.in1}:4000 > ${server}:80`]
  t.deepEqual(seen(world, 'in1', there(4000, syn)), out)
  // Made anew, since another address is another port.
  world.put(uplink('02:00:00:00:00:d5'))
  t.deepEqual(seen(world, 'in1', there(4000, ack)), out)
})

test('15 idle minutes behind a VIP: a connection stays with its member', (t) => {
  const member = (id: 'in1' | 'in4', weight: number) =>
    put('poolMember', {
      ...{ id, pool: 'pool', address: addresses[id] ?? '', port: 8080, weight, adminUp: true },
    })
  const world = cluster([
    put('loadBalancer', { id: 'lb', router: 'r', adminUp: true }),
    put('balancerPool', { id: 'pool', loadBalancer: 'lb', adminUp: true }),
    member('in1', 1),
    member('in4', 0),
    put('vip', {
      ...{ id: 'vip', pool: 'pool', loadBalancer: 'lb', address: publicAddress, port: 80 },
      ...{ protocol: 'tcp', persistence: 'none', adminUp: true },
    }),
  ])
  const ask = { from: 'up2', src: server, dst: publicAddress, srcPort: 7000, dstPort: 80 } as const
  const answer = { from: 'in1', src: addresses.in1 ?? '', dst: server, srcPort: 8080 } as const
  const asked = [`h1 in1: ${server}:7000 > ${addresses.in1}:8080`]
  t.deepEqual(seen(world, 'up2', frame({ ...ask, flags: syn })), asked)
  t.is(seen(world, 'in1', frame({ ...answer, dstPort: 7000, flags: synAck })).length, 1)
  t.deepEqual(seen(world, 'up2', frame({ ...ask, flags: ack })), asked)
  // Who begins now goes to the other one.
  world.put(member('in1', 0), member('in4', 1))
  world.run(15 * 60_000 + 20_000, 1_000)
  for (const { datapath } of world.hosts) t.is(datapath.flows.length, 0, 'all flows have gone')
  t.deepEqual(seen(world, 'up2', frame({ ...ask, flags: ack })), asked)
  const other = frame({ ...ask, srcPort: 7001, flags: syn })
  t.deepEqual(seen(world, 'up2', other), [`h1 in4: ${server}:7001 > ${addresses.in4}:8080`])
})

test('a stranger is not listened to', (t) => {
  const world = cluster(snatRules(1024, 65_535))
  open(t, world)
  const { datapath, forwarder } = world.host('h3')
  const message = new Uint8Array(60)
  message.set([0xac, 0xca, 0xba, 0, 0x15, 2, 0xac, 0xca, 0xba, 0, 0x15, 1, 0x88, 0xb5, 1, 1])
  datapath.inject('mt-vxlan', message, { id: 0xff_ffff, src: 0x0102_0304 })
  world.run(50)
  t.is(forwarder.status().stateMessages.strangers, 1)
  datapath.inject('mt-vxlan', message.slice(0, 20), { id: 0xff_ffff, src: 0xac10_0001 })
  world.run(50)
  t.is(forwarder.status().stateMessages.malformed, 1)
})

test('a host that heard nothing for long is told all when it is heard again', (t) => {
  const world = cluster(snatRules(1024, 65_535))
  world.isCut = (from, to) => from === 'h3' || to === 'h3'
  const ports = [open(t, world, 4000), open(t, world, 4001)]
  world.run(20_000, 50)
  t.is(world.host('h1').forwarder.status().stateMessages.givenUp > 0, true)
  t.is(world.host('h3').forwarder.status().connections, 0)
  world.isCut = () => false
  open(t, world, 4002)
  world.run(1_000)
  for (const [at, port] of ports.entries())
    t.deepEqual(seen(world, 'up3', back('up3', port, synAck)), [
      `h1 in1: ${server}:80 > 10.0.0.2:${4000 + at}`,
    ])
  t.true(channelLimits.retries > 0)
})
