/** Facts of a host that went with its lease come back, also when the store refuses at first. */
import test from 'ava'
import { StoreError, TopologyError } from '../../topology/error.ts'
import { LostFacts } from '../../topology/etcd-facts.ts'
import { Objects } from '../../topology/objects.ts'
import { Overlay } from '../../topology/overlay.ts'
import type { Change, Draft, Store } from '../../topology/store.ts'
import { VirtualClock } from './virtual-clock.ts'

function gone(id: string, host = 'h1'): Change {
  const before = { id, host }
  return { kind: 'portActive', id, value: undefined, before } as Change
}

/** A store that has ports a and b, and refuses as often as there are failures. */
function world(failures: Error[]) {
  const objects = new Objects()
  for (const id of ['a', 'b'])
    objects.set('port', { id, kind: 'bridge', bridge: 'br', adminUp: true })
  objects.set('host', { id: 'h1', name: 'h1', interfaces: [] })
  const store: Pick<Store, 'transact'> = {
    async transact<T>(work: (draft: Draft) => T) {
      const failure = failures.shift()
      if (failure !== undefined) throw failure
      const draft = new Overlay(objects)
      const value = work(draft)
      objects.apply(draft.changes())
      return { value, revision: 1 }
    },
  }
  const clock = new VirtualClock()
  let taken = 0
  const lease = { lost: () => taken++ }
  const facts = new LostFacts(store, { lease, host: 'h1', clock })
  const has = (id: string) => objects.get('portActive', id) !== undefined
  return { facts, clock, has, taken: () => taken }
}

test('they are written again, those of other hosts and of ports that are gone are not', async (t) => {
  const { facts, clock, has, taken } = world([])
  facts.hear([gone('a'), gone('b', 'h2'), gone('c')])
  t.true(await clock.until(() => has('a')))
  t.false(has('b') || has('c'))
  t.is(taken(), 1, 'the lease is gone, too')
})

test('a store that refuses is asked again', async (t) => {
  const busy = () => new StoreError('BUSY', 'later')
  const { facts, clock, has } = world([busy(), new StoreError('UNREACHABLE', 'away'), busy()])
  facts.hear([gone('a')])
  facts.hear([gone('b')])
  t.true(await clock.until(() => has('a') && has('b'), 5_000))
})

test('what has no place any more keeps nothing else away', async (t) => {
  const { facts, clock, has } = world([new TopologyError('CONFLICT', 'taken')])
  facts.hear([gone('a')])
  await clock.until(() => false, 1_000)
  t.false(has('a'))
  facts.hear([gone('b')])
  t.true(await clock.until(() => has('b')))
})

test('what the host withdraws meanwhile stays away', async (t) => {
  const { facts, clock, has } = world([new StoreError('BUSY', 'later')])
  facts.hear([gone('a'), gone('b')])
  t.true(facts.forget(['portActive/a', 'portActive/c']))
  t.false(facts.forget(['portActive/a']))
  t.true(await clock.until(() => has('b')))
  await clock.until(() => false, 1_000)
  t.false(has('a'))
})

test('nothing is asked any more after the end', async (t) => {
  const { facts, clock, has } = world([new StoreError('BUSY', 'later')])
  facts.hear([gone('a')])
  facts.close()
  await clock.until(() => false, 1_000)
  t.false(has('a'))
})
