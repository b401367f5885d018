/** What every engine must do; store.test.ts runs it on each. */
import type { ExecutionContext } from 'ava'
import { InvalidObjectError, StoreError, TopologyError } from '../../topology/error.ts'
import type { Bridge } from '../../topology/model.ts'
import type { ChangeBatch, Draft, Store } from '../../topology/store.ts'
import { bridgePort, putNetwork } from './fixture.ts'

export interface StoreCase {
  readonly title: string
  readonly run: (t: ExecutionContext, store: Store) => Promise<void>
}

const waitingMax = 1024

function bridge(id: string, over: Partial<Bridge> = {}): Bridge {
  return { id, adminUp: true, ...over }
}

function watched(store: Store): ChangeBatch[] {
  const batches: ChangeBatch[] = []
  store.watch((batch) => batches.push(batch))
  return batches
}

const readsAndWrites: readonly StoreCase[] = [
  {
    title: 'what a transaction wrote can be read after it, with what its work returned',
    async run(t, store) {
      const done = await store.transact((draft) => {
        draft.put('bridge', bridge('a', { name: 'red' }))
        return 'done'
      })
      t.deepEqual(done, { value: 'done', revision: 1 })
      t.deepEqual(store.get('bridge', 'a'), bridge('a', { name: 'red' }))
      t.is(store.revision, 1)
    },
  },
  {
    title: 'objects are listed in the order of their ids, whatever order they came in',
    async run(t, store) {
      for (const id of ['m', 'z', 'a', 'B', 'k']) {
        await store.transact((draft) => draft.put('bridge', bridge(id)))
      }
      await store.transact((draft) => draft.delete('bridge', 'k'))
      t.deepEqual(
        store.list('bridge').map(({ id }) => id),
        ['B', 'a', 'm', 'z'],
      )
    },
  },
  {
    title: 'a draft shows its own writes over what stands',
    async run(t, store) {
      await store.transact((draft) => {
        draft.put('bridge', bridge('a'))
        draft.put('bridge', bridge('b'))
      })
      const { value } = await store.transact((draft) => {
        draft.delete('bridge', 'a')
        draft.put('bridge', bridge('c'))
        draft.put('bridge', bridge('b', { adminUp: false }))
        t.is(store.get('bridge', 'c'), undefined)
        return [draft.get('bridge', 'a'), draft.list('bridge')] as const
      })
      t.deepEqual(value, [undefined, [bridge('b', { adminUp: false }), bridge('c')]])
      t.deepEqual(store.list('bridge'), value[1])
    },
  },
  {
    title: 'a transaction that changes nothing is no commit',
    async run(t, store) {
      await store.transact((draft) => draft.put('bridge', bridge('a')))
      const batches = watched(store)
      await store.transact((draft) => draft.put('bridge', bridge('a')))
      await store.transact((draft) => draft.delete('bridge', 'none'))
      t.is(store.revision, 1)
      t.deepEqual(batches, [])
    },
  },
  {
    title: 'objects and lists cannot be changed by those who read them',
    async run(t, store) {
      const given = bridgePort('p', { stations: [{ mac: '02:00:00:00:00:0a', addresses: [] }] })
      await store.transact((draft) => {
        draft.put('bridge', bridge('br'))
        draft.put('port', given)
      })
      const port = store.get('port', 'p')
      t.true(Object.isFrozen(port))
      t.true(port?.kind === 'bridge' && Object.isFrozen(port.stations?.[0]?.addresses))
      t.true(Object.isFrozen(store.list('port')))
      t.false(Object.isFrozen(given))
    },
  },
]

const refusals: readonly StoreCase[] = [
  {
    title: 'nothing of a transaction stays when its work throws',
    async run(t, store) {
      const batches = watched(store)
      const reason = new StoreError('TEST', 'stop')
      const refused = store.transact((draft) => {
        draft.put('bridge', bridge('a'))
        throw reason
      })
      t.is(await t.throwsAsync(refused), reason)
      t.is(store.get('bridge', 'a'), undefined)
      t.is(store.revision, 0)
      t.deepEqual(batches, [])
    },
  },
  {
    title: 'nothing of a transaction stays when it breaks a rule',
    async run(t, store) {
      const refused = store.transact((draft) => {
        draft.put('bridge', bridge('a'))
        draft.put('port', bridgePort('p', { bridge: 'none' }))
      })
      const error = await t.throwsAsync(refused, { instanceOf: TopologyError })
      t.is(error?.code, 'MISSING_REFERENCE')
      t.is(store.get('bridge', 'a'), undefined)
    },
  },
  {
    title: 'an object that does not fit its schema is refused by the name of its field',
    async run(t, store) {
      const refused = store.transact((draft) =>
        draft.put('port', bridgePort('p', { stations: [{ mac: 'x', addresses: [] }] })),
      )
      const error = await t.throwsAsync(refused, { instanceOf: InvalidObjectError })
      t.is(error?.field, 'stations.0.mac')
      t.regex(error?.message ?? '', /^port: stations\.0\.mac: must be the MAC address/)
    },
  },
  {
    title: 'a draft cannot be written when its work is over',
    async run(t, store) {
      let kept: Draft | undefined
      await store.transact((draft) => {
        kept = draft
      })
      t.throws(() => kept?.put('bridge', bridge('late')), { message: /only while the work/ })
    },
  },
  {
    title: 'a closed store refuses, and closing twice is no error',
    async run(t, store) {
      await store.close()
      await store.close()
      await t.throwsAsync(
        store.transact(() => {}),
        { code: 'CLOSED' },
      )
    },
  },
]

