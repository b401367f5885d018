/** Random chains, rules, groups and filters: four chains, sixteen rules, two groups of each kind. */
import fc from 'fast-check'
import { formatIp, formatMac } from '../../packet/address.ts'
import type { Condition, RuleAction } from '../../topology/model.ts'
import { address, address6, hostMac, subnet } from './arbitrary.ts'
import type { Happening } from './happening.ts'
import { put, type World } from './world.ts'

const chain = fc.nat({ max: 3 }).map((n) => `c${n}`)
const port = fc.constantFrom('p0', 'p1', 'p2', 'p3', 'p4', 'q0', 'q1', 'l0a', 'l0b', 'l1b')
const cidr = fc
  .tuple(subnet, fc.constantFrom(1, 2, 3, 4), fc.constantFrom(0, 8, 16, 24, 31, 32))
  .map(([s, n, length]) => `${formatIp(address(s, n))}/${length}`)
const cidr6 = fc
  .tuple(subnet, fc.constantFrom(1, 2, 3, 4), fc.constantFrom(0, 8, 32, 64, 127, 128))
  .map(([s, n, length]) => `${address6(s, n)}/${length}`)
const eitherCidr = fc.oneof({ weight: 2, arbitrary: cidr }, { weight: 1, arbitrary: cidr6 })
const publicIp6 = fc.constantFrom('fd00:4::1', 'fd00:5::1', '2001:db8::1', 'fd00:1::3')
const publicIp = fc.constantFrom('10.5.0.1', '10.6.0.1', '20.1.1.1', '10.2.0.3')
const tpPorts = fc.constantFrom(
  { first: 0x50, last: 0x50 },
  { first: 0, last: 8 },
  { first: 0x1000, last: 0x2000 },
  { first: 0x35, last: 0x60 },
)

function field<T>(value: fc.Arbitrary<T>): fc.Arbitrary<{ is: T; not?: boolean }> {
  return fc
    .record({ is: value, not: fc.constantFrom(false, false, true) })
    .map(({ is, not }) => (not ? { is, not } : { is }))
}

/** Conditions of few fields, so that packets meet them. */
export const condition: fc.Arbitrary<Condition> = fc
  .record(
    {
      inPorts: field(fc.tuple(port)),
      outPorts: field(fc.tuple(port)),
      inPortGroup: field(fc.constantFrom('pg0', 'pg1')),
      portGroup: field(fc.constantFrom('pg0', 'pg1')),
      traversed: field(
        fc.constantFrom(
          { kind: 'bridge', id: 'b0' } as const,
          { kind: 'router', id: 'r0' } as const,
        ),
      ),
      ethType: field(fc.constantFrom(0x0800, 0x0806, 0x86dd)),
      ethSrc: field(
        fc.record({ address: hostMac.map(formatMac), mask: fc.constant('ff:ff:ff:ff:ff:fe') }),
      ),
      ethDst: field(fc.record({ address: hostMac.map(formatMac) })),
      vlan: field(fc.constantFrom(5, 'none' as const)),
      tos: field(fc.constantFrom(0, 8)),
      protocol: field(fc.constantFrom(1, 6, 17, 58)),
      src: field(eitherCidr),
      dst: field(eitherCidr),
      srcGroup: field(fc.constantFrom('ag0', 'ag1')),
      dstGroup: field(fc.constantFrom('ag0', 'ag1')),
      srcPorts: field(tpPorts),
      dstPorts: field(tpPorts),
      flow: field(fc.constantFrom('forward' as const, 'return' as const)),
      dstRewritten: fc.boolean(),
      icmpDataSrc: field(eitherCidr),
    },
    { requiredKeys: [] },
  )
  .chain((all) =>
    fc
      .tuple(
        fc.subarray(Object.entries(all), { maxLength: Math.min(3, Object.keys(all).length) }),
        fc.constantFrom(false, false, false, true),
        fc.constantFrom(undefined, undefined, 'header', 'unfragmented', 'nonHeader'),
      )
      .map(([some, invert, fragments]) => ({
        ...Object.fromEntries(some),
        ...(invert ? { invert } : {}),
        ...(fragments === undefined ? {} : { fragments }),
      })),
  )

const verdict = fc.constantFrom('accept' as const, 'continue' as const, 'return' as const)
const natPorts = fc.constantFrom({ first: 0x1000, last: 0x1003 }, { first: 1024, last: 65535 })

