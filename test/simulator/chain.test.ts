/** Chains, long and short, against a look at every rule. SEED=<seed> runs a failure again. */
import test from 'ava'
import fc from 'fast-check'
import { contains, parseCidr, parseIp } from '../../packet/address.ts'
import { addressOf6, contains6, parseCidr6 } from '../../packet/address6.ts'
import { type FlowKey, readField } from '../../packet/flow-key.ts'
import { simulate } from '../../simulator/simulate.ts'
import { Simulation } from '../../simulator/simulation.ts'
import type { Condition } from '../../topology/model.ts'
import { packetKey } from './arbitrary.ts'
import { condition } from './policy-happening.ts'
import { host, put, World } from './world.ts'

const groups = { ag0: ['10.1.0.2', '10.2.0.3'], ag1: ['10.1.0.2', '10.3.0.4', '20.1.1.1'] }

/** What the naive model knows; the rest of a random condition is left out. */
const known = [
  'vlan',
  'ethType',
  'tos',
  'protocol',
  'src',
  'dst',
  'srcGroup',
  'dstGroup',
  'srcPorts',
  'dstPorts',
] as const
type Known = (typeof known)[number]

function naive(conditions: readonly Condition[], key: FlowKey): number {
  return conditions.findIndex(
    (one) =>
      hasFragments(one, key) &&
      known.every((name) => holdsNaively(one, name, key)) !== (one.invert === true),
  )
}

function hasFragments({ fragments, srcPorts, dstPorts }: Condition, key: FlowKey): boolean {
  const policy = fragments ?? (srcPorts !== undefined || dstPorts !== undefined ? 'header' : 'any')
  const fragment = [0x0800, 0x86dd].includes(readField(key, 'ethType')) ? (key[9] ?? 0) : 0
  const kind = fragment >>> 24
  if (policy === 'any') return true
  if (policy === 'unfragmented') return kind === 0
  return (kind === 2) === (policy === 'nonHeader')
}

function holdsNaively(one: Condition, name: Known, key: FlowKey): boolean {
  const field = one[name]
  if (field === undefined) return true
  return valueHolds(one, name, key) !== (field.not === true)
}

function valueHolds(one: Condition, name: Known, key: FlowKey): boolean {
  const type = readField(key, 'ethType')
  const isIp = type === 0x0800 || type === 0x86dd
  const vlan = readField(key, 'vlan')
  switch (name) {
    case 'vlan':
      return one.vlan?.is === 'none' ? vlan === 0 : vlan !== 0 && (vlan & 0xfff) === one.vlan?.is
    case 'ethType':
      return type === one.ethType?.is
    case 'tos':
      return isIp && readField(key, 'ipTos') === one.tos?.is
    case 'protocol':
      return isIp && readField(key, 'ipProto') === one.protocol?.is
    case 'src':
      return isIn(one.src?.is, key, 10)
    case 'dst':
      return isIn(one.dst?.is, key, 14)
    case 'srcGroup':
      return type === 0x0800 && isMember(one.srcGroup?.is, readField(key, 'ipSrc'))
    case 'dstGroup':
      return type === 0x0800 && isMember(one.dstGroup?.is, readField(key, 'ipDst'))
    case 'srcPorts':
      return isIp && hasPort(key) && isBetween(one.srcPorts?.is, readField(key, 'tpSrc'))
    case 'dstPorts':
      return isIp && hasPort(key) && isBetween(one.dstPorts?.is, readField(key, 'tpDst'))
  }
}

/** Whether the address at word `at` is of the network, and of its family. */
function isIn(text: string | undefined, key: FlowKey, at: number): boolean {
  const type = readField(key, 'ethType')
  const [cidr, cidr6] = [parseCidr(text ?? ''), parseCidr6(text ?? '')]
  if (cidr !== undefined) return type === 0x0800 && contains(cidr, key[at] ?? 0)
  const [a = 0, b = 0, c = 0, d = 0] = key.subarray(at, at + 4)
  return cidr6 !== undefined && type === 0x86dd && contains6(cidr6, addressOf6([a, b, c, d]))
}

function isMember(group: string | undefined, address: number): boolean {
  return (group === 'ag0' ? groups.ag0 : groups.ag1).some((text) => parseIp(text) === address)
}

