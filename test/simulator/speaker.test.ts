/** Router ports with a routing daemon, and the routes that it learns. */
import test from 'ava'
import { parseKey } from '../../packet/text.ts'
import { speakerInterface } from '../../topology/bgp.ts'
import { frameOf } from './frame.ts'
import { host, keyOf, put, World } from './world.ts'

const daemon = speakerInterface('up')
const ours = '02:00:00:00:00:f0'
const theirs = '02:00:00:00:00:02'
const inside = '02:00:00:00:00:0a'
const router = { id: 'r', adminUp: true, asn: 100 } as const
const base = { kind: 'router', router: 'r', adminUp: true } as const

/** A router with port `up` (10.0.1.1/24) to peer 10.0.1.2, and `down` (172.16.0.1/24). */
function edge(): World {
  const world = new World()
  world.put(
    put('router', router),
    put('port', { ...base, id: 'up', mac: ours, addresses: ['10.0.1.1/24'] }),
    put('port', {
      ...base,
      id: 'down',
      mac: '02:00:00:00:00:f1',
      addresses: ['172.16.0.1/24'],
      neighbors: [{ address: '172.16.0.2', mac: inside }],
    }),
    put('binding', { id: 'up', host, interface: 'eth1' }),
    put('binding', { id: 'down', host, interface: 'eth2' }),
    put('bgpPeer', { id: 'peer', router: 'r', asn: 3, address: '10.0.1.2' }),
  )
  return world
}

interface Segment {
  readonly src?: string
  readonly dst?: string
  readonly protocol?: number
  readonly ports?: readonly [number, number]
  readonly mac?: readonly [string, string]
}

function segment({
  src = '10.0.1.2',
  dst = '10.0.1.1',
  protocol = 6,
  ports: [from, to] = [40_000, 179],
  mac: [ethSrc, ethDst] = [theirs, ours],
}: Segment): Uint8Array {
  const name = protocol === 6 ? 'tcp' : 'udp'
  const { key } = parseKey(
    `eth(src=${ethSrc},dst=${ethDst}),eth_type(0x0800),ipv4(src=${src},dst=${dst},` +
      `proto=${protocol},tos=0,ttl=1,frag=no),${name}(src=${from},dst=${to})`,
  )
  return frameOf(key)
}

function arp(op: 1 | 2, src: string, dst: string, from = theirs, to = ours): Uint8Array {
  const { key } = parseKey(
    `eth(src=${from},dst=${to}),eth_type(0x0806),` +
      `arp(sip=${src},tip=${dst},op=${op},sha=${from},tha=${to})`,
  )
  return frameOf(key)
}

const leaves = (sent: readonly { readonly interface: string }[]) => sent.map((one) => one.interface)

test('BGP and BFD of a peer go to the daemon as they are', (t) => {
  const world = edge()
  for (const one of [
    segment({}),
    segment({ ports: [179, 40_000] }),
    segment({ protocol: 17, ports: [50_000, 3784] }),
    segment({ protocol: 17, ports: [50_000, 4784] }),
  ]) {
    const sent = world.send('eth1', one)
    t.deepEqual(leaves(sent), [daemon])
    t.deepEqual(sent[0]?.frame, one)
  }
  t.is(world.datapath.counters().flows, 4)
})

test('nothing else reaches the daemon', (t) => {
  const world = edge()
  for (const one of [
    segment({ src: '10.0.1.3' }),
    segment({ ports: [40_000, 22] }),
    segment({ protocol: 17, ports: [50_000, 179] }),
    segment({ dst: '172.16.0.1' }),
  ])
    t.false(leaves(world.send('eth1', one)).includes(daemon))
  // From inside, past the router.
  const from = segment({ src: '172.16.0.2', mac: [inside, '02:00:00:00:00:f1'] })
  t.false(leaves(world.send('eth2', from)).includes(daemon))
})

test('what the daemon sends leaves by its port as it is, from its MAC address only', (t) => {
  const world = edge()
  const out = segment({ src: '10.0.1.1', dst: '10.0.1.2', mac: [ours, theirs] })
  const sent = world.send(daemon, out)
  t.deepEqual(leaves(sent), ['eth1'])
  t.deepEqual(sent[0]?.frame, out)
  const ask = arp(1, '10.0.1.1', '10.0.1.2', ours, 'ff:ff:ff:ff:ff:ff')
  t.deepEqual(leaves(world.send(daemon, ask)), ['eth1'])
  t.deepEqual(leaves(world.send(daemon, segment({ mac: [inside, theirs] }))), [])
})

