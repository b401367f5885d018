import test from 'ava'
import { desiredState } from '../../gateway/desired.ts'
import { needsPlan, planUplinks } from '../../gateway/uplink.ts'
import type { Store } from '../../topology/store.ts'
import { tenantLink } from '../../topology/uplink.ts'
import { deleteNetwork, host, openTopology, publish, putEndpoint, putNetwork } from './topology.ts'

const plan = (store: Store) => store.transact((draft) => planUplinks(draft, host, []))

/** Two tenants with the same subnet behind one provider. */
async function openTenants(): Promise<Store> {
  const store = await openTopology((draft) => {
    draft.put('router', { id: 'edge', adminUp: true })
    putNetwork(draft, 'red', 'r1', '10.1.0.0/24', { provider: 'edge' })
    putNetwork(draft, 'blue', 'r2', '10.1.0.0/24', { provider: 'edge', mtu: 1400 })
    putEndpoint(draft, 'a', 'red', '10.1.0.5/24', [publish('tcp 8080 80')])
    putEndpoint(draft, 'b', 'blue', '10.1.0.5/24', [publish('tcp 8081 80')])
  })
  await plan(store)
  return store
}

test('tenants are linked to the provider, which alone has an uplink', async (t) => {
  const store = await openTenants()
  t.deepEqual(
    store.list('uplink').map(({ router }) => router),
    ['edge'],
  )
  const defaults = store.list('route').map(({ router, port }) => [router, port])
  const [uplink] = store.list('uplink')
  t.deepEqual(
    new Map(defaults.map(([router, port]) => [router, port])),
    new Map([
      ['edge', uplink?.id],
      ['r1', tenantLink('r1').id],
      ['r2', tenantLink('r2').id],
    ]),
  )
  const port = store.get('port', tenantLink('r2').id)
  t.like(port, { kind: 'router', router: 'r2', mtu: 1400, peer: tenantLink('r2').peer })
  t.like(store.get('port', tenantLink('r2').peer), { router: 'edge', mtu: 1400 })
  t.false(needsPlan(store, host))
  t.deepEqual(desiredState(store, host).uplinks[0]?.subnets, [], 'the host knows no tenant')
})

test('a published port is led over both routers', async (t) => {
  const store = await openTenants()
  const [uplink] = store.list('uplink')
  const at = (chain: string) => store.list('rule').filter((rule) => rule.chain === chain)
  const first = at(`${uplink?.id}-published`).find(({ id }) => id.endsWith('tcp-8080'))
  const [second] = at(`${tenantLink('r1').id}-published`)
  t.like(second, { action: { targets: [{ first: '10.1.0.5', ports: { first: 80, last: 80 } }] } })
  const port = store.get('port', tenantLink('r1').id)
  const inside = port?.kind === 'router' ? port.addresses[0]?.split('/')[0] : undefined
  t.like(first, {
    action: { targets: [{ first: inside, ports: second?.condition?.dstPorts?.is }] },
  })
  t.deepEqual(
    desiredState(store, host).publications.map(({ hostPort, port: to }) => [hostPort, to]),
    [
      [8080, 8080],
      [8081, 8081],
    ],
  )
})

test('the link goes with the last network that leads out by it', async (t) => {
  const store = await openTenants()
  await store.transact((draft) => {
    draft.delete('endpoint', 'a')
    deleteNetwork(draft, 'red')
  })
  t.true(needsPlan(store, host))
  await plan(store)
  t.is(store.get('port', tenantLink('r1').id), undefined)
  t.is(store.get('port', tenantLink('r1').peer), undefined)
  t.deepEqual(
    store.list('rule').filter(({ id }) => id.startsWith(tenantLink('r1').id)),
    [],
  )
  t.false(needsPlan(store, host))
})