const watching: readonly StoreCase[] = [
  {
    title: 'a watcher is told each commit once, in order, with what was before',
    async run(t, store) {
      await store.transact((draft) => draft.put('bridge', bridge('a')))
      const batches = watched(store)
      await Promise.all([
        store.transact((draft) => draft.put('bridge', bridge('a', { adminUp: false }))),
        store.transact((draft) => draft.put('bridge', bridge('b'))),
        store.transact((draft) => draft.delete('bridge', 'a')),
      ])
      const kind = 'bridge'
      const down = bridge('a', { adminUp: false })
      t.deepEqual(batches, [
        { revision: 2, changes: [{ kind, id: 'a', value: down, before: bridge('a') }] },
        { revision: 3, changes: [{ kind, id: 'b', value: bridge('b'), before: undefined }] },
        { revision: 4, changes: [{ kind, id: 'a', value: undefined, before: down }] },
      ])
    },
  },
  {
    title: 'a watcher reads the store as it was after the commit it is told',
    async run(t, store) {
      const seen: (readonly [number, number])[] = []
      store.watch(() => seen.push([store.revision, store.list('bridge').length]))
      await Promise.all(
        ['a', 'b', 'c'].map((id) => store.transact((draft) => draft.put('bridge', bridge(id)))),
      )
      t.deepEqual(seen, [
        [1, 1],
        [2, 2],
        [3, 3],
      ])
    },
  },
  {
    title: 'a watcher that throws harms neither the commit nor the other watchers',
    async run(t, store) {
      store.watch(() => {
        throw new StoreError('TEST', 'a broken watcher')
      })
      const batches = watched(store)
      await store.transact((draft) => draft.put('bridge', bridge('a')))
      await store.transact((draft) => draft.put('bridge', bridge('b')))
      t.deepEqual(
        batches.map(({ revision }) => revision),
        [1, 2],
      )
    },
  },
  {
    title: 'a watcher that stopped is told no more, also when another one stops it',
    async run(t, store) {
      const told: string[] = []
      let stopSecond = () => {}
      const stopFirst = store.watch(() => {
        told.push('first')
        stopSecond()
      })
      stopSecond = store.watch(() => told.push('second'))
      await store.transact((draft) => draft.put('bridge', bridge('a')))
      stopFirst()
      await store.transact((draft) => draft.put('bridge', bridge('b')))
      t.deepEqual(told, ['first'])
    },
  },
  {
    title: 'a watcher may start a transaction, which is told after the one it was told',
    async run(t, store) {
      const told: number[] = []
      let follow: Promise<unknown> = Promise.resolve()
      store.watch(({ revision }) => {
        told.push(revision)
        if (revision > 1) return
        follow = store.transact((draft) => draft.put('bridge', bridge('b')))
      })
      await store.transact((draft) => draft.put('bridge', bridge('a')))
      await follow
      t.deepEqual(told, [1, 2])
    },
  },
]

const concurrency: readonly StoreCase[] = [
  {
    title: 'a hundred transactions at once each count one up',
    async run(t, store) {
      await store.transact((draft) => draft.put('host', { id: 'h', name: '0' }))
      const done = await Promise.all(
        Array.from({ length: 100 }, () =>
          store.transact((draft) => {
            const next = Number(draft.get('host', 'h')?.name) + 1
            draft.put('host', { id: 'h', name: String(next) })
            return next
          }),
        ),
      )
      const numbers = Array.from({ length: 100 }, (_, index) => index + 1)
      t.deepEqual(
        done.map(({ value }) => value),
        numbers,
      )
      t.deepEqual(
        done.map(({ revision }) => revision),
        numbers.map((number) => number + 1),
      )
      t.is(store.get('host', 'h')?.name, '100')
    },
  },
  {
    title: 'of many that want the same thing one gets it, and the others stand',
    async run(t, store) {
      const settled = await Promise.allSettled(
        Array.from({ length: 20 }, (_, index) =>
          store.transact((draft) => {
            draft.put('bridge', bridge(`b${index}`, { name: index % 2 ? 'same' : `n${index}` }))
          }),
        ),
      )
      const refused = settled.filter(({ status }) => status === 'rejected')
      t.is(refused.length, 9)
      t.is(store.list('bridge').length, 11)
      t.is(store.revision, 11)
    },
  },
  {
    title: 'more transactions than may wait are refused, and those that wait are done',
    async run(t, store) {
      const settled = await Promise.allSettled(
        Array.from({ length: waitingMax + 10 }, (_, index) =>
          store.transact((draft) => draft.put('bridge', bridge(`b${index}`))),
        ),
      )
      const reasons = settled.flatMap((one) => (one.status === 'rejected' ? [one.reason] : []))
      t.is(reasons.length, 10)
      t.true(reasons.every((reason) => reason instanceof StoreError && reason.code === 'BUSY'))
      t.is(store.list('bridge').length, waitingMax)
    },
  },
  {
    title: 'closing waits for the transactions that were asked for',
    async run(t, store) {
      const asked = store.transact(putNetwork)
      await store.close()
      t.is((await asked).revision, 1)
    },
  },
]

export const storeCases: readonly StoreCase[] = [
  ...readsAndWrites,
  ...refusals,
  ...watching,
  ...concurrency,
]
