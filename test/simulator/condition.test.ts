/** Every field of a condition: what meets it, what does not, and the same inverted. */
import test, { type ExecutionContext } from 'ava'
import { conditionSchema } from '../../topology/policy-schema.ts'
import { runLine } from './script.ts'
import { World } from './world.ts'

/** A router's outbound chain `c` knows all but VLANs and the rest of Ethernet, for which `v` is there. */
const topology = `
bridge red
bridge blue
router r
port a on red if=eth-a station=:0a/10.1.0.2
port b on red if=eth-b station=:0b/10.1.0.3
port red-r on red
port r-red on r mac=:f1 address=10.1.0.1/24
port d on blue if=eth-d station=:0d/10.2.0.2
port blue-r on blue
port r-blue on r mac=:f3 address=10.2.0.1/24
port up on r if=eth-up mac=:f2 address=10.9.0.1/24 neighbor=10.9.0.2/:ee
link red-r r-red
link blue-r r-blue
portgroup ins
portgroup outs
filter port r-red groups=ins
filter port up groups=outs
addresses near 10.1.0.2
addresses far 10.9.0.2
chain first
chain c
chain v
filter router r in=first out=c
filter port b out=v
rule nat in first at 1 staticDnat:10.9.0.2 dst=10.9.0.9/32`

const out = 'eth-a udp 10.1.0.2:1000 > 10.9.0.2:53'
const fromBlue = 'eth-d udp 10.2.0.2:1000 > 10.9.0.2:53'
const toBlue = 'eth-a udp 10.1.0.2:1000 > 10.2.0.2:53'
const answer = 'eth-up udp 10.9.0.2:53 > 10.1.0.2:1000'
const error = 'eth-up icmp 10.9.0.2 > 10.1.0.2 type=3'
const toB = 'eth-a eth :0a > :0b ethtype=0x88cc'
const ip = 'eth-a key eth(src=02:00:00:00:00:0a,dst=02:00:00:00:00:0b),eth_type(0x0800)'
const tos = (value: number) =>
  `${ip},ipv4(src=10.1.0.2,dst=10.1.0.3,proto=17,tos=${value},ttl=64,frag=no),udp(src=1,dst=2)`

interface Case {
  readonly field: keyof typeof conditionSchema.shape
  readonly value: string
  readonly meets: string
  readonly fails: string
  readonly chain?: 'c' | 'v'
  /** Lines that come before the rule. */
  readonly before?: readonly string[]
  /** The field inverted, where that is not by `!`; undefined where it cannot be. */
  readonly opposite?: string | undefined
}

