/** Random services on the way of ports: rules that redirect, and services' ports that go down. */
import fc from 'fast-check'
import type { RuleAction } from '../../topology/model.ts'
import { arrival, type Happening, happening } from './happening.ts'
import { put } from './world.ts'

const port = fc.constantFrom('p0', 'p1', 'p2', 'p3', 'p4', 'l0a', 'l1b', 'q0')

export const redirection: fc.Arbitrary<RuleAction> = fc.record(
  {
    kind: fc.constant('redirect' as const),
    port,
    direction: fc.constantFrom('out' as const, 'in' as const),
    failOpen: fc.boolean(),
    popVlan: fc.boolean(),
    pushVlan: fc.constantFrom(5, 7),
  },
  { requiredKeys: ['kind', 'port', 'direction'] },
)

const service = happening(
  'service',
  fc.record({ n: fc.nat({ max: 3 }), on: port, action: redirection, isOut: fc.boolean() }),
  (world, { n, on, action, isOut }) => {
    const found = world.topology.get('port', on)
    if (found === undefined) return
    const chain = isOut ? { outboundChain: `svc${n}` } : { inboundChain: `svc${n}` }
    world.put(
      put('chain', { id: `svc${n}` }),
      put('rule', { id: `svc${n}`, chain: `svc${n}`, position: 1, action }),
      put('port', { ...found, ...chain }),
    )
  },
)

const upOrDown = happening('up or down', port, (world, id) => {
  const found = world.topology.get('port', id)
  if (found !== undefined) world.put(put('port', { ...found, adminUp: !found.adminUp }))
})

/** Services come and go, and packets with them. */
export const redirectChange: fc.Arbitrary<Happening> = fc.oneof(
  { weight: 3, arbitrary: service },
  { weight: 2, arbitrary: upOrDown },
  { weight: 2, arbitrary: arrival },
)
