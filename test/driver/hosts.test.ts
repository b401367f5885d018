/** Docker engines of several hosts that share a store: one network, no address twice. */
import test from 'ava'
import { createNetwork, deleteNetwork } from '../../driver/network.ts'
import { readNetworkOptions } from '../../driver/options.ts'
import { findDifferences } from '../../driver/reconcile.ts'
import { requestAddress, requestPool } from '../../topology/allocate.ts'
import { openMemoryStore } from '../../topology/memory.ts'
import type { Store } from '../../topology/store.ts'

const subnet = '10.7.0.0/24'

async function shared(): Promise<Store> {
  const store = await openMemoryStore()
  await store.transact((draft) => {
    for (const host of ['h1', 'h2']) {
      draft.put('host', { id: host, name: host })
      const pool = requestPool(draft, { space: 'local', subnet })
      requestAddress(draft, pool.id, { address: '10.7.0.1', gateway: true, host })
      requestAddress(draft, pool.id, { host })
      createNetwork(draft, {
        id: `net-${host}`,
        options: readNetworkOptions({ 'org.midonet.bridge': 'red' }),
        subnets: [{ subnet, gateway: '10.7.0.1/24' }],
        subnets6: [],
        host: [],
        hostId: host,
        newId: () => `id-${host}`,
      })
    }
  })
  return store
}

test('the same network on two engines is one bridge with one gateway', async (t) => {
  const store = await shared()
  const [one, two] = store.list('network')
  t.is(one?.bridge, two?.bridge)
  t.is(one?.routerPort, two?.routerPort)
  t.deepEqual(
    store.list('address').map(({ address, host }) => [address, host]),
    [
      ['10.7.0.1', 'h1'],
      ['10.7.0.2', 'h1'],
      ['10.7.0.3', 'h2'],
    ],
  )
  t.is(store.get('pool', 'local_10.7.0.0-24')?.references, 2)
})

test('a network without an MTU of its own fits into the tunnels', async (t) => {
  const store = await shared()
  t.is(store.get('network', 'net-h1')?.mtu, 1500)
  await store.transact((draft) => {
    const interfaces = [{ name: 'eth0', mtu: 1500, up: true, addresses: ['192.0.2.1/24'] }]
    draft.put('host', { id: 'h1', name: 'h1', interfaces })
    draft.put('tunnelZone', { id: 'z', encapsulation: 'vxlan' })
    draft.put('zoneMember', { id: 'z_h1', zone: 'z', host: 'h1', address: '192.0.2.1' })
    const options = readNetworkOptions({})
    const plan = { options, subnets: [], subnets6: [], host: [], newId: () => 'new' }
    createNetwork(draft, { ...plan, id: 'later' })
  })
  t.is(store.get('network', 'later')?.mtu, 1450)
})

test('reconciling one host takes nothing of the other', async (t) => {
  const store = await shared()
  const picture = { store, links: [], docker: [], host: 'h2', driver: 'midonet' }
  const found = findDifferences(picture).map(({ kind, id }) => `${kind} ${id}`)
  t.deepEqual(found, ['network net-h2'])
})

test('the gateway stays until the last of the networks goes', async (t) => {
  const store = await shared()
  await store.transact((draft) => deleteNetwork(draft, 'net-h1'))
  t.truthy(store.get('port', 'net-h1:router'))
  t.is(store.get('network', 'net-h2')?.routerPort, 'net-h1:router')
  await store.transact((draft) => deleteNetwork(draft, 'net-h2'))
  t.deepEqual([store.list('port'), store.list('bridge'), store.list('router')], [[], [], []])
})

test('a gateway that no host names is the same on all of them', async (t) => {
  const store = await openMemoryStore()
  await store.transact((draft) => {
    for (const host of ['h1', 'h2']) {
      draft.put('host', { id: host, name: host })
      const pool = requestPool(draft, { space: 'local', subnet })
      t.is(requestAddress(draft, pool.id, { gateway: true, host }), '10.7.0.1')
    }
    t.is(requestAddress(draft, 'local_10.7.0.0-24', { host: 'h2' }), '10.7.0.2')
  })
})
