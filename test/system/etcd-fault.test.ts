/** A real etcd of three members that is killed, paused, lost and compacted under three agents' stores. */
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import test, { type ExecutionContext } from 'ava'
import { readSettings } from '../../agent/settings.ts'
import { importTopology } from '../../agent/transfer.ts'
import { requestAddress, requestPool } from '../../topology/allocate.ts'
import { openEtcdStore } from '../../topology/etcd.ts'
import type { EtcdStore } from '../../topology/etcd-store.ts'
import { kinds } from '../../topology/model.ts'
import { openStore } from '../../topology/open.ts'
import type { ChangeBatch, Reader } from '../../topology/store.ts'
import { exportText } from '../../topology/transfer.ts'
import { bindPort } from '../../topology/tunnel.ts'
import { bridgePort } from '../topology/fixture.ts'
import { ClusterError, EtcdCluster } from './etcd-cluster.ts'
import { clusterFaults } from './etcd-faults.ts'

let cluster: EtcdCluster

test.before(async () => {
  cluster = await EtcdCluster.start()
})
test.after.always(() => cluster?.stop())

/** Stores of several hosts on the cluster, emptied first. */
async function openHosts(t: ExecutionContext, count = 3): Promise<readonly EtcdStore[]> {
  cluster.wipe()
  const stores = await Promise.all(
    Array.from({ length: count }, (_, n) => openEtcdStore(cluster.url, { host: `h${n}` })),
  )
  for (const store of stores) t.teardown(() => store.close())
  return stores
}

function dump(reader: Reader): unknown {
  return kinds.map((kind) => [kind, reader.list(kind)])
}

/** Waits until `holds`; fails after `ms`. */
async function eventually(t: ExecutionContext, what: string, holds: () => boolean, ms = 15_000) {
  const end = performance.now() + ms
  while (!holds() && performance.now() < end) await delay(10)
  t.true(holds(), what)
}

/** Every replica equals what a store opened now reads from etcd. */
async function checkSettled(t: ExecutionContext, stores: readonly EtcdStore[]): Promise<void> {
  const fresh = await openEtcdStore(cluster.url)
  t.teardown(() => fresh.close())
  await eventually(t, 'all have seen the last revision', () =>
    stores.every((store) => JSON.stringify(dump(store)) === JSON.stringify(dump(fresh))),
  )
}

function follow(store: EtcdStore): ChangeBatch[] {
  const batches: ChangeBatch[] = []
  store.watch((batch) => batches.push(batch))
  return batches
}

/** What was told must lead from nothing to what stands, each change from what was before it. */
function checkTold(t: ExecutionContext, store: EtcdStore, batches: readonly ChangeBatch[]): void {
  const seen = new Map<string, string | undefined>()
  let last = 0
  for (const { revision, changes } of batches) {
    t.true(revision > last)
    last = revision
    for (const { kind, id, value, before } of changes) {
      t.is(seen.get(`${kind}/${id}`), before && JSON.stringify(before), 'missed or repeated')
      seen.set(`${kind}/${id}`, value && JSON.stringify(value))
    }
  }
  for (const kind of kinds)
    for (const value of store.list(kind))
      t.is(seen.get(`${kind}/${value.id}`), JSON.stringify(value))
}

for (const { what, befall } of clusterFaults) {
  test.serial(
    `no address twice, none lost, nothing missed or repeated while ${what}`,
    async (t) => {
      const stores = await openHosts(t)
      const told = stores.map(follow)
      const [first] = stores
      const made = await first?.transact((draft) =>
        requestPool(draft, { space: 'local', subnet: '10.1.0.0/16' }),
      )
      const pool = made?.value.id ?? ''
      let running = true
      const given: string[] = []
      let refused = 0
      const workers = stores.map(async (store) => {
        while (running) {
          try {
            given.push((await store.transact((draft) => requestAddress(draft, pool))).value)
          } catch {
            refused += 1
            await delay(20)
          }
        }
      })
      await delay(200)
      await befall(cluster)
      await cluster.healthy()
      const before = given.length
      await eventually(t, 'writes go on', () => given.length > before + 10)
      running = false
      await Promise.all(workers)
      await checkSettled(t, stores)
      t.log({ given: given.length, refused })
      t.is(new Set(given).size, given.length, 'an address was given twice')
      const stand = new Set(first?.list('address').map(({ address }) => address))
      t.true(
        given.every((address) => stand.has(address)),
        'an address was lost',
      )
      for (const [n, store] of stores.entries()) checkTold(t, store, told[n] ?? [])
    },
  )
}

test.serial('write skew: of a reference and the deletion of what it names one fails', async (t) => {
  const [one, two] = await openHosts(t, 2)
  if (one === undefined || two === undefined) return t.fail()
  let both = 0
  for (let round = 0; round < 30; round++) {
    const bridge = `br${round}`
    await one.transact((draft) => draft.put('bridge', { id: bridge, adminUp: true }))
    await eventually(t, 'seen', () => two.get('bridge', bridge) !== undefined)
    const done = await Promise.allSettled([
      one.transact((draft) => draft.delete('bridge', bridge)),
      two.transact((draft) => draft.put('port', bridgePort(`p${round}`, { bridge }))),
    ])
    if (done.every(({ status }) => status === 'fulfilled')) both += 1
  }
  t.is(both, 0)
  await checkSettled(t, [one, two])
})

