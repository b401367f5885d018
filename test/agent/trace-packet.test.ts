import test from 'ava'
import { nameIds } from '../../agent/name-ids.ts'
import { expandTracePacket, findTracePort } from '../../agent/trace-packet.ts'
import { openMemoryStore } from '../../topology/memory.ts'

const station = { mac: '02:00:00:00:00:0a', addresses: ['10.1.0.2'] }

async function topology() {
  const store = await openMemoryStore()
  await store.transact((draft) => {
    draft.put('host', { id: 'host', name: 'host' })
    draft.put('bridge', { id: 'red', adminUp: true })
    draft.put('router', { id: 'router', adminUp: true })
    draft.put('port', {
      id: 'alice',
      kind: 'bridge',
      bridge: 'red',
      adminUp: true,
      stations: [station],
    })
    draft.put('port', {
      id: 'bob',
      kind: 'bridge',
      bridge: 'red',
      adminUp: true,
      stations: [{ mac: '02:00:00:00:00:0b', addresses: ['10.1.0.3'] }],
    })
    draft.put('port', {
      id: 'red:bridge',
      kind: 'bridge',
      bridge: 'red',
      adminUp: true,
      peer: 'red:router',
    })
    draft.put('port', {
      id: 'red:router',
      kind: 'router',
      router: 'router',
      adminUp: true,
      mac: '02:00:00:00:00:01',
      addresses: ['10.1.0.1/24'],
      peer: 'red:bridge',
    })
    draft.put('binding', { id: 'alice', host: 'host', interface: 'mn1' })
  })
  return store
}

test('a short packet gets the MAC addresses of the topology', async (t) => {
  const store = await topology()
  const eth = (text: string) => /eth\(([^)]*)\)/.exec(expandTracePacket(store, 'alice', text))?.[1]
  t.is(eth('icmp 10.1.0.2 -> 10.1.0.3'), 'src=02:00:00:00:00:0a,dst=02:00:00:00:00:0b')
  t.is(eth('tcp 10.1.0.2:1 -> 10.1.0.1:2'), 'src=02:00:00:00:00:0a,dst=02:00:00:00:00:01')
  t.is(eth('udp 10.1.0.2 > 192.0.2.9:53'), 'src=02:00:00:00:00:0a,dst=02:00:00:00:00:01')
})

test('an address on the link that nobody has is refused with what to do', async (t) => {
  const store = await topology()
  t.throws(() => expandTracePacket(store, 'alice', 'icmp 10.1.0.2 -> 10.1.0.99'), {
    code: 'INVALID_TRACE',
    message: /no MAC address is known for 10\.1\.0\.99; give the packet as a flow key/,
  })
  t.throws(() => expandTracePacket(store, 'alice', 'tcp 10.1.0.2:70000 -> 10.1.0.3'), {
    message: /70000 is not a port/,
  })
  t.throws(() => expandTracePacket(store, 'alice', 'tcp 10.1.0.300 -> 10.1.0.3'), {
    message: /10\.1\.0\.300 is not an IPv4 address/,
  })
})

test('what is not the short form goes on as it is', async (t) => {
  t.is(expandTracePacket(await topology(), 'alice', 'eth(src=…)'), 'eth(src=…)')
})

test('a port is found by id, by the start of its id, by interface and by container', async (t) => {
  const store = await topology()
  const containers = [
    { id: 'alice', container: 'web' },
    { id: 'bob', container: 'db' },
    { id: 'red:bridge', container: 'db' },
  ]
  t.is(findTracePort(store, 'bob', []), 'bob')
  t.is(findTracePort(store, 'alic', []), 'alice')
  t.is(findTracePort(store, 'mn1', []), 'alice')
  t.is(findTracePort(store, 'web', containers), 'alice')
  t.throws(() => findTracePort(store, 'db', containers), { message: /db names several ports/ })
  t.throws(() => findTracePort(store, 'red:', []), { message: /red: names several ports/ })
  t.throws(() => findTracePort(store, 'eve', []), { message: /eve is no port/ })
})

test('ids become names where Docker knows them', (t) => {
  const [network, endpoint, other] = ['a', 'b', 'c'].map((digit) => digit.repeat(64))
  const base = { driver: 'midonet', ipamDriver: 'default', subnets: [], reserved: [] }
  const endpoints = [{ id: endpoint ?? '', container: 'web', addresses: [] }]
  const known = [{ ...base, id: network ?? '', name: 'red', endpoints }]
  t.is(nameIds(`${network}:router ${endpoint} ${other}`, known), 'red:router web cccccccccccc')
})
