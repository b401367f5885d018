import test from 'ava'
import { openMemoryStore } from '../../topology/memory.ts'
import type { Condition, RuleAction } from '../../topology/model.ts'
import type { Draft } from '../../topology/store.ts'
import { bridgePort, putNetwork } from './fixture.ts'
import { type Refusal, testRefusals } from './refusal.ts'

const accept: RuleAction = { kind: 'accept' }

function putRule(condition: Condition, action: RuleAction = accept): (draft: Draft) => void {
  return (draft) => {
    draft.put('chain', { id: 'c' })
    draft.put('rule', { id: 'r', chain: 'c', position: 1, condition, action })
  }
}

const anywhere = { first: '10.0.0.1', last: '10.0.0.1' }

const refusals: readonly Refusal[] = [
  [
    'a rule is of a chain that exists',
    (draft) => draft.put('rule', { id: 'r', chain: 'none', position: 1, action: accept }),
    'MISSING_REFERENCE',
    /rule r: chain: there is no chain none/,
  ],
  [
    'a jump is to a chain that exists',
    putRule({}, { kind: 'jump', chain: 'none' }),
    'MISSING_REFERENCE',
    /action\.chain: there is no chain none/,
  ],
  [
    'a redirection is to a port that exists',
    putRule({}, { kind: 'redirect', port: 'none', direction: 'out' }),
    'MISSING_REFERENCE',
    /action\.port: there is no port none/,
  ],
  [
    'a priority is of a tag',
    putRule({}, { kind: 'redirect', port: 'up', direction: 'out', pushPriority: 3 }),
    'INVALID',
    /action\.pushPriority: there is no tag to have it/,
  ],
  [
    'a filter is a chain that exists',
    (draft) => draft.put('bridge', { id: 'x', adminUp: true, inboundChain: 'none' }),
    'MISSING_REFERENCE',
    /inboundChain: there is no chain none/,
  ],
  [
    'a port is in groups that exist',
    (draft) => draft.put('port', bridgePort('p', { portGroups: ['none'] })),
    'MISSING_REFERENCE',
    /portGroups\.0: there is no portGroup none/,
  ],
  [
    'a condition names what exists',
    putRule({ dstGroup: { is: 'none' } }),
    'MISSING_REFERENCE',
    /condition\.dstGroup: there is no addressGroup none/,
  ],
  [
    'a condition names a device that exists',
    putRule({ traversed: { is: { kind: 'router', id: 'none' } } }),
    'MISSING_REFERENCE',
    /condition\.traversed: there is no router none/,
  ],
  [
    'a chain in use is not deleted',
    (draft) => {
      draft.put('chain', { id: 'c' })
      draft.put('bridge', { id: 'x', adminUp: true, outboundChain: 'c' })
      draft.delete('chain', 'c')
    },
    'MISSING_REFERENCE',
    /there is no chain c/,
  ],
  [
    'two rules do not share a position',
    (draft) => {
      putRule({})(draft)
      draft.put('rule', { id: 'r2', chain: 'c', position: 1, action: accept })
    },
    'CONFLICT',
    /position 1 of chain c is taken/,
  ],
  [
    'a dynamic SNAT has ports',
    putRule({}, { kind: 'snat', targets: [anywhere], verdict: 'accept' }),
    'INVALID',
    /rule r: action\.targets\.0: snat needs ports.*use staticSnat/,
  ],
  [
    'a target is not written backwards',
    putRule(
      {},
      { kind: 'dnat', targets: [{ first: '10.0.0.2', last: '10.0.0.1' }], verdict: 'accept' },
    ),
    'INVALID',
    /last is before first/,
  ],
  [
    'port 0 is given to nobody',
    putRule({}, { kind: 'masquerade', ports: { first: 0, last: 9 }, verdict: 'accept' }),
    'INVALID',
    /port 0 cannot be used/,
  ],
  [
    'a range of ports is not written backwards',
    putRule({ dstPorts: { is: { first: 2, last: 1 } } }),
    'INVALID',
    /condition\.dstPorts: last is before first/,
  ],
  [
    'ports are not asked of later fragments',
    putRule({ dstPorts: { is: { first: 1, last: 2 } }, fragments: 'any' }),
    'INVALID',
    /any have no ports/,
  ],
  [
    'a datagram is translated as a whole',
    putRule(
      { fragments: 'header' },
      { kind: 'masquerade', ports: { first: 1, last: 9 }, verdict: 'accept' },
    ),
    'INVALID',
    /would lose the later ones/,
  ],
]

testRefusals(refusals)

test('a chain with its rules and groups is taken, and its users keep it', async (t) => {
  const store = await openMemoryStore()
  await store.transact(putNetwork)
  await store.transact((draft) => {
    putRule({ srcGroup: { is: 'g', not: true }, inPortGroup: { is: 'pg' } })(draft)
    draft.put('addressGroup', { id: 'g', name: 'web', addresses: ['10.0.0.1'] })
    draft.put('portGroup', { id: 'pg', name: 'web' })
    draft.put('port', bridgePort('p', { portGroups: ['pg'], inboundChain: 'c' }))
  })
  for (const [kind, id] of [
    ['chain', 'c'],
    ['addressGroup', 'g'],
    ['portGroup', 'pg'],
  ] as const)
    await t.throwsAsync(
      store.transact((draft) => draft.delete(kind, id)),
      { code: 'IN_USE' },
    )
})