test.serial('two hosts that take the same name, and keys, at once never share one', async (t) => {
  const [one, two] = await openHosts(t, 2)
  if (one === undefined || two === undefined) return t.fail()
  await one.transact((draft) => {
    draft.put('bridge', { id: 'br', adminUp: true })
    for (const id of ['h0', 'h1']) draft.put('host', { id, name: id })
  })
  const take = (store: EtcdStore, host: string, n: number) =>
    store.transact((draft) => {
      draft.put('bridge', { id: `${host}-${n}`, name: `n${n}`, adminUp: true })
      draft.put('port', bridgePort(`p${host}-${n}`))
      bindPort(draft, { id: `p${host}-${n}`, host, interface: `i${n}` })
    })
  for (let n = 0; n < 20; n++) {
    const done = await Promise.allSettled([take(one, 'h0', n), take(two, 'h1', n)])
    t.is(done.filter(({ status }) => status === 'fulfilled').length, 1)
  }
  await checkSettled(t, [one, two])
  t.is(new Set(one.list('binding').map(({ tunnelKey }) => tunnelKey)).size, 20)
})

test.serial('facts of a host go with it, and come back with it', async (t) => {
  const [one, two] = await openHosts(t, 2)
  if (one === undefined || two === undefined) return t.fail()
  await one.transact((draft) => {
    draft.put('host', { id: 'h0', name: 'zero' })
    draft.put('hostAlive', { id: 'h0', since: '2020-01-01T00:00:00Z' })
  })
  await eventually(t, 'alive', () => two.get('hostAlive', 'h0') !== undefined)
  await one.close()
  await eventually(t, 'gone with its lease', () => two.get('hostAlive', 'h0') === undefined, 20_000)
  t.truthy(two.get('host', 'h0'))
  const again = await openEtcdStore(cluster.url, { host: 'h0' })
  t.teardown(() => again.close())
  await again.transact((draft) =>
    draft.put('hostAlive', { id: 'h0', since: '2020-01-01T00:00:01Z' }),
  )
  await eventually(t, 'alive again', () => two.get('hostAlive', 'h0') !== undefined)
  cluster.ctl('del', '/midonet/v1/hostAlive/h0')
  await eventually(t, 'written again', () => again.get('hostAlive', 'h0') !== undefined)
})

test.serial('an agent starts from its replica, refuses writes, and catches up', async (t) => {
  t.timeout(120_000)
  const dir = mkdtempSync(join(tmpdir(), 'midonet-replica-'))
  t.teardown(() => rmSync(dir, { recursive: true, force: true }))
  const [one] = await openHosts(t, 1)
  const open = () => openEtcdStore(cluster.url, { host: 'h9', replicaDir: dir })
  await one?.transact((draft) => draft.put('bridge', { id: 'a', adminUp: true }))
  await (await open()).close()
  // Behind the replica's back, and compacted away: only a snapshot can tell.
  await one?.transact((draft) => draft.delete('bridge', 'a'))
  await one?.transact((draft) => draft.put('bridge', { id: 'b', adminUp: true }))
  cluster.ctl('compact', String(one?.etcdRevision))
  for (let at = 0; at < cluster.size; at++) await cluster.kill(at)
  const store = await open()
  t.teardown(() => store.close())
  t.truthy(store.get('bridge', 'a'))
  const began = performance.now()
  const refused = store.transact((draft) => draft.put('bridge', { id: 'c', adminUp: true }))
  await t.throwsAsync(refused, { code: 'UNREACHABLE', message: /forwarding goes on/ })
  t.true(performance.now() - began < 3_000)
  const told = follow(store)
  for (let at = 0; at < cluster.size; at++) cluster.run(at)
  await cluster.healthy()
  await eventually(t, 'caught up', () => store.get('bridge', 'b') !== undefined)
  t.is(store.get('bridge', 'a'), undefined)
  t.is(told.length, 1)
  await store.close()

  for (const name of readdirSync(dir).filter((one) => /\.(log|ldb)$/.test(one)))
    writeFileSync(join(dir, name), 'damaged on purpose')
  const rebuilt = await open()
  t.teardown(() => rebuilt.close())
  t.truthy(rebuilt.get('bridge', 'b'))
})

test.serial('a topology moves from LevelDB into etcd, and back', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'midonet-move-'))
  t.teardown(() => rmSync(dir, { recursive: true, force: true }))
  cluster.wipe()
  const settings = readSettings({ MIDONET_STATE_DIR: dir }, '/none')
  const [from, back] = [`leveldb:${dir}/from`, `leveldb:${dir}/back`]
  const moved = 5_000
  const local = await openStore(from)
  await local.transact((draft) => {
    // More than one transaction of etcd holds.
    for (let n = 0; n < moved; n++) draft.put('bridge', { id: `b${n}`, adminUp: true })
  })
  const text = exportText(local)
  // The store is open, as it is beside a running agent, which is asked instead.
  const ask = async () => exportText(local)
  t.is(await importTopology(settings, from, cluster.url, ask), moved)
  await local.close()
  const never = () => Promise.reject(new ClusterError('nobody is to be asked'))
  t.is(await importTopology(settings, cluster.url, back, never), moved)
  const target = await openStore(back)
  t.is(exportText(target), text)
  await target.close()
})

test.serial('an etcd that lost everything takes nothing from a host', async (t) => {
  const [one] = await openHosts(t, 1)
  await one?.transact((draft) => draft.put('bridge', { id: 'a', adminUp: true }))
  const dir = mkdtempSync(join(tmpdir(), 'midonet-replica-'))
  t.teardown(() => rmSync(dir, { recursive: true, force: true }))
  const open = () => openEtcdStore(cluster.url, { host: 'h9', replicaDir: dir })
  await (await open()).close()
  cluster.wipe()
  const store = await open()
  t.teardown(() => store.close())
  t.truthy(store.get('bridge', 'a'))
  t.regex(store.problem ?? '', /etcd has no topology/)
})
