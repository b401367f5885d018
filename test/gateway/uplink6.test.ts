import test from 'ava'
import { startGateway } from '../../gateway/gateway.ts'
import { needsPlan, planUplinks } from '../../gateway/uplink.ts'
import type { Network } from '../../topology/model.ts'
import type { Store } from '../../topology/store.ts'
import { FakeHost } from './fake.ts'
import { deleteNetwork, host, openTopology, putNetwork } from './topology.ts'

const plan = (store: Store) => store.transact((draft) => planUplinks(draft, host, []))
const six: Partial<Network> = { subnets6: [{ subnet: 'fd00:1::/64', gateway: 'fd00:1::1/64' }] }

test('an uplink speaks IPv6 while a network behind it does', async (t) => {
  const store = await openTopology((draft) => {
    putNetwork(draft, 'red', 'r1', '10.1.0.0/24')
    putNetwork(draft, 'blue', 'r1', '10.2.0.0/24', six)
  })
  await plan(store)
  const [uplink] = store.list('uplink')
  const id = uplink?.id ?? ''
  const port = store.get('port', id)
  if (port?.kind !== 'router') return t.fail('no router port')
  t.regex(port.addresses6?.[0] ?? '', /^fd6d:6964:6fff::a9fe:[0-9a-f]+\/126$/)
  const gateway = port.neighbors6?.[0]?.address
  t.like(store.get('route', `${id}-default6`), { dst: '::/0', port: id, gateway })
  t.like(store.get('rule', `${id}-out-way-out6`), { action: { kind: 'snat' } })
  t.false(needsPlan(store, host))

  await store.transact((draft) => deleteNetwork(draft, 'blue'))
  t.true(needsPlan(store, host))
  await plan(store)
  t.is(store.get('route', `${id}-default6`), undefined)
  t.is(store.get('rule', `${id}-out-way-out6`), undefined)
  t.false(needsPlan(store, host))
})

test('the host forwards IPv6 only for such an uplink, and goes on hearing its routers', async (t) => {
  const fake = new FakeHost()
  fake.addLink('eth0', undefined)
  fake.kernel.set('net/ipv6/conf/all/forwarding', '0')
  fake.kernel.set('net/ipv6/conf/eth0/accept_ra', '1')
  const store = await openTopology((draft) => putNetwork(draft, 'red', 'r1', '10.1.0.0/24'))
  const { links, run, settings } = fake
  const gateway = startGateway({ store, links, hostId: host, run, settings })
  t.teardown(() => gateway.close())
  await gateway.settled(store.revision)
  t.is(fake.kernel.get('net/ipv6/conf/all/forwarding'), '0')
  t.deepEqual(links.addresses6(), [])

  const { revision } = await store.transact((draft) =>
    putNetwork(draft, 'blue', 'r1', '10.2.0.0/24', six),
  )
  await gateway.settled(revision)
  t.is(fake.kernel.get('net/ipv6/conf/all/forwarding'), '1')
  t.is(fake.kernel.get('net/ipv6/conf/eth0/accept_ra'), '2')
  t.is(links.addresses6().length, 1)
  t.regex(fake.table, /ip6 saddr fd6d:6964:6fff::\S+ counter masquerade/)
  t.true(fake.commands.some((command) => command.startsWith('ip6tables')))
})