test('a peer answers ARP to router and daemon', (t) => {
  const world = edge()
  t.deepEqual(leaves(world.send('eth1', arp(2, '10.0.1.2', '10.0.1.1'))), [daemon])
  const learned = { id: 'l', router: 'r', dst: '20.0.0.0/8', port: 'up', gateway: '10.0.1.2' }
  world.put(put('learnedRoute', { ...learned, weight: 20, host }))
  // Known already: nobody is asked.
  const away = segment({ src: '172.16.0.2', dst: '20.0.0.1', mac: [inside, '02:00:00:00:00:f1'] })
  t.deepEqual(leaves(world.send('eth2', patient(away))), ['eth1'])
})

test('without a peer, an AS number or the binding there is no daemon', (t) => {
  const world = edge()
  t.deepEqual(leaves(world.send('eth1', segment({}))), [daemon])
  world.remove('bgpPeer', 'peer')
  t.deepEqual(leaves(world.send('eth1', segment({}))), ['eth1'], 'a reset')
  t.false(world.datapath.ports().some(({ name }) => name === daemon))
  world.put(put('bgpPeer', { id: 'peer', router: 'r', asn: 3, address: '10.0.1.2' }))
  t.deepEqual(leaves(world.send('eth1', segment({}))), [daemon])
  const { asn: _, ...plain } = router
  world.put(put('router', plain))
  t.false(world.datapath.ports().some(({ name }) => name === daemon))
})

test('chains do not cut a session', (t) => {
  const world = edge()
  world.put(
    put('chain', { id: 'closed' }),
    put('rule', { id: 'x', chain: 'closed', position: 1, action: { kind: 'drop' } }),
    put('router', { ...router, inboundChain: 'closed', outboundChain: 'closed' }),
  )
  t.deepEqual(leaves(world.send('eth1', segment({}))), [daemon])
  const out = segment({ src: '10.0.1.1', dst: '10.0.1.2', mac: [ours, theirs] })
  t.deepEqual(leaves(world.send(daemon, out)), ['eth1'])
})

test('the link to the daemon may come late and be lost', (t) => {
  const world = edge()
  world.datapath.loseInterface(daemon)
  world.wait(1_100)
  t.false(leaves(world.send('eth1', segment({}))).includes(daemon))
  world.datapath.gainInterface(daemon)
  world.wait(1_100)
  t.deepEqual(leaves(world.send('eth1', segment({}))), [daemon])
})

test('equal learned routes share connections, and one that is withdrawn has none', (t) => {
  const world = edge()
  world.put(
    put('port', { ...base, id: 'other', mac: '02:00:00:00:00:f2', addresses: ['10.0.2.1/24'] }),
    put('binding', { id: 'other', host, interface: 'eth3' }),
  )
  world.send('eth1', arp(2, '10.0.1.2', '10.0.1.1'))
  world.send('eth3', arp(2, '10.0.2.2', '10.0.2.1', '02:00:00:00:00:03', '02:00:00:00:00:f2'))
  const route = { router: 'r', dst: '20.0.0.0/8', weight: 20, host }
  world.put(
    put('learnedRoute', { ...route, id: 'a', port: 'up', gateway: '10.0.1.2' }),
    put('learnedRoute', { ...route, id: 'b', port: 'other', gateway: '10.0.2.2' }),
  )
  const ways = () => {
    const seen = new Map<string, number>()
    for (let port = 1; port <= 64; port++) {
      const away = segment({
        src: '172.16.0.2',
        dst: '20.0.0.1',
        ports: [1_000 + port, 80],
        mac: [inside, '02:00:00:00:00:f1'],
      })
      for (const name of leaves(world.send('eth2', patient(away))))
        seen.set(name, (seen.get(name) ?? 0) + 1)
    }
    return seen
  }
  const shared = ways()
  t.true((shared.get('eth1') ?? 0) > 10 && (shared.get('eth3') ?? 0) > 10)
  world.remove('learnedRoute', 'a')
  t.deepEqual([...ways()], [['eth3', 64]])
  world.remove('learnedRoute', 'b')
  t.false(ways().has('eth3'))
})

test('a new agent keeps the flows of a session', (t) => {
  const world = edge()
  world.send('eth1', segment({}))
  world.send(daemon, segment({ src: '10.0.1.1', dst: '10.0.1.2', mac: [ours, theirs] }))
  const before = world.datapath.counters().flows
  world.restart()
  t.is(world.datapath.counters().flows, before)
  t.is(before, 2)
})

/** The same with time to live for a router. */
function patient(frame: Uint8Array): Uint8Array {
  const key = keyOf(frame)
  key[9] = ((key[9] ?? 0) & 0xff00_ffff) | (64 << 16)
  return frameOf(key)
}
