/** The suite of all stores, on a real etcd of three members. */
import test from 'ava'
import { openEtcdStore } from '../../topology/etcd.ts'
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
