/** How a host finds its address of the underlay, and how hosts are listed. */
import test from 'ava'
import { followHost } from '../../agent/host.ts'
import { formatHosts } from '../../agent/host-list.ts'
import { isUnderlay, joinDefaultZone, underlayAddress } from '../../agent/underlay.ts'
import { openMemoryStore } from '../../topology/memory.ts'
import type { Host } from '../../topology/model.ts'

const host: Host = {
  id: 'h1',
  name: 'one',
  interfaces: [
    { name: 'eth0', mtu: 1500, up: true, addresses: ['192.0.2.7/24', '2001:db8::7/64'] },
    { name: 'eth1', mtu: 9000, up: true, addresses: ['198.51.100.7/25'] },
  ],
}

test('an underlay is an address or a network of either family', (t) => {
  for (const text of ['192.0.2.7', '192.0.2.0/24', '2001:db8::7', '2001:db8::/64'])
    t.true(isUnderlay(text), text)
  for (const text of ['', 'eth0', '192.0.2.0/33', '2001:db8::/129', '192.0.2'])
    t.false(isUnderlay(text))
})

test('the host’s address is the one that is asked for, or the first of the network', (t) => {
  t.is(underlayAddress(host, '192.0.2.0/24'), '192.0.2.7')
  t.is(underlayAddress(host, '198.51.100.7'), '198.51.100.7')
  t.is(underlayAddress(host, '2001:db8::/32'), '2001:db8::7')
  t.is(underlayAddress(host, '203.0.113.0/24'), undefined)
  t.is(underlayAddress({ id: 'h2', name: 'two' }, '192.0.2.0/24'), undefined)
})

test('a host joins the default zone, moves in it, and says why it cannot', async (t) => {
  const store = await openMemoryStore()
  const join = (underlay: string) =>
    store.transact((draft) => {
      draft.put('host', host)
      return joinDefaultZone(draft, host, underlay)
    })
  t.is((await join('192.0.2.0/24')).value, undefined)
  t.is(store.get('tunnelZone', 'default')?.encapsulation, 'vxlan')
  t.is(store.get('zoneMember', 'default_h1')?.address, '192.0.2.7')
  const { revision } = store
  await join('192.0.2.0/24')
  t.deepEqual(store.get('zoneMember', 'default_h1')?.address, '192.0.2.7')
  t.is((await join('198.51.100.0/24')).value, undefined)
  t.is(store.get('zoneMember', 'default_h1')?.address, '198.51.100.7')
  t.regex(String((await join('203.0.113.0/24')).value), /no interface of this host/)
  t.true(store.revision > revision)
})

test('an address of the underlay that comes after the agent is noticed', async (t) => {
  const store = await openMemoryStore()
  let interfaces: NonNullable<Host['interfaces']> = []
  const stop = followHost(store, {
    describe: () => ({ id: 'h1', name: 'one', interfaces }),
    addresses: () => JSON.stringify(interfaces),
    underlay: '192.0.2.0/24',
    isKnown: true,
    everyMs: 5,
  })
  t.teardown(stop)
  const seen = new Promise<void>((resolve) => store.watch(() => resolve()))
  interfaces = [{ name: 'eth0', mtu: 1500, up: true, addresses: ['192.0.2.7/24'] }]
  await seen
  t.is(store.get('zoneMember', 'default_h1')?.address, '192.0.2.7')
  const { revision } = store
  await new Promise((resolve) => setTimeout(resolve, 50))
  t.is(store.revision, revision, 'once')
})

test('hosts are listed with what they have', (t) => {
  const text = formatHosts({
    hosts: [host, { id: 'h2', name: 'another' }],
    zones: [{ id: 'default', name: 'default', encapsulation: 'vxlan' }],
    members: [{ id: 'default_h1', zone: 'default', host: 'h1', address: '192.0.2.7' }],
    bindings: [{ id: 'p', host: 'h1', interface: 'eth9' }],
    alive: new Set(['h1']),
  })
  t.is(
    text,
    [
      'HOST  NAME     AGENT  PORTS  TUNNEL ZONES',
      'h2    another  away   0      -',
      'h1    one      alive  1      default 192.0.2.7',
    ].join('\n'),
  )
})
