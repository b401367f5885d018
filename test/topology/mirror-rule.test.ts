/** Rules about mirrors, and about VLANs of ports. */
import test from 'ava'
import { InvalidObjectError } from '../../topology/error.ts'
import { openMemoryStore } from '../../topology/memory.ts'
import type { Mirror } from '../../topology/model.ts'
import type { Draft } from '../../topology/store.ts'
import { testRefusals } from './refusal.ts'

function putPorts(draft: Draft): void {
  draft.put('bridge', { id: 'lan', adminUp: true })
  for (const id of ['one', 'two'])
    draft.put('port', { id, kind: 'bridge', bridge: 'lan', adminUp: true })
}

const mirror: Mirror = {
  id: 'm',
  device: { kind: 'port', id: 'one' },
  point: 'preIn',
  toPort: 'two',
}

function putMirror(draft: Draft, changed: Partial<Mirror>): void {
  putPorts(draft)
  draft.put('mirror', { ...mirror, ...changed })
}

testRefusals([
  [
    'a mirror needs its device',
    (d) => putMirror(d, { device: { kind: 'router', id: 'none' } }),
    'MISSING_REFERENCE',
    /mirror m: device: there is no router none/,
  ],
  [
    'a mirror needs its port',
    (d) => putMirror(d, { toPort: 'none' }),
    'MISSING_REFERENCE',
    /mirror m: toPort: there is no port none/,
  ],
  [
    'a port is not mirrored to itself',
    (d) => putMirror(d, { toPort: 'one' }),
    'INVALID',
    /mirror m: toPort: it is the mirrored port itself; name another/,
  ],
  [
    'a mirror looks no connections up',
    (d) => putMirror(d, { conditions: [{}, { flow: { is: 'return' } }] }),
    'INVALID',
    /mirror m: condition 1: flow is not known to mirrors/,
  ],
  [
    'where a packet enters its egress is not known',
    (d) => putMirror(d, { point: 'postIn', conditions: [{ outPorts: { is: ['two'] } }] }),
    'INVALID',
    /mirror m: condition 0: outPorts is not known where a packet enters/,
  ],
  [
    'a mirror of a condition that makes no sense',
    (d) => putMirror(d, { conditions: [{ srcPorts: { is: { first: 2, last: 1 } } }] }),
    'INVALID',
    /mirror m: condition 0: condition.srcPorts: last is before first/,
  ],
])

test('a mirrored device and the port of a mirror stay', async (t) => {
  const store = await openMemoryStore()
  await store.transact((d) =>
    putMirror(d, { point: 'preOut', conditions: [{ outPorts: { is: ['two'] } }] }),
  )
  for (const id of ['one', 'two'])
    await t.throwsAsync(
      store.transact((d) => d.delete('port', id)),
      {
        message: new RegExp(`port ${id} is in use by mirror m`),
      },
    )
})

test('a VLAN is one of 4094', async (t) => {
  const store = await openMemoryStore()
  await store.transact(putPorts)
  const port = { id: 'one', kind: 'bridge', bridge: 'lan', adminUp: true } as const
  for (const vlan of [0, 4095, 1.5])
    await t.throwsAsync(
      store.transact((d) => d.put('port', { ...port, vlan })),
      {
        instanceOf: InvalidObjectError,
        message: /vlan/,
      },
    )
  await store.transact((d) => d.put('port', { ...port, vlan: 4094 }))
  t.like(store.get('port', 'one'), { vlan: 4094 })
})
