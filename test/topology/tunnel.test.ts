/** Hosts in tunnel zones, and tunnel keys: each taken once, kept by a port that moves. */
import test from 'ava'
import { TopologyError } from '../../topology/error.ts'
import { openMemoryStore } from '../../topology/memory.ts'
import type { Draft, Store } from '../../topology/store.ts'
import { bindPort, clusterMtu, overlayMtu } from '../../topology/tunnel.ts'
import { bridgePort } from './fixture.ts'

async function open(): Promise<Store> {
  const store = await openMemoryStore()
  await store.transact((draft) => {
    putHost(draft, 'h1', '192.0.2.1/24', 1500)
    putHost(draft, 'h2', '192.0.2.2/24', 9000)
    draft.put('tunnelZone', { id: 'z', name: 'rack', encapsulation: 'vxlan' })
    draft.put('zoneMember', { id: 'z_h1', zone: 'z', host: 'h1', address: '192.0.2.1' })
    draft.put('bridge', { id: 'br', adminUp: true })
  })
  return store
}

function putHost(draft: Draft, id: string, address: string, mtu: number): void {
  const interfaces = [{ name: 'eth0', mtu, up: true, addresses: [address] }]
  draft.put('host', { id, name: id, interfaces })
}

test('ports of the cluster get tunnel keys of their own, also in one transaction', async (t) => {
  const store = await open()
  await store.transact((draft) => {
    for (let n = 0; n < 500; n++) {
      draft.put('port', bridgePort(`p${n}`))
      bindPort(draft, { id: `p${n}`, host: 'h1', interface: `if${n}` })
    }
  })
  const keys = store.list('binding').map(({ tunnelKey }) => tunnelKey)
  t.is(new Set(keys).size, 500)
  t.true(keys.every((key) => key !== undefined && key >= 1 && key <= 0xff_fffe))
})

test('a port keeps its key when it moves to another host', async (t) => {
  const store = await open()
  await store.transact((draft) => draft.put('port', bridgePort('p')))
  const at = (host: string) =>
    store.transact((draft) => bindPort(draft, { id: 'p', host, interface: 'if0' }))
  const { value: before } = await at('h1')
  const { value: after } = await at('h2')
  t.is(after.tunnelKey, before.tunnelKey)
  t.is(store.get('binding', 'p')?.host, 'h2')
})

test('a tunnel key that another port has is refused', async (t) => {
  const store = await open()
  const refused = store.transact((draft) => {
    for (const id of ['p', 'q']) {
      draft.put('port', bridgePort(id))
      draft.put('binding', { id, host: 'h1', interface: id, tunnelKey: 7 })
    }
  })
  await t.throwsAsync(refused, { instanceOf: TopologyError, message: /tunnel key 7 is another/ })
})

test('what makes no sense in a zone is refused with what to do', async (t) => {
  const store = await open()
  const refuse = async (work: (draft: Draft) => void, message: RegExp) =>
    t.throwsAsync(store.transact(work), { instanceOf: TopologyError, message })
  const member = (over: object) => (draft: Draft) =>
    draft.put('zoneMember', { id: 'z_h2', zone: 'z', host: 'h2', address: '192.0.2.2', ...over })
  await refuse(member({ address: '192.0.2.1' }), /another host's in zone z/)
  await refuse(member({ address: '127.0.0.1' }), /is no host's/)
  await refuse(member({ address: 'fd00::2' }), /another family/)
  await refuse(member({ id: 'x' }), /write its id as z_h2/)
  await refuse(member({ zone: 'none', id: 'none_h2' }), /there is no tunnelZone none/)
  await refuse(
    (draft) => draft.put('tunnelZone', { id: 'g', encapsulation: 'gre', udpPort: 1 }),
    /GRE has no UDP port/,
  )
  await refuse((draft) => draft.delete('tunnelZone', 'z'), /in use by zoneMember z_h1/)
})

test('the MTU is that of the underlay less the headers, the least of all hosts', async (t) => {
  const store = await open()
  t.is(overlayMtu(store, 'h1'), 1450)
  t.is(overlayMtu(store, 'h2'), undefined)
  await store.transact((draft) =>
    draft.put('zoneMember', { id: 'z_h2', zone: 'z', host: 'h2', address: '192.0.2.2' }),
  )
  t.is(overlayMtu(store, 'h2'), 8950)
  t.is(clusterMtu(store), 1450)
  await store.transact((draft) => draft.put('tunnelZone', { id: 'z', encapsulation: 'gre' }))
  t.is(overlayMtu(store, 'h1'), 1458)
})

test('facts of a host keep nothing from being deleted', async (t) => {
  const store = await open()
  await store.transact((draft) => {
    draft.put('host', { id: 'h3', name: 'three' })
    draft.put('hostAlive', { id: 'h3', since: '2020-01-01T00:00:00Z' })
  })
  await store.transact((draft) => draft.delete('host', 'h3'))
  t.is(store.get('host', 'h3'), undefined)
})
