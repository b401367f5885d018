/** Topologies of more objects than a transaction holds, imported into an etcd in memory. */
import test from 'ava'
import type { EtcdCalls } from '../../topology/etcd-client.ts'
import { unreachable } from '../../topology/etcd-client.ts'
import { importToEtcd } from '../../topology/etcd-import.ts'
import type { ChangeBatch } from '../../topology/store.ts'
import { ScaleWorld } from './scale.ts'

const count = 5_000
const size = { hosts: 1, ports: 0, networkPorts: 1, networkHosts: 1 }
const header = '{"midonet":"topology","format":1}'
const line = (id: string) => JSON.stringify({ kind: 'bridge', value: { id, adminUp: true } })
const lines = Array.from({ length: count }, (_, at) => line(`b${at}`))
const text = [header, ...lines, ''].join('\n')

/** A world with a host that follows, and what it is told. */
async function begin() {
  const world = new ScaleWorld(size)
  const { store } = await world.openWhole(0)
  const told: ChangeBatch[] = []
  store.watch((batch) => told.push(batch))
  return { world, store, told }
}

/** A client that breaks off for good after so many transactions. */
function breaking(client: EtcdCalls, after: number): EtcdCalls {
  let left = after
  return {
    ...{ rotate() {}, close() {}, grantLease: async () => {}, keepLease: async () => 0 },
    watch: (...all) => client.watch(...all),
    range: (query) => client.range(query),
    async txn(compare, then) {
      if (left-- <= 0) throw unreachable('broken')
      return client.txn(compare, then)
    },
  }
}

test('agents see an import of any size as one change', async (t) => {
  const { world, store, told } = await begin()
  t.is(await world.settle(() => importToEtcd(world.etcd.client(), text)), count)
  t.true(await world.clock.until(() => told.length > 0 && store.problem === undefined, 5_000))
  t.deepEqual(
    told.map(({ changes }) => changes.length),
    [count],
  )
  await world.settle(() => store.transact((draft) => draft.delete('bridge', 'b7')))
  t.is(store.list('bridge').length, count - 1)
  await world.close()
})

test('an import that broke off is not seen, and the next one replaces it', async (t) => {
  const { world, store, told } = await begin()
  const client = world.etcd.client()
  const broken = () => importToEtcd(breaking(client, 3), text)
  await t.throwsAsync(world.settle(broken), { code: 'UNREACHABLE' })
  await world.clock.until(() => false, 3_000)
  t.deepEqual(told, [])
  t.regex(store.problem ?? '', /being imported/)
  const late = await world.openWhole(1).catch(() => undefined)
  t.is(late?.store.list('bridge').length, 0, 'nor by a host that starts now')
  const other = [header, line('only'), ''].join('\n')
  t.is(await world.settle(() => importToEtcd(client, other)), 1)
  t.true(await world.clock.until(() => told.length > 0, 5_000))
  t.deepEqual(store.list('bridge'), [{ id: 'only', adminUp: true }])
  await world.close()
})

test('of two imports at once one is refused, and so is a store that is not empty', async (t) => {
  const { world, store } = await begin()
  const run = () => importToEtcd(world.etcd.client(), text)
  const both = await world.settle(() => Promise.allSettled([run(), run()]))
  const refused = both.filter((one) => one.status === 'rejected').map(({ reason }) => reason.code)
  t.deepEqual(refused, ['CONFLICT'])
  await world.clock.until(() => store.list('bridge').length === count, 5_000)
  await t.throwsAsync(world.settle(run), { code: 'NOT_EMPTY' })
  const port = { id: 'p', kind: 'bridge', bridge: 'none', adminUp: true }
  const wrong = [header, JSON.stringify({ kind: 'port', value: port }), ''].join('\n')
  const empty = new ScaleWorld(size)
  const { revision } = empty.etcd
  const invalid = () => importToEtcd(empty.etcd.client(), wrong)
  await t.throwsAsync(empty.settle(invalid), { code: 'MISSING_REFERENCE' })
  t.is(empty.etcd.revision, revision, 'nothing was written')
  await world.close()
})
