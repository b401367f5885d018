/** Random mirrors. */
import fc from 'fast-check'
import { type Happening, happening } from './happening.ts'
import { condition } from './policy-happening.ts'
import { put } from './world.ts'

const port = fc.constantFrom('p0', 'p1', 'p2', 'p3', 'p5', 'l0a', 'l0b', 'l1a', 'l1b', 'l2a', 'q0')

/** What a mirror can ask for where a packet enters. */
const askable = condition.map(
  ({ flow: _, dstRewritten: _dst, outPorts: _out, icmpDataSrc: _data, ...rest }) => rest,
)

export const device = fc.oneof(
  port.map((id) => ({ kind: 'port' as const, id })),
  fc.constantFrom('b0', 'b1', 'b2').map((id) => ({ kind: 'bridge' as const, id })),
  fc.constantFrom('r0', 'r1').map((id) => ({ kind: 'router' as const, id })),
)

const mirror = happening(
  'mirror',
  fc.record({
    n: fc.nat({ max: 3 }),
    device,
    point: fc.constantFrom(
      'preIn' as const,
      'postIn' as const,
      'preOut' as const,
      'postOut' as const,
    ),
    conditions: fc.array(askable, { maxLength: 2 }),
    toPort: port,
  }),
  (world, { n, ...one }) => world.put(put('mirror', { id: `m${n}`, ...one })),
)

const removeMirror = happening('remove mirror', fc.nat({ max: 3 }), (world, n) =>
  world.remove('mirror', `m${n}`),
)

/** Changes of mirrors alone. */
export const mirrorChange: fc.Arbitrary<Happening> = fc.oneof(
  { weight: 3, arbitrary: mirror },
  { weight: 1, arbitrary: removeMirror },
)
