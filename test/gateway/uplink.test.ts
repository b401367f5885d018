import test from 'ava'
import { desiredState } from '../../gateway/desired.ts'
import { needsPlan, planUplinks } from '../../gateway/uplink.ts'
import { contains, formatCidr, overlaps, parseCidr } from '../../packet/address.ts'
import type { Draft, Store } from '../../topology/store.ts'
import {
  deleteNetwork,
  host,
  openTopology,
  publish,
  putEndpoint,
  putNetwork,
  putVip,
} from './topology.ts'

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

test('an uplink takes along that its port was said to be active', async (t) => {
  const store = await planned((draft) => putNetwork(draft, 'red', 'r1', '10.1.0.0/24'))
  const [uplink] = store.list('uplink')
  await store.transact((draft) => draft.put('portActive', { id: uplink?.id ?? '', host }))
  await store.transact((draft) => deleteNetwork(draft, 'red'))
  await plan(store)
  t.deepEqual([...store.list('uplink'), ...store.list('portActive')], [])
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
  const echoes = () => store.list('rule').filter(({ id }) => id.includes('-echo-')).length
  t.is(echoes(), 8, 'two kinds of two subnets, in and out')
  await store.transact((draft) => deleteNetwork(draft, 'red'))
  await plan(store)
  t.is(echoes(), 4)
  t.is(store.list('uplink').length, 1)
  t.false(needsPlan(store, host))
  await store.transact((draft) => deleteNetwork(draft, 'blue'))
  t.true(needsPlan(store, host))
  await plan(store)
  t.deepEqual(
    [store.list('uplink'), store.list('binding'), store.list('port'), store.list('route')],
    [[], [], [], []],
  )
  t.deepEqual([store.list('chain'), store.list('rule')], [[], []])
})

test('pings of a subnet that two routers have are translated', async (t) => {
  const store = await planned((draft) => {
    putNetwork(draft, 'red', 'r1', '10.1.0.0/24')
    putNetwork(draft, 'blue', 'r2', '10.1.0.0/24')
    putNetwork(draft, 'green', 'r2', '10.2.0.0/24')
  })
  const echoes = store.list('rule').filter(({ id }) => id.includes('-echo-'))
  const subnets = echoes.map(({ condition }) => condition?.src?.is ?? condition?.dst?.is)
  t.deepEqual(new Set(subnets), new Set(['10.2.0.0/24']))
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
    desiredState(store, host).publications.map(({ hostPort, port }) => [hostPort, port]),
    [[8080, 8080]],
  )
})

test('a published VIP of the router is so on each host', async (t) => {
  const store = await planned((draft) => {
    putNetwork(draft, 'red', 'r1', '10.1.0.0/24')
    putEndpoint(draft, 'a', 'red', '10.1.0.5/24', [publish('tcp 8080 80')])
    putVip(draft, 'r1', [{ hostPort: 8000, port: 80 }])
  })
  t.deepEqual(
    desiredState(store, host).publications.map(({ hostPort, port }) => [hostPort, port]),
    [
      [8000, 8000],
      [8080, 8080],
    ],
  )
  const rule = store.list('rule').find(({ id }) => id.endsWith('tcp-8000'))
  t.like(rule?.action, { kind: 'dnat', targets: [{ first: '10.1.0.9' }] })
})

test('the link has the smallest MTU of its networks', async (t) => {
  const store = await planned((draft) => {
    putNetwork(draft, 'red', 'r1', '10.1.0.0/24', { mtu: 9000 })
    putNetwork(draft, 'blue', 'r1', '10.2.0.0/24', { mtu: 1400 })
  })
  t.is(desiredState(store, host).uplinks[0]?.mtu, 1400)
})

test('subnets that two routers have are nothing that the host could reach', async (t) => {
  const store = await planned((draft) => {
    putNetwork(draft, 'red', 'r1', '10.1.0.0/24')
    putNetwork(draft, 'blue', 'r2', '10.1.0.0/24')
    putNetwork(draft, 'green', 'r2', '10.2.0.0/24')
  })
  const { uplinks } = desiredState(store, host)
  const reached = Object.fromEntries(uplinks.map(({ router, subnets }) => [router, subnets]))
  t.deepEqual(reached, { r1: [], r2: ['10.2.0.0/24'] })
})

test('one port of two addresses is two ports of the uplink, and stays when one goes', async (t) => {
  const store = await planned((draft) => {
    putNetwork(draft, 'red', 'r1', '10.1.0.0/24')
    putEndpoint(draft, 'a', 'red', '10.1.0.5/24', [publish('tcp 127.0.0.1:80 80')])
    putEndpoint(draft, 'b', 'red', '10.1.0.6/24', [publish('tcp 192.0.2.1:80 80')])
    putEndpoint(draft, 'c', 'red', '10.1.0.7/24', [publish('udp 80 80')])
  })
  const linkPorts = () =>
    new Map(desiredState(store, host).publications.map((one) => [one.endpoint, one.port]))
  const before = linkPorts()
  t.not(before.get('a'), before.get('b'))
  t.is(before.get('c'), 80)
  await store.transact((draft) => {
    draft.delete('endpoint', 'a')
    planUplinks(draft, host, [])
  })
  t.is(linkPorts().get('b'), before.get('b'))
  const published = store.list('rule').filter(({ id }) => /-(tcp|udp)-\d+$/.test(id))
  t.deepEqual(
    published
      .map(({ condition }) => condition?.dstPorts?.is.first)
      .toSorted((a = 0, b = 0) => a - b),
    [80, before.get('b')].toSorted((a = 0, b = 0) => a - b),
  )
})

test('rules that others changed or added are put right', async (t) => {
  const store = await planned((draft) => putNetwork(draft, 'red', 'r1', '10.1.0.0/24'))
  const rules = store.list('rule')
  await store.transact((draft) => {
    const [first] = rules
    if (first === undefined) return
    draft.put('rule', { ...first, action: { kind: 'drop' } })
    draft.put('rule', { ...first, id: 'theirs', position: 77 })
  })
  t.true(needsPlan(store, host))
  await plan(store)
  t.deepEqual(store.list('rule'), rules)
  t.false(needsPlan(store, host))
})
