/**
 * Random happenings in a world: three bridges, two routers, eight exterior bridge ports, four
 * links, two exterior router ports, six routes; interfaces that come and go, time, restarts.
 */
import fc from 'fast-check'
import { formatIp, formatMac, parseMac } from '../../packet/address.ts'
import { type FlowKey, writeField } from '../../packet/flow-key.ts'
import { speakerInterface } from '../../topology/bgp.ts'
import type { BridgePort, RouterPort } from '../../topology/model.ts'
import { address, address6, hostMac, hostMacs, packetKey, routerMacs, subnet } from './arbitrary.ts'
import { frameOf } from './frame.ts'
import { host, put, type World } from './world.ts'

/** A thing that happens to a world. What makes no sense in the world as it is does nothing. */
export interface Happening {
  readonly text: string
  readonly run: (world: World) => void
}

/** A happening of what is drawn; `text` tells it. */
export function happening<T>(
  name: string,
  drawn: fc.Arbitrary<T>,
  run: (world: World, value: T) => void,
): fc.Arbitrary<Happening> {
  return drawn.map((value) => ({
    text: `${name} ${JSON.stringify(value)}`,
    run: (world) => run(world, value),
  }))
}

const index = (count: number) => fc.nat({ max: count - 1 })
const adminUp = fc.constantFrom(true, true, true, false)
/** Of a bridge's port; most bridges are to stay unaware of VLANs. */
const vlan = fc.constantFrom<{ vlan?: number }>({}, {}, {}, {}, {}, { vlan: 5 }, { vlan: 6 })
const prefix = fc.constantFrom(
  '0.0.0.0/0',
  '10.0.0.0/8',
  '10.2.0.0/16',
  '10.2.0.0/25',
  '10.2.0.3/32',
  '20.0.0.0/8',
  '20.128.0.0/9',
  '20.128.64.0/18',
)

const bridge = happening('bridge', fc.record({ n: index(3), adminUp }), (world, one) =>
  world.put(put('bridge', { id: `b${one.n}`, adminUp: one.adminUp })),
)

const router = happening('router', fc.record({ n: index(2), adminUp }), (world, one) =>
  world.put(put('router', { id: `r${one.n}`, adminUp: one.adminUp })),
)

const exteriorPort = happening(
  'port',
  fc.record({
    n: index(8),
    at: index(3),
    adminUp,
    mac: fc.option(hostMac, { nil: undefined }),
    subnet,
    hosts: fc.uniqueArray(fc.constantFrom(2, 3, 4), { maxLength: 2 }),
    vlan,
  }),
  (world, one) => {
    const id = `p${one.n}`
    const mac = one.mac === undefined ? undefined : formatMac(one.mac)
    const addresses = one.hosts.map((n) => formatIp(address(one.subnet, n)))
    if (isTaken(world, id, `b${one.at}`, mac, addresses)) return
    const addresses6 = one.hosts.map((n) => address6(one.subnet, n))
    const stations = mac === undefined ? [] : [{ mac, addresses, addresses6 }]
    const port = bridgePort(id, one.at)
    world.put(
      put('port', { ...port, adminUp: one.adminUp, stations, ...one.vlan }),
      put('binding', { id, host, interface: `if${one.n}` }),
    )
  },
)

/** Whether another port of the bridge has this station's MAC address or one of its addresses. */
function isTaken(
  world: World,
  id: string,
  onBridge: string,
  mac: string | undefined,
  addresses: readonly string[],
): boolean {
  return world.topology
    .list('port')
    .filter((port) => port.kind === 'bridge' && port.bridge === onBridge && port.id !== id)
    .flatMap((port) => (port.kind === 'bridge' ? (port.stations ?? []) : []))
    .some((other) => other.mac === mac || other.addresses.some((text) => addresses.includes(text)))
}

const removePort = happening('remove port', index(8), (world, n) => {
  world.remove('binding', `p${n}`)
  world.remove('port', `p${n}`)
})

