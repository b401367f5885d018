import test, { type ExecutionContext } from 'ava'
import { type Gateway, removeAll, startGateway } from '../../gateway/gateway.ts'
import type { Store } from '../../topology/store.ts'
import { FakeHost } from './fake.ts'
import {
  deleteNetwork,
  host as hostId,
  openTopology,
  publish,
  putEndpoint,
  putNetwork,
  putVip,
} from './topology.ts'

function start(t: ExecutionContext, store: Store, host: FakeHost): Gateway {
  const { links, run, settings } = host
  const gateway = startGateway({ store, links, hostId, run, settings })
  t.teardown(() => gateway.close())
  return gateway
}

/** Commits, and waits until the host reflects it. */
async function commit(store: Store, gateway: Gateway, work: Parameters<Store['transact']>[0]) {
  const { revision } = await store.transact(work)
  await gateway.settled(revision)
}

test('without networks a host is left as it is', async (t) => {
  const host = new FakeHost()
  const store = await openTopology()
  const gateway = start(t, store, host)
  await gateway.settled(store.revision)
  t.deepEqual(host.links.list(), [])
  t.is(host.table, '')
  t.is(host.kernel.get('net/ipv4/ip_forward'), '0')
})

test('a network that leads out gets link, address, route and rules before it is settled', async (t) => {
  const host = new FakeHost()
  const store = await openTopology()
  const gateway = start(t, store, host)
  await commit(store, gateway, (draft) => putNetwork(draft, 'red', 'r1', '10.1.0.0/24'))
  const [uplink] = gateway.status().uplinks
  const name = uplink?.interface ?? ''
  t.true(host.links.find(name)?.up)
  t.like(host.links.addresses()[0], { interface: name, cidr: `${uplink?.hostAddress}/30` })
  t.like(host.links.routes()[0], { dst: '10.1.0.0/24', interface: name })
  t.true(host.table.includes('masquerade comment "out of r1"'))
  t.is(host.kernel.get('net/ipv4/ip_forward'), '1')
  t.deepEqual(gateway.repairs, [])
  t.deepEqual(gateway.status().problems, [])
})

test('everything goes with the last network', async (t) => {
  const host = new FakeHost()
  const store = await openTopology((draft) => putNetwork(draft, 'red', 'r1', '10.1.0.0/24'))
  const gateway = start(t, store, host)
  await gateway.settled(store.revision)
  t.is(host.links.list().length, 2)
  await commit(store, gateway, (draft) => deleteNetwork(draft, 'red'))
  // The first round takes the uplink out of the store, the second out of the kernel.
  await gateway.settled(store.revision)
  t.deepEqual([host.links.list(), host.links.routes(), host.table], [[], [], ''])
  t.deepEqual(store.list('uplink'), [])
})

test('so do those of a VIP', async (t) => {
  const host = new FakeHost()
  const store = await openTopology((draft) => putNetwork(draft, 'red', 'r1', '10.1.0.0/24'))
  const gateway = start(t, store, host)
  await gateway.settled(store.revision)
  await commit(store, gateway, (draft) => putVip(draft, 'r1', [{ hostPort: 8000, port: 80 }]))
  t.true(host.table.includes('tcp dport 8000'))
  await commit(store, gateway, (draft) => draft.delete('vip', 'web:tcp'))
  t.false(host.table.includes('tcp dport 8000'))
})

test('published ports come and go with their endpoint, and attaching without any runs nothing', async (t) => {
  const host = new FakeHost()
  const store = await openTopology((draft) => putNetwork(draft, 'red', 'r1', '10.1.0.0/24'))
  const gateway = start(t, store, host)
  await gateway.settled(store.revision)
  await gateway.settled(store.revision)
  host.commands.length = 0
  await commit(store, gateway, (draft) => putEndpoint(draft, 'a', 'red', '10.1.0.5/24', []))
  t.deepEqual(host.commands, [])
  await commit(store, gateway, (draft) =>
    putEndpoint(draft, 'b', 'red', '10.1.0.6/24', [publish('tcp 8080 80')]),
  )
  // To the uplink's address; from there on it is its chains' to give it to the container.
  const [uplink] = store.list('uplink')
  const port = store.get('port', uplink?.id ?? '')
  const address = port?.kind === 'router' ? port.addresses[0]?.split('/')[0] : ''
  t.true(host.table.includes(`tcp dport 8080 counter dnat ip to ${address}:8080`))
  t.like(store.get('rule', `${uplink?.id}-published-tcp-8080`), {
    condition: { dstPorts: { is: { first: 8080, last: 8080 } } },
    action: { kind: 'dnat', targets: [{ first: '10.1.0.6', ports: { first: 80, last: 80 } }] },
  })
  t.is(gateway.status().publications, 1)
  await commit(store, gateway, (draft) => draft.delete('endpoint', 'b'))
  t.false(host.table.includes('8080'))
})

test("Docker's DROP policy gets one pair of rules, taken away at the end", async (t) => {
  const host = new FakeHost()
  host.filter = ['-P FORWARD DROP', '-N DOCKER-USER']
  const store = await openTopology((draft) => putNetwork(draft, 'red', 'r1', '10.1.0.0/24'))
  const gateway = start(t, store, host)
  await gateway.settled(store.revision)
  const rule = (way: string) => `-A DOCKER-USER ${way} mu+ -m comment --comment midonet -j ACCEPT`
  t.deepEqual(host.rules.toSorted(), [rule('-i'), rule('-o')])
  await gateway.close()
  await removeAll({ links: host.links, run: host.run })
  t.deepEqual([host.rules, host.table, host.links.list()], [[], '', []])
})