export const action: fc.Arbitrary<RuleAction> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc
      .constantFrom('accept', 'drop', 'reject', 'return', 'continue')
      .map((kind) => ({ kind: kind as 'accept' })),
  },
  { weight: 2, arbitrary: chain.map((id) => ({ kind: 'jump' as const, chain: id })) },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constantFrom('staticSnat' as const, 'staticDnat' as const),
      address: fc.oneof(publicIp, publicIp6),
      verdict,
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constantFrom('snat' as const, 'dnat' as const),
      targets: fc.tuple(
        fc
          .record({ first: fc.oneof(publicIp, publicIp6), ports: natPorts })
          .map((one) => ({ ...one, last: one.first })),
      ),
      verdict,
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constantFrom('prefixSnat' as const, 'prefixDnat' as const),
      from: fc.constantFrom('fd00:1::/48', '2001:db8::/48'),
      to: fc.constantFrom('fd00:2::/48', '2001:db8:4000::/48'),
      verdict,
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ kind: fc.constant('masquerade' as const), ports: natPorts, verdict }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constantFrom('reverseSnat' as const, 'reverseDnat' as const),
      verdict,
    }),
  },
)

function happen<T>(
  name: string,
  drawn: fc.Arbitrary<T>,
  run: (world: World, value: T) => void,
): fc.Arbitrary<Happening> {
  return drawn.map((value) => ({
    text: `${name} ${JSON.stringify(value)}`,
    run: (world) => run(world, value),
  }))
}

const rule = happen(
  'rule',
  fc.record({ n: fc.nat({ max: 15 }), chain, condition, action }),
  (world, { n, ...one }) => world.put(put('rule', { id: `rule${n}`, position: n, ...one })),
)

const removeRule = happen('remove rule', fc.nat({ max: 15 }), (world, n) =>
  world.remove('rule', `rule${n}`),
)

const addresses = happen(
  'addresses',
  fc.record({
    n: fc.nat({ max: 1 }),
    hosts: fc.uniqueArray(
      fc.tuple(subnet, fc.constantFrom(2, 3)).map(([s, n]) => address(s, n)),
      {
        maxLength: 5,
      },
    ),
  }),
  (world, { n, hosts }) =>
    world.put(put('addressGroup', { id: `ag${n}`, addresses: hosts.map(formatIp) })),
)

const someChain = fc.option(chain, { nil: undefined })

const filter = happen(
  'filter',
  fc.record({
    on: fc.oneof(
      port.map((id) => ({ kind: 'port' as const, id })),
      fc.constantFrom('b0', 'b1').map((id) => ({ kind: 'bridge' as const, id })),
      fc.constantFrom('r0', 'r1').map((id) => ({ kind: 'router' as const, id })),
    ),
    inbound: someChain,
    outbound: someChain,
    groups: fc.subarray(['pg0', 'pg1']),
  }),
  (world, { on, inbound, outbound, groups }) => {
    const chains = {
      ...(inbound === undefined ? {} : { inboundChain: inbound }),
      ...(outbound === undefined ? {} : { outboundChain: outbound }),
    }
    const [found, bridge, router] = [
      world.topology.get('port', on.id),
      world.topology.get('bridge', on.id),
      world.topology.get('router', on.id),
    ]
    if (on.kind === 'port' && found !== undefined) {
      const { inboundChain: _in, outboundChain: _out, ...rest } = found
      world.put(put('port', { ...rest, ...chains, portGroups: groups }))
    }
    if (on.kind === 'bridge' && bridge !== undefined)
      world.put(put('bridge', { id: bridge.id, adminUp: bridge.adminUp, ...chains }))
    if (on.kind === 'router' && router !== undefined)
      world.put(put('router', { id: router.id, adminUp: router.adminUp, ...chains }))
  },
)

/** Changes of policy alone. */
export const policyChange: fc.Arbitrary<Happening> = fc.oneof(
  { weight: 6, arbitrary: rule },
  { weight: 1, arbitrary: removeRule },
  { weight: 1, arbitrary: addresses },
  { weight: 4, arbitrary: filter },
)

/** The chains and groups that random rules name. */
export function furnishPolicy(world: World): void {
  world.put(
    ...[0, 1, 2, 3].map((n) => put('chain', { id: `c${n}` })),
    ...[0, 1].map((n) => put('portGroup', { id: `pg${n}` })),
    ...[0, 1].map((n) => put('addressGroup', { id: `ag${n}`, addresses: ['10.1.0.2'] })),
  )
}