/** A router port's routes go before it. */
function dropRoutes(world: World, port: string): void {
  for (const one of world.topology.list('route'))
    if (one.port === port) world.remove('route', one.id)
}

function routerPort(id: string, n: number, at: number, isUp: boolean): RouterPort {
  return {
    id,
    kind: 'router',
    router: `r${at}`,
    adminUp: isUp,
    mac: formatMac(routerMacs[n] ?? 0),
    addresses: [`${formatIp(address(n, 1))}/24`],
    addresses6: [`${address6(n, 1)}/64`],
  }
}

/** The other end of a link between routers. */
function farEnd(n: number): Pick<RouterPort, 'mac' | 'addresses' | 'addresses6'> {
  return {
    mac: '02:00:00:00:00:e0',
    addresses: [`${formatIp(address(n, 2))}/24`],
    addresses6: [`${address6(n, 2)}/64`],
  }
}

function bridgePort(id: string, at: number): BridgePort {
  return { id, kind: 'bridge', bridge: `b${at}`, adminUp: true }
}

const link = happening(
  'link',
  fc.record({
    n: index(4),
    kind: fc.constantFrom('bridges', 'both', 'both', 'both', 'routers'),
    a: index(3),
    b: index(3),
    adminUp,
    vlan,
  }),
  (world, { n, kind, a, b, adminUp: isUp, vlan: ofA }) => {
    removeLink(world, n)
    const [left, right] = [`l${n}a`, `l${n}b`]
    const far = farEnd(n)
    const one =
      kind === 'routers'
        ? { ...routerPort(left, n, a % 2, isUp), ...far }
        : { ...bridgePort(left, a), ...ofA }
    const other = kind === 'bridges' ? bridgePort(right, b) : routerPort(right, n, b % 2, isUp)
    world.put(put('port', { ...one, peer: right }), put('port', { ...other, peer: left }))
  },
)

const unlink = happening('unlink', index(4), removeLink)

function removeLink(world: World, n: number): void {
  for (const id of [`l${n}a`, `l${n}b`]) {
    dropRoutes(world, id)
    world.remove('port', id)
  }
}

const exteriorRouterPort = happening(
  'router port',
  fc.record({
    n: index(2),
    at: index(2),
    adminUp,
    neighbor: fc.option(hostMac, { nil: undefined }),
  }),
  (world, { n, at, adminUp: isUp, neighbor }) => {
    const id = `q${n}`
    const port = routerPort(id, 4 + n, at, isUp)
    const old = world.topology.get('port', id)
    if (old?.kind === 'router' && old.router !== port.router) dropRoutes(world, id)
    const mac = neighbor === undefined ? undefined : formatMac(neighbor)
    const neighbors = mac === undefined ? [] : [{ address: formatIp(address(4 + n, 2)), mac }]
    const neighbors6 = mac === undefined ? [] : [{ address: address6(4 + n, 2), mac }]
    world.put(
      put('port', { ...port, neighbors, neighbors6 }),
      put('binding', { id, host, interface: `qf${n}` }),
    )
  },
)

const route = happening(
  'route',
  fc.record({
    n: index(6),
    at: index(2),
    dst: prefix,
    src: fc.constantFrom('0.0.0.0/0', '0.0.0.0/0', '10.1.0.0/24', '10.0.0.0/9'),
    action: fc.constantFrom('port', 'port', 'port', 'blackhole', 'reject'),
    pick: index(8),
    gateway: fc.constantFrom(2, 3, undefined),
    weight: fc.constantFrom(0, 10, 10),
  }),
  (world, { n, at, dst, src, action, pick, gateway, weight }) => {
    const common = { id: `route${n}`, router: `r${at}`, dst, src, weight }
    if (action !== 'port') {
      world.put(put('route', { ...common, action: action === 'reject' ? 'reject' : 'blackhole' }))
      return
    }
    const port = portOf(world, at, pick)
    if (port === undefined) return
    const network = port.addresses[0]?.split('.').slice(0, 3).join('.')
    const via = gateway === undefined ? {} : { gateway: `${network}.${gateway}` }
    world.put(put('route', { ...common, action: 'port', port: port.id, ...via }))
  },
)