test('a host that did not forward before does not become a router for others', async (t) => {
  const host = new FakeHost()
  const store = await openTopology((draft) => putNetwork(draft, 'red', 'r1', '10.1.0.0/24'))
  const gateway = start(t, store, host)
  await gateway.settled(store.revision)
  t.deepEqual(host.filter, ['-P FORWARD DROP'])
  t.is(host.rules.length, 2)
})

test('a host that forwards keeps its policy', async (t) => {
  const host = new FakeHost()
  host.kernel.set('net/ipv4/ip_forward', '1')
  const store = await openTopology((draft) => putNetwork(draft, 'red', 'r1', '10.1.0.0/24'))
  const gateway = start(t, store, host)
  await gateway.settled(store.revision)
  t.deepEqual([host.filter, host.rules], [['-P FORWARD ACCEPT'], []])
})

test('a second agent keeps what the first one made', async (t) => {
  const host = new FakeHost()
  const store = await openTopology((draft) => putNetwork(draft, 'red', 'r1', '10.1.0.0/24'))
  const first = start(t, store, host)
  await first.settled(store.revision)
  await first.settled(store.revision)
  await first.close()
  const before = host.links.list()
  host.commands.length = 0
  const second = start(t, store, host)
  await second.settled(store.revision)
  t.deepEqual(host.links.list(), before)
  t.false(host.commands.some((command) => command.includes(' -f ')))
  t.deepEqual(second.repairs, [])
})

test('links and routes that others took away come back, and the repair is told', async (t) => {
  const host = new FakeHost()
  const store = await openTopology((draft) => putNetwork(draft, 'red', 'r1', '10.1.0.0/24'))
  const first = start(t, store, host)
  await first.settled(store.revision)
  await first.close()
  for (const { name } of host.links.list()) host.links.remove(name)
  const second = start(t, store, host)
  await second.settled(store.revision)
  t.is(host.links.list().length, 2)
  t.true(second.repairs.some(({ what }) => what.includes('of router r1: made')))
  t.true(second.repairs.some(({ what }) => what.includes('route to 10.1.0.0/24 set')))
})

test('links of uplinks that the store does not know are removed', async (t) => {
  const host = new FakeHost()
  host.links.createVeth({ name: 'mn123456789ab', peerName: 'mu123456789ab', mtu: 1500 })
  host.addLink('mule', undefined)
  const store = await openTopology()
  const gateway = start(t, store, host)
  await gateway.settled(store.revision)
  t.deepEqual(
    host.links.list().map(({ name }) => name),
    ['mule'],
  )
})

test("Docker's own bridges are closed to our containers", async (t) => {
  const host = new FakeHost()
  for (const name of ['docker0', 'br-0123456789ab', 'br-lan']) host.addLink(name, 'bridge')
  const store = await openTopology((draft) => putNetwork(draft, 'red', 'r1', '10.1.0.0/24'))
  const gateway = start(t, store, host)
  await gateway.settled(store.revision)
  t.true(host.table.includes('oifname { "br-0123456789ab", "docker0" } counter drop'))
})

test('a missing nft is told to whoever waits, and works as soon as it is there', async (t) => {
  const host = new FakeHost()
  host.missing.add('nft')
  const store = await openTopology((draft) => putNetwork(draft, 'red', 'r1', '10.1.0.0/24'))
  const gateway = start(t, store, host)
  await t.throwsAsync(gateway.settled(store.revision), {
    code: 'COMMAND_MISSING',
    message: /install nftables/,
  })
  t.regex(gateway.status().problems[0] ?? '', /install nftables/)
  host.missing.clear()
  await gateway.settled(store.revision)
  t.deepEqual(gateway.status().problems, [])
})

test('after close whoever waits is told', async (t) => {
  const host = new FakeHost()
  const store = await openTopology((draft) => putNetwork(draft, 'red', 'r1', '10.1.0.0/24'))
  const gateway = start(t, store, host)
  await gateway.close()
  const { revision } = await store.transact((draft) =>
    putNetwork(draft, 'blue', 'r1', '10.2.0.0/24'),
  )
  await t.throwsAsync(gateway.settled(revision + 1), { code: 'STOPPED' })
})

test('connections to UDP ports that lead elsewhere are forgotten, once the rules stand', async (t) => {
  const host = new FakeHost()
  const store = await openTopology((draft) => {
    putNetwork(draft, 'red', 'r1', '10.1.0.0/24')
    putEndpoint(draft, 'e1', 'red', '10.1.0.2/24', [publish('udp 53 53'), publish('tcp 80 80')])
  })
  const forgotten: string[] = []
  const connections = {
    forget(protocol: number, ports: ReadonlySet<number>) {
      forgotten.push(`${protocol}: ${[...ports].join(' ')} ${host.table.includes('udp dport 53')}`)
      return 0
    },
  }
  const { links, run, settings } = host
  const gateway = startGateway({ store, links, hostId, run, settings, connections })
  t.teardown(() => gateway.close())
  await gateway.settled(store.revision)
  // What an agent before this one published is not known.
  t.deepEqual(forgotten, [])
  await commit(store, gateway, (draft) => draft.delete('endpoint', 'e1'))
  await commit(store, gateway, (draft) =>
    putEndpoint(draft, 'e2', 'red', '10.1.0.3/24', [publish('udp 53 53'), publish('tcp 80 80')]),
  )
  t.deepEqual(forgotten, ['17: 53 false', '17: 53 true'])
})