function hasPort(key: FlowKey): boolean {
  const protocol = readField(key, 'ipProto')
  return readField(key, 'ipFrag') !== 2 && [1, 6, 17, 58, 132].includes(protocol)
}

function isBetween(range: { first: number; last: number } | undefined, port: number): boolean {
  return range !== undefined && port >= range.first && port <= range.last
}

function worldOf(conditions: readonly Condition[]): World {
  const world = new World()
  world.put(
    put('chain', { id: 'c' }),
    ...Object.entries(groups).map(([id, addresses]) => put('addressGroup', { id, addresses })),
    ...conditions.map((one, n) =>
      put('rule', {
        id: `r${n}`,
        chain: 'c',
        position: n,
        condition: one,
        action: { kind: 'drop' },
      }),
    ),
    put('bridge', { id: 'b', adminUp: true }),
    put('port', { id: 'p', kind: 'bridge', bridge: 'b', adminUp: true, inboundChain: 'c' }),
    put('port', { id: 'q', kind: 'bridge', bridge: 'b', adminUp: true }),
    put('binding', { id: 'p', host, interface: 'p' }),
    put('binding', { id: 'q', host, interface: 'q' }),
  )
  return world
}

const knownCondition = condition.map((one) =>
  Object.fromEntries(
    Object.entries(one).filter(
      ([name]) => name === 'invert' || name === 'fragments' || known.some((each) => each === name),
    ),
  ),
)
const somePort = fc.constantFrom(0, 8, 0x35, 0x50, 0x1000, 0x2000)
/** What an index can be made of; all rules of a long chain but a few have the same of them. */
const indexable = {
  dstPorts: somePort.map((first) => ({ dstPorts: { is: { first, last: first + 1 } } })),
  src: fc
    .constantFrom('10.1.0.2/32', '10.2.0.0/16', '20.1.1.1/32', '10.1.0.0/30')
    .map((is) => ({ src: { is } })),
  srcGroup: fc.constantFrom('ag0', 'ag1').map((is) => ({ srcGroup: { is } })),
  dst: fc
    .constantFrom('10.1.0.3/32', '10.2.0.3/32', '10.3.0.0/24', '10.1.0.0/16')
    .map((is) => ({ dst: { is } })),
}

function longChain(one: fc.Arbitrary<Condition>): fc.Arbitrary<Condition[]> {
  const rest = knownCondition.map(
    ({ invert: _invert, src: _src, srcGroup: _group, ...kept }) => kept,
  )
  const rule = fc.tuple(rest, one).map(([some, own]) => ({ ...some, ...own }))
  const any = fc.oneof({ weight: 9, arbitrary: rule }, { weight: 1, arbitrary: knownCondition })
  return fc.array(any, { minLength: 12, maxLength: 40, size: 'max' })
}

const chains = fc.oneof(
  fc.array(knownCondition, { maxLength: 8 }),
  longChain(indexable.dstPorts),
  longChain(fc.oneof(indexable.src, indexable.srcGroup)),
  longChain(indexable.dst),
)

test('the first rule that fits decides, in a chain of any length', (t) => {
  let dropped = 0
  let indexed = 0
  const seed = process.env.SEED === undefined ? {} : { seed: Number(process.env.SEED) }
  const property = fc.property(
    chains,
    fc.array(packetKey, { minLength: 20, maxLength: 20 }),
    (all, keys) => {
      const conditions = all.filter(
        ({ invert, ...rest }) => !invert || Object.keys(rest).length > 0,
      )
      const world = worldOf(conditions)
      const { topology } = world.forwarder
      if (topology.policies.chain('c').index !== undefined) indexed++
      const sim = new Simulation()
      for (const key of keys) {
        key[0] = 1
        sim.story = []
        simulate(topology, key, sim)
        const rule = naive(conditions, key)
        const found = sim.story.find((step) => step.startsWith('chain c'))
        const expected = rule < 0 ? undefined : `chain c: rule r${rule}: drop`
        if (rule >= 0) dropped++
        if (found !== expected) return false
      }
      return true
    },
  )
  const found = fc.check(property, { numRuns: 300, ...seed })
  t.false(found.failed, `SEED=${found.seed}: ${JSON.stringify(found.counterexample)}`)
  t.true(dropped > 500 && indexed > 30, `${dropped} packets met a rule, ${indexed} indexes`)
})
