/** The suite of all stores, on a real etcd of three members. */
import test from 'ava'
import { openEtcdStore } from '../../topology/etcd.ts'
import { learnedMacId } from '../../topology/host-schema.ts'
import { bridgePort } from '../topology/fixture.ts'
import { storeCases } from '../topology/store-suite.ts'
import { EtcdCluster } from './etcd-cluster.ts'

let cluster: EtcdCluster

test.before(async () => {
  cluster = await EtcdCluster.start()
})
test.after.always(() => cluster?.stop())

for (const { title, run } of storeCases) {
  test.serial(`etcd: ${title}`, async (t) => {
    cluster.wipe()
    const store = await openEtcdStore(cluster.url)
    t.teardown(() => store.close())
    await run(t, store)
  })
}

// Servers count what is compared and what is written against one limit.
test.serial('etcd: a host writes any number of its facts in one transaction', async (t) => {
  cluster.wipe()
  const host = 'h1'
  const store = await openEtcdStore(cluster.url, { host })
  t.teardown(() => store.close())
  await store.transact((draft) => {
    draft.put('host', { id: host, name: host })
    draft.put('bridge', { id: 'br', adminUp: true })
    draft.put('port', bridgePort('p'))
  })
  let made = 0
  for (const count of [1, 59, 60, 61, 65, 66, 67, 68, 69, 100, 117, 118, 119, 120, 121, 500]) {
    await store.transact((draft) => {
      for (let left = count; left > 0; left--) {
        const mac = `02:00:00:00:${hex(made >> 8)}:${hex(made & 255)}`
        const id = learnedMacId('br', 0, mac)
        draft.put('learnedMac', { id, bridge: 'br', vlan: 0, mac, port: 'p', host })
        made++
      }
    })
    t.is(store.list('learnedMac').length, made)
  }
})

const hex = (byte: number): string => byte.toString(16).padStart(2, '0')
