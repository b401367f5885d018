import test from 'ava'
import { desiredState } from '../../gateway/desired.ts'
import { needsPlan, planUplinks } from '../../gateway/uplink.ts'
import { contains, formatCidr, overlaps, parseCidr } from '../../packet/address.ts'
import type { Draft, Store } from '../../topology/store.ts'
import { deleteNetwork, host, openTopology, publish, putEndpoint, putNetwork } from './topology.ts'

const plan = (store: Store) => store.transact((draft) => planUplinks(draft, host, []))

async function planned(work: (draft: Draft) => void): Promise<Store> {
  const store = await openTopology(work)
  await plan(store)
  return store
}

test('a router with a network that leads out gets port, binding and default route', async (t) => {
  const store = await planned((draft) => putNetwork(draft, 'red', 'r1', '10.1.0.0/24'))
  const [uplink] = store.list('uplink')
  if (uplink === undefined) return t.fail('no uplink')
  const port = store.get('port', uplink.id)
  if (port?.kind !== 'router') return t.fail('no router port')
  const address = uplink.hostAddress.replace('/30', '')
  t.deepEqual(port.neighbors, [{ address, mac: uplink.hostMac }])
  t.regex(uplink.interface, /^mu[0-9a-f]{11}$/)
  t.deepEqual(store.get('binding', uplink.id), {
    id: uplink.id,
    host,
    interface: uplink.interface.replace('mu', 'mn'),
    tunnelKey: store.get('binding', uplink.id)?.tunnelKey,
  })
  t.like(store.list('route')[0], { dst: '0.0.0.0/0', port: uplink.id, gateway: address })
  t.false(needsPlan(store, host))
})

test('both ends are hosts of one link-local network', async (t) => {
  const store = await planned((draft) => putNetwork(draft, 'red', 'r1', '10.1.0.0/24'))
  const [uplink] = desiredState(store, host).uplinks
  const link = parseCidr(uplink?.hostCidr ?? '')
  const router = parseCidr(`${uplink?.routerAddress}/32`)
  const all = parseCidr('169.254.0.0/16')
  if (link === undefined || router === undefined || all === undefined) return t.fail()
  t.true(contains(all, link.address))
  t.true(contains(link, router.address))
  t.not(link.address, router.address)
})

for (const [what, more] of [
  ['internal networks', { internal: true }],
  ["networks that use Docker's gateway bridge", { gatewayMode: 'docker' }],
] as const)
  test(`a router with only ${what} gets none`, async (t) => {
    const store = await planned((draft) => putNetwork(draft, 'red', 'r1', '10.1.0.0/24', more))
    t.deepEqual(store.list('uplink'), [])
    t.deepEqual(store.list('route'), [])
  })

test('the uplink goes with the last network that needs it', async (t) => {
  const store = await planned((draft) => {
    putNetwork(draft, 'red', 'r1', '10.1.0.0/24')
    putNetwork(draft, 'blue', 'r1', '10.2.0.0/24')
  })
  await store.transact((draft) => deleteNetwork(draft, 'red'))
  t.false(needsPlan(store, host))
  await store.transact((draft) => deleteNetwork(draft, 'blue'))
  t.true(needsPlan(store, host))
  await plan(store)
  t.deepEqual(
    [store.list('uplink'), store.list('binding'), store.list('port'), store.list('route')],
    [[], [], [], []],
  )
})

test("an operator's default route is left alone, and ours comes when it goes", async (t) => {
  const store = await planned((draft) => {
    putNetwork(draft, 'red', 'r1', '10.1.0.0/24')
    draft.put('route', {
      id: 'theirs',
      router: 'r1',
      src: '0.0.0.0/0',
      dst: '0.0.0.0/0',
      action: 'blackhole',
      weight: 1,
    })
  })
  t.deepEqual(
    store.list('route').map(({ id }) => id),
    ['theirs'],
  )
  await store.transact((draft) => draft.delete('route', 'theirs'))
  t.true(needsPlan(store, host))
  await plan(store)
  t.is(store.list('route').length, 1)
})

test('a hundred routers have a hundred networks, none reserved or used by the host', async (t) => {
  const store = await openTopology((draft) => {
    for (let n = 0; n < 100; n++) putNetwork(draft, `n${n}`, `r${n}`, `10.${n}.0.0/24`)
  })
  const used = parseCidr('169.254.0.0/17')
  if (used === undefined) return t.fail()
  await store.transact((draft) => planUplinks(draft, host, [used]))
  const links = store.list('uplink').flatMap((uplink) => parseCidr(uplink.hostAddress) ?? [])
  t.is(links.length, 100)
  const metadata = parseCidr('169.254.169.254/32')
  for (const [at, link] of links.entries()) {
    t.false(overlaps(link, used), formatCidr(link))
    t.false(metadata !== undefined && overlaps(link, metadata))
    t.false(links.slice(at + 1).some((other) => overlaps(link, other)))
  }
})

test('two hosts give one router two uplinks that do not meet', async (t) => {
  const store = await planned((draft) => putNetwork(draft, 'red', 'r1', '10.1.0.0/24'))
  await store.transact((draft) => {
    draft.put('host', { id: 'host2', name: 'two' })
    planUplinks(draft, 'host2', [])
  })
  t.is(new Set(store.list('uplink').map((uplink) => uplink.hostAddress)).size, 2)
  t.is(store.list('route').length, 2)
  t.is(desiredState(store, host).uplinks.length, 1)
  t.false(needsPlan(store, host))
})

test('no address left is an error that says what to do', async (t) => {
  const store = await openTopology((draft) => putNetwork(draft, 'red', 'r1', '10.1.0.0/24'))
  const all = parseCidr('169.254.0.0/16')
  if (all === undefined) return t.fail()
  await t.throwsAsync(
    store.transact((draft) => planUplinks(draft, host, [all])),
    { code: 'NO_ADDRESS', message: /remove/ },
  )
})

test('published ports of other hosts, internal networks and IPv6 addresses are not ours', async (t) => {
  const store = await planned((draft) => {
    draft.put('host', { id: 'host2', name: 'two' })
    putNetwork(draft, 'red', 'r1', '10.1.0.0/24')
    putNetwork(draft, 'in', 'r1', '10.2.0.0/24', { internal: true })
    putEndpoint(draft, 'a', 'red', '10.1.0.5/24', [publish('tcp 8080 80'), publish('tcp :::81 80')])
    putEndpoint(draft, 'b', 'in', '10.2.0.5/24', [publish('tcp 8081 80')])
    draft.put('endpoint', {
      id: 'c',
      network: 'red',
      host: 'host2',
      mac: '02:00:00:00:00:0c',
      address: '10.1.0.6/24',
      publications: [publish('tcp 8082 80')],
    })
  })
  t.deepEqual(
    desiredState(store, host).publications.map(({ hostPort, address }) => [hostPort, address]),
    [[8080, '10.1.0.5']],
  )
})

test('the link has the smallest MTU of its networks', async (t) => {
  const store = await planned((draft) => {
    putNetwork(draft, 'red', 'r1', '10.1.0.0/24', { mtu: 9000 })
    putNetwork(draft, 'blue', 'r1', '10.2.0.0/24', { mtu: 1400 })
  })
  t.is(desiredState(store, host).uplinks[0]?.mtu, 1400)
})
