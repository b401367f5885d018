/** Random load balancing: one balancer a router, two pools of each, six members, four VIPs. */
import fc from 'fast-check'
import { formatIp } from '../../packet/address.ts'
import { address, subnet } from './arbitrary.ts'
import { type Happening, happening } from './happening.ts'
import { put, type World } from './world.ts'

const up = fc.constantFrom(true, true, true, false)
const router = fc.nat({ max: 1 })

const balancer = happening('balancer', fc.record({ n: router, adminUp: up }), (world, one) =>
  world.put(put('loadBalancer', { id: `lb${one.n}`, router: `r${one.n}`, adminUp: one.adminUp })),
)

const pool = happening(
  'pool',
  fc.record({ n: router, which: fc.nat({ max: 1 }), adminUp: up, isMonitored: fc.boolean() }),
  (world, { n, which, adminUp, isMonitored }) => {
    const monitored = isMonitored ? { healthMonitor: 'hm' } : {}
    const value = { id: `pool${n}${which}`, loadBalancer: `lb${n}`, adminUp, ...monitored }
    world.put(put('balancerPool', value))
  },
)

const member = happening(
  'member',
  fc.record({
    n: fc.nat({ max: 5 }),
    of: router,
    which: fc.nat({ max: 1 }),
    subnet,
    host: fc.constantFrom(2, 3, 4),
    port: fc.constantFrom(0x50, 0x1000),
    weight: fc.constantFrom(0, 1, 1, 5),
    adminUp: up,
    status: fc.constantFrom('active' as const, 'inactive' as const, undefined, undefined),
  }),
  (world, { n, of, which, subnet: s, host, port, weight, adminUp, status }) => {
    const place = { pool: `pool${of}${which}`, address: formatIp(address(s, host)), port }
    const isTaken = world.topology
      .list('poolMember')
      .some((one) => one.id !== `m${n}` && placeOf(one) === placeOf(place))
    if (isTaken) return
    const health = status === undefined ? {} : { status }
    world.put(put('poolMember', { id: `m${n}`, ...place, weight, adminUp, ...health }))
  },
)

const vip = happening(
  'vip',
  fc.record({
    n: fc.nat({ max: 3 }),
    of: router,
    which: fc.nat({ max: 1 }),
    address: fc.oneof(
      fc.tuple(subnet, fc.constantFrom(1, 2, 4, 4)).map(([s, host]) => address(s, host)),
      fc.constantFrom(0x1401_0101, 0x1480_4001),
    ),
    port: fc.constantFrom(0x35, 0x50, 0x1000),
    protocol: fc.constantFrom('tcp' as const, 'udp' as const),
    persistence: fc.constantFrom('none' as const, 'sourceIp' as const),
    adminUp: up,
  }),
  (world, { n, of, which, address: number, ...rest }) => {
    const value = { id: `v${n}`, loadBalancer: `lb${of}`, pool: `pool${of}${which}`, ...rest }
    const place = { ...value, address: formatIp(number) }
    const isTaken = world.topology
      .list('vip')
      .some((one) => one.id !== value.id && listenOf(one) === listenOf(place))
    if (!isTaken) world.put(put('vip', place))
  },
)

const remove = happening(
  'remove balanced',
  fc.constantFrom('m0', 'm1', 'm2', 'v0', 'v1', 'v2'),
  (world, id) => world.remove(id.startsWith('m') ? 'poolMember' : 'vip', id),
)

function placeOf(one: { pool: string; address: string; port: number }): string {
  return `${one.pool} ${one.address} ${one.port}`
}

function listenOf(one: {
  loadBalancer: string
  protocol: string
  address: string
  port: number
}): string {
  return `${one.loadBalancer} ${one.protocol} ${one.address} ${one.port}`
}

/** Changes of load balancing alone. */
export const balanceChange: fc.Arbitrary<Happening> = fc.oneof(
  { weight: 1, arbitrary: balancer },
  { weight: 1, arbitrary: pool },
  { weight: 5, arbitrary: member },
  { weight: 3, arbitrary: vip },
  { weight: 1, arbitrary: remove },
)

/** Balancers with a server each, so that random packets find them. */
export function furnishBalance(world: World): void {
  const often = { delaySeconds: 1, timeoutSeconds: 1, maxRetries: 1 }
  world.put(put('healthMonitor', { id: 'hm', kind: 'tcp', ...often, adminUp: true }))
  for (const n of [0, 1])
    world.put(
      put('loadBalancer', { id: `lb${n}`, router: `r${n}`, adminUp: true }),
      ...[0, 1].map((which) =>
        put('balancerPool', { id: `pool${n}${which}`, loadBalancer: `lb${n}`, adminUp: true }),
      ),
      put('poolMember', {
        id: `m${n}`,
        pool: `pool${n}0`,
        address: formatIp(address(n, 2)),
        port: 0x50,
        weight: 1,
        adminUp: true,
      }),
      put('vip', {
        id: `v${n}`,
        loadBalancer: `lb${n}`,
        pool: `pool${n}0`,
        address: formatIp(address(1 - n, 4)),
        port: 0x50,
        protocol: 'tcp',
        persistence: n === 0 ? 'none' : 'sourceIp',
        adminUp: true,
      }),
    )
}
