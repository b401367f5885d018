/** Random happenings to other hosts: ports that move, zones, what hosts tell, packets from them. */
import fc from 'fast-check'
import { formatIp, formatMac } from '../../packet/address.ts'
import { learnedMacId, learnedNeighborId, zoneMemberId } from '../../topology/host-schema.ts'
import { address, address6, hostMac, hostMacs, packetKey, subnet } from './arbitrary.ts'
import { frameOf } from './frame.ts'
import { arrival, type Happening, happening } from './happening.ts'
import { host, put, type World } from './world.ts'

const others = ['host-2', 'host-3'] as const
const anyHost = fc.constantFrom(host, ...others)
const other = fc.constantFrom(...others)
const underlay = fc.constantFrom('192.0.2.1', '192.0.2.2', '192.0.2.3', '192.0.2.4')
const port = fc.constantFrom('p0', 'p1', 'p2', 'p3', 'p4', 'p5', 'p6', 'p7', 'q0', 'q1')
const firstKey = 100

/** Tunnel keys: of ports here and elsewhere, of floods, of nobody. */
export const origin = fc.record({
  id: fc
    .tuple(fc.nat({ max: 10 }), fc.boolean())
    .map(([n, isFlood]) => firstKey + n + (isFlood ? 0x80_0000 : 0)),
  src: fc.constantFrom(0xc000_0202, 0xc000_0202, 0xc000_0203, 0xc000_0204),
})

function bindTo(world: World, id: string, to: string): void {
  const [kind = '', n = ''] = id
  const tunnelKey = firstKey + Number(n) + (kind === 'q' ? 8 : 0)
  const name = kind === 'q' ? `qf${n}` : `if${n}`
  world.put(put('binding', { id, host: to, interface: name, tunnelKey }))
}

const move = happening('move', fc.record({ id: port, to: anyHost }), (world, { id, to }) => {
  if (world.topology.get('port', id) !== undefined) bindTo(world, id, to)
})

function join(world: World, id: string, at: string): void {
  world.put(put('zoneMember', { id: zoneMemberId('z', id), zone: 'z', host: id, address: at }))
}

const member = happening(
  'member',
  fc.record({ who: anyHost, at: underlay, isThere: fc.constantFrom(true, true, true, false) }),
  (world, { who, at, isThere }) => {
    const isTaken = world.topology
      .list('zoneMember')
      .some((one) => one.address === at && one.host !== who)
    if (!isThere) world.remove('zoneMember', zoneMemberId('z', who))
    else if (!isTaken) join(world, who, at)
  },
)

const zone = happening('zone', fc.constantFrom('vxlan', 'vxlan', 'geneve'), (world, kind) =>
  world.put(put('tunnelZone', { id: 'z', encapsulation: kind === 'geneve' ? 'geneve' : 'vxlan' })),
)

const alive = happening(
  'alive',
  fc.record({ id: other, isAlive: fc.boolean() }),
  (world, { id, isAlive }) => {
    if (isAlive) world.put(put('hostAlive', { id, since: '2020-01-01T00:00:00Z' }))
    else world.remove('hostAlive', id)
  },
)

const told = happening(
  'told',
  fc.record({
    at: fc.nat({ max: 2 }),
    mac: hostMac,
    id: port,
    from: anyHost,
    isNews: fc.boolean(),
  }),
  (world, { at, mac: number, id: at_, from, isNews }) => {
    const [bridge, mac] = [`b${at}`, formatMac(number)]
    const id = learnedMacId(bridge, 0, mac)
    if (!isNews) world.remove('learnedMac', id)
    else world.put(put('learnedMac', { id, bridge, vlan: 0, mac, port: at_, host: from }))
  },
)

const toldNeighbor = happening(
  'told neighbor',
  fc.record({
    at: fc.nat({ max: 1 }),
    s: subnet,
    n: fc.constantFrom(2, 3, 4),
    isSix: fc.boolean(),
    mac: hostMac,
    id: fc.constantFrom('q0', 'q1', 'l0b', 'l1b', 'l2a'),
    isNews: fc.constantFrom(true, true, false),
  }),
  (world, one) => {
    const text = one.isSix ? address6(one.s, one.n) : formatIp(address(one.s, one.n))
    const id = learnedNeighborId(`r${one.at}`, text)
    if (!one.isNews) {
      world.remove('learnedNeighbor', id)
      return
    }
    const fact = { id, router: `r${one.at}`, port: one.id, address: text, host: 'host-2' }
    world.put(put('learnedNeighbor', { ...fact, mac: formatMac(one.mac) }))
  },
)

const emergence = happening(
  'from a tunnel',
  fc.record({ key: packetKey.map((key) => [...key]), origin }),
  (world, { key, origin: from }) => {
    const tunnel = world.datapath.ports().find(({ name }) => name.startsWith('mt-'))
    if (tunnel !== undefined) world.send(tunnel.name, frameOf(Uint32Array.from(key)), from)
  },
)

export const peersChange: fc.Arbitrary<Happening> = fc.oneof(
  { weight: 4, arbitrary: move },
  { weight: 2, arbitrary: member },
  { weight: 1, arbitrary: zone },
  { weight: 1, arbitrary: alive },
  { weight: 2, arbitrary: told },
  { weight: 2, arbitrary: toldNeighbor },
  { weight: 4, arbitrary: emergence },
  { weight: 2, arbitrary: arrival },
)

/** Three hosts in a zone; two of the ports, and a router's, are on others. */
export function furnishPeers(world: World): void {
  world.put(put('tunnelZone', { id: 'z', encapsulation: 'vxlan' }))
  for (const [n, id] of [host, ...others].entries()) join(world, id, `192.0.2.${n + 1}`)
  world.put(put('hostAlive', { id: 'host-2', since: '2020-01-01T00:00:00Z' }))
  for (const [n] of hostMacs.entries()) bindTo(world, `p${n}`, host)
  bindTo(world, 'p6', 'host-2')
  bindTo(world, 'p7', 'host-3')
  bindTo(world, 'q1', 'host-2')
}
