import test from 'ava'
import { openMemoryStore } from '../../topology/memory.ts'
import type { Draft } from '../../topology/store.ts'
import {
  bridgePort,
  endpoint,
  putNetwork,
  putSecondRouter,
  route,
  routerPort,
  station,
} from './fixture.ts'

const allowed: readonly (readonly [title: string, work: (draft: Draft) => void])[] = [
  [
    'all of a topology goes in one transaction, in any order',
    (draft) => {
      for (const kind of ['host', 'bridge', 'router', 'port', 'network'] as const) {
        for (const { id } of draft.list(kind)) draft.delete(kind, id)
      }
      for (const kind of ['binding', 'endpoint'] as const) draft.delete(kind, 'web')
    },
  ],
  [
    'bridges are linked to each other',
    (draft) => {
      draft.put('bridge', { id: 'b2', adminUp: true })
      draft.put('port', bridgePort('a', { peer: 'b' }))
      draft.put('port', bridgePort('b', { bridge: 'b2', peer: 'a' }))
    },
  ],
  [
    'a link without hosts has two addresses, or one',
    (draft) => {
      draft.put('port', routerPort('p', { addresses: ['10.8.0.0/31'] }))
      draft.put('port', routerPort('q', { addresses: ['10.8.0.2/32'] }))
    },
  ],
  [
    'routers that do not know each other have the same networks',
    (draft) => {
      putSecondRouter(draft)
      draft.put('port', routerPort('p', { router: 'r2' }))
    },
  ],
  [
    'a station keeps its MAC address and address when it moves in one transaction',
    (draft) => {
      draft.put('port', bridgePort('web'))
      draft.put('port', bridgePort('p', { stations: [station(10)] }))
    },
  ],
  [
    'the same station is on two bridges',
    (draft) => {
      draft.put('bridge', { id: 'b2', adminUp: true })
      draft.put('port', bridgePort('p', { bridge: 'b2', stations: [station(10)] }))
    },
  ],
  [
    'a gateway outside of the networks is a static neighbour',
    (draft) => {
      const neighbors = [{ address: '169.254.7.7', mac: '02:00:00:00:00:77' }]
      draft.put('port', routerPort('gw', { peer: 'up', neighbors }))
      draft.put('route', route('r', { gateway: '169.254.7.7' }))
    },
  ],
  [
    'bridges and routers need no name',
    (draft) => {
      draft.put('bridge', { id: 'b2', adminUp: true })
      draft.put('bridge', { id: 'b3', adminUp: true })
    },
  ],
  [
    'a name goes to another object',
    (draft) => {
      draft.put('router', { id: 'ro', name: 'old', adminUp: true })
      draft.put('router', { id: 'r2', name: 'main', adminUp: true })
    },
  ],
]

for (const [title, work] of allowed) {
  test(`allowed: ${title}`, async (t) => {
    const store = await openMemoryStore()
    await store.transact(putNetwork)
    await store.transact(work)
    t.is(store.revision, 2)
  })
}

test('ten thousand endpoints do not make a commit slow', async (t) => {
  const store = await openMemoryStore()
  await store.transact(putNetwork)
  const put = (draft: Draft, number: number) => {
    const id = `e${number}`
    const hex = number.toString(16).padStart(4, '0')
    const mac = `02:01:00:00:${hex.slice(0, 2)}:${hex.slice(2)}`
    const addresses = [`10.7.${number >> 8}.${number & 255}`]
    draft.put('port', bridgePort(id, { stations: [{ mac, addresses }] }))
    draft.put('binding', { id, host: 'h1', interface: id })
    draft.put('endpoint', endpoint(id, { mac }))
  }
  /** The median, so that the garbage collector has no say. */
  const timed = async (from: number, to: number) => {
    const times: number[] = []
    for (let number = from; number < to; number += 1) {
      const start = process.hrtime.bigint()
      await store.transact((draft) => put(draft, number))
      times.push(Number(process.hrtime.bigint() - start) / 1e3)
    }
    return times.sort((a, b) => a - b)[times.length >> 1] ?? 0
  }
  await timed(0, 500)
  const few = await timed(500, 1000)
  await store.transact((draft) => {
    for (let number = 1000; number < 10_000; number += 1) put(draft, number)
  })
  const many = await timed(10_000, 10_500)
  t.log(`${few.toFixed(0)} µs per commit with 1000 endpoints, ${many.toFixed(0)} µs with 10 000`)
  // Ten times as many objects: a rule that looks at all of them would take ten times as long.
  t.true(many < few * 4)
})