const prefix6 = fc.constantFrom(
  '::/0',
  'fd00::/8',
  'fd00:2::/64',
  'fd00:2::/96',
  'fd00:2::3/128',
  '2001:db8::/32',
  '2001:db8:4000::/34',
)

const route6 = happening(
  'route6',
  fc.record({
    n: index(6),
    at: index(2),
    dst: prefix6,
    src: fc.constantFrom('::/0', '::/0', 'fd00:1::/64', 'fd00::/9'),
    action: fc.constantFrom('port', 'port', 'port', 'blackhole', 'reject'),
    pick: index(8),
    gateway: fc.constantFrom(2, 3, undefined),
    weight: fc.constantFrom(0, 10, 10),
  }),
  (world, { n, at, dst, src, action, pick, gateway, weight }) => {
    const common = { id: `route${n}`, router: `r${at}`, dst, src, weight }
    if (action !== 'port') {
      world.put(put('route', { ...common, action: action === 'reject' ? 'reject' : 'blackhole' }))
      return
    }
    const port = portOf(world, at, pick)
    const network = port?.addresses6?.[0]?.split('::')[0]
    if (port === undefined || network === undefined) return
    const via = gateway === undefined ? {} : { gateway: `${network}::${gateway}` }
    world.put(put('route', { ...common, action: 'port', port: port.id, ...via }))
  },
)

/** One of a router's ports, if it has any. */
function portOf(world: World, at: number, pick: number): RouterPort | undefined {
  const ports = world.topology
    .list('port')
    .filter((one) => one.kind === 'router' && one.router === `r${at}`)
  const port = ports[pick % Math.max(1, ports.length)]
  return port?.kind === 'router' ? port : undefined
}

const removeRoute = happening('remove route', index(6), (world, n) =>
  world.remove('route', `route${n}`),
)

const interfaceChange = happening(
  'interface',
  fc.record({ n: index(8), isLost: fc.boolean() }),
  (world, { n, isLost }) => {
    if (isLost) world.datapath.loseInterface(`if${n}`)
    else world.datapath.gainInterface(`if${n}`)
    world.nowMs += 1_001
    world.forwarder.tick()
  },
)

const wait = happening('wait', fc.constantFrom(200, 1_000, 4_000, 16_000, 70_000), (world, ms) => {
  world.wait(ms, 250)
})

/** Makes a packet one for a router that the interface reaches, if there is one. */
export function aim(world: World, key: FlowKey, interfaceName: string, pick: number): void {
  const ports = world.topology.list('port')
  const bound = world.topology.list('binding').find((one) => one.interface === interfaceName)
  const ingress = ports.find(({ id }) => id === bound?.id)
  const reached =
    ingress?.kind === 'router'
      ? [ingress]
      : ports
          .filter((port) => port.kind === 'bridge' && port.bridge === ingress?.bridge)
          .map(({ peer }) => ports.find(({ id }) => id === peer))
          .filter((port) => port?.kind === 'router')
  const target = reached[pick % Math.max(1, reached.length)]
  if (target?.kind === 'router') writeField(key, 'ethDst', parseMac(target.mac) ?? 0)
}

export const interfaces = [0, 1, 2, 3, 4, 5, 6, 7]
  .map((n) => `if${n}`)
  .concat('qf0', 'qf1', speakerInterface('q0'), speakerInterface('q1'))

/** A packet comes in, often for a router. */
export const arrival = happening(
  'arrival',
  fc.record({
    key: packetKey.map((key) => [...key]),
    on: fc.constantFrom(...interfaces),
    pick: fc.option(index(4), { nil: undefined }),
  }),
  (world, { key: words, on, pick }) => {
    const key = Uint32Array.from(words)
    if (pick !== undefined && (key[8] === 0x0800 || key[8] === 0x86dd)) aim(world, key, on, pick)
    if (world.datapath.ports().some(({ name }) => name === on)) world.send(on, frameOf(key))
  },
)