const cases: readonly Case[] = [
  { field: 'inPorts', value: 'r-red', meets: out, fails: fromBlue },
  { field: 'outPorts', value: 'r-red,up', meets: out, fails: toBlue },
  { field: 'inPortGroup', value: 'ins', meets: out, fails: fromBlue },
  { field: 'outPortGroup', value: 'outs', meets: out, fails: toBlue },
  { field: 'portGroup', value: 'outs', meets: out, fails: toBlue },
  { field: 'portGroup', value: 'ins', meets: out, fails: fromBlue },
  { field: 'traversed', value: 'bridge/red', meets: out, fails: fromBlue },
  { field: 'traversed', value: 'port/d', meets: fromBlue, fails: out },
  { field: 'ethType', value: '0x88cc', meets: toB, fails: tos(0), chain: 'v' },
  {
    field: 'ethSrc',
    value: '02:00:00:00:00:0a',
    meets: toB,
    fails: 'eth-a eth :0c > :0b ethtype=0x88cc',
    chain: 'v',
  },
  {
    field: 'ethDst',
    value: '02:00:00:00:00:00/ff:ff:ff:00:00:00',
    meets: toB,
    fails: 'eth-a eth :0a > ff:ff:ff:ff:ff:ff ethtype=0x88cc',
    chain: 'v',
  },
  { field: 'vlan', value: '5', meets: `${toB} vlan=5`, fails: `${toB} vlan=6`, chain: 'v' },
  { field: 'vlan', value: 'none', meets: toB, fails: `${toB} vlan=6`, chain: 'v' },
  { field: 'tos', value: '184', meets: tos(184), fails: tos(0), chain: 'v' },
  // A frame that is not IP has no such field.
  { field: 'tos', value: '0', meets: tos(0), fails: toB, chain: 'v' },
  { field: 'protocol', value: '17', meets: out, fails: out.replace('udp', 'tcp') },
  { field: 'src', value: '10.1.0.0/24', meets: out, fails: fromBlue },
  { field: 'dst', value: '10.9.0.0/24', meets: out, fails: toBlue },
  { field: 'srcGroup', value: 'near', meets: out, fails: fromBlue },
  { field: 'dstGroup', value: 'far', meets: out, fails: toBlue },
  { field: 'srcPorts', value: '999-1000', meets: out, fails: out.replace('1000', '1001') },
  { field: 'dstPorts', value: '53', meets: out, fails: out.replace(':53', ':54') },
  // A later fragment has no ports, and a rule that asks for some is not about it.
  {
    field: 'fragments',
    value: 'header',
    meets: out,
    fails: `${out} frag=later`,
    opposite: undefined,
  },
  {
    field: 'fragments',
    value: 'nonHeader',
    meets: `${out} frag=later`,
    fails: out,
    opposite: undefined,
  },
  {
    field: 'fragments',
    value: 'unfragmented',
    meets: out,
    fails: `${out} frag=first`,
    opposite: undefined,
  },
  {
    field: 'flow',
    value: 'return',
    meets: answer,
    fails: out.replace('1000', '1001'),
    before: ['rule track in c at 0 continue flow=forward', `send ${out}`],
  },
  {
    field: 'dstRewritten',
    value: 'yes',
    meets: 'eth-a udp 10.1.0.2:1000 > 10.9.0.9:53',
    fails: out,
    opposite: 'no',
  },
  {
    field: 'icmpDataSrc',
    value: '10.1.0.2/32',
    meets: `${error} about=10.1.0.2:1000>10.9.0.2:53`,
    fails: `${error} about=10.1.0.3:1000>10.9.0.2:53`,
  },
  {
    field: 'icmpDataDst',
    value: '10.9.0.0/24',
    meets: `${error} about=10.1.0.2:1000>10.9.0.2:53`,
    fails: `${error} about=10.1.0.2:1000>10.8.0.2:53`,
  },
]

/** Whether a rule that drops what it acts on lets a packet pass. */
function passes({ chain = 'c', before = [] }: Case, condition: string, packet: string): boolean {
  const world = new World()
  const lines = [...topology.trim().split('\n'), ...before]
  for (const line of lines) runLine(world, line)
  runLine(world, `rule x in ${chain} at 1 drop ${condition}`)
  return runLine(world, `send ${packet}`).some((line) => line.startsWith('out '))
}

function checkField(t: ExecutionContext, one: Case, condition: string, isInverted: boolean): void {
  t.is(passes(one, condition, one.meets), isInverted, `${condition}: ${one.meets}`)
  t.is(passes(one, condition, one.fails), !isInverted, `${condition}: ${one.fails}`)
}

for (const one of cases) {
  const { field, value } = one
  const opposite = 'opposite' in one ? one.opposite : `!${value}`
  test(`${field} is ${value}, and inverted`, (t) => {
    checkField(t, one, `${field}=${value}`, false)
    // What fragments a rule is about stays, whatever else of it is inverted.
    if (opposite === undefined)
      return checkField(t, one, `${field}=${value} protocol=6 invert=yes`, false)
    checkField(t, one, `${field}=${value} invert=yes`, true)
    checkField(t, one, `${field}=${opposite}`, true)
    checkField(t, one, `${field}=${opposite} invert=yes`, false)
  })
}

test('no field is left out', (t) => {
  const fields = Object.keys(conditionSchema.shape).filter((name) => name !== 'invert')
  t.deepEqual(fields.sort(), [...new Set(cases.map(({ field }): string => field))].sort())
})