/** Changes of the topology alone. */
export const topologyChange: fc.Arbitrary<Happening> = fc.oneof(
  { weight: 1, arbitrary: bridge },
  { weight: 1, arbitrary: router },
  { weight: 4, arbitrary: exteriorPort },
  { weight: 1, arbitrary: removePort },
  { weight: 3, arbitrary: link },
  { weight: 1, arbitrary: unlink },
  { weight: 2, arbitrary: exteriorRouterPort },
  { weight: 4, arbitrary: route },
  { weight: 3, arbitrary: route6 },
  { weight: 1, arbitrary: removeRoute },
)

/** The agent dies, the topology changes, a new agent starts. */
const restart = happening(
  'restart',
  fc.tuple(fc.array(topologyChange, { maxLength: 4 }), fc.boolean()),
  (world, [meanwhile, isRemembered]) =>
    world.restart(() => {
      for (const one of meanwhile) one.run(world)
    }, isRemembered),
)

/** Interfaces that come and go, time, and agents that die. */
export const upheaval: fc.Arbitrary<Happening> = fc.oneof(
  { weight: 3, arbitrary: interfaceChange },
  { weight: 1, arbitrary: wait },
  { weight: 1, arbitrary: restart },
)

/** A world with its devices, some ports and links, before anything random happens to it. */
export function furnish(world: World): void {
  world.put(
    ...[0, 1, 2].map((n) => put('bridge', { id: `b${n}`, adminUp: true })),
    ...[0, 1].map((n) => put('router', { id: `r${n}`, adminUp: true })),
  )
  for (let n = 0; n < 8; n++) {
    const mac = formatMac(hostMacs[n] ?? 0)
    const [at, number] = [n % 2, 2 + (n >> 1)]
    const stations = [
      { mac, addresses: [formatIp(address(at, number))], addresses6: [address6(at, number)] },
    ]
    world.put(
      put('port', { ...bridgePort(`p${n}`, n % 2), ...(n < 4 ? { stations } : {}) }),
      put('binding', { id: `p${n}`, host, interface: `if${n}` }),
    )
  }
  for (const n of [0, 1])
    world.put(
      put('port', { ...routerPort(`q${n}`, 4 + n, n, true) }),
      put('binding', { id: `q${n}`, host, interface: `qf${n}` }),
      put('port', { ...bridgePort(`l${n}a`, n), peer: `l${n}b` }),
      put('port', { ...routerPort(`l${n}b`, n, 0, true), peer: `l${n}a` }),
    )
  const [left, right] = [routerPort('l2a', 2, 0, true), routerPort('l2b', 2, 1, true)]
  const far = farEnd(2)
  world.put(
    put('port', { ...left, peer: 'l2b' }),
    put('port', { ...right, ...far, peer: 'l2a' }),
    put('route', { ...wide, id: 'route0', router: 'r0', port: 'l2a', gateway: '10.3.0.2' }),
    put('route', { ...wide, id: 'route1', router: 'r1', port: 'q1', gateway: '10.6.0.2' }),
    put('route', {
      ...wide,
      id: 'route2',
      router: 'r1',
      dst: '10.0.0.0/8',
      port: 'l2b',
      gateway: '10.3.0.1',
    }),
    put('route', { ...wide6, id: 'route3', router: 'r0', port: 'l2a', gateway: 'fd00:2::2' }),
    put('route', { ...wide6, id: 'route4', router: 'r1', port: 'q1', gateway: 'fd00:5::2' }),
  )
}

const wide6 = { dst: '::/0', src: '::/0', action: 'port', weight: 10 } as const
const wide = { dst: '0.0.0.0/0', src: '0.0.0.0/0', action: 'port', weight: 10 } as const
