import test from 'ava'
import {
  contents,
  dockerId,
  endpointBody,
  hostId,
  joinBody,
  networkBody,
  portsBody,
  refBody,
  startAgent,
} from './agent.ts'
import { linksLeft } from './fake-links.ts'

const red = dockerId(1)
const first = '69dc0c0ccf5db9767dab026a16583f581ba6988bef842e820b10b1e7daaf0212'
const second = '4720e90104f5db9767dab026a16583f581ba6988bef842e820b10b1e7daaf021'

test('the handshake is answered as Docker 20.10 expects it', async (t) => {
  const { call } = await startAgent(t)
  t.deepEqual((await call('Plugin.Activate')).body, {
    Implements: ['NetworkDriver', 'IpamDriver'],
  })
  t.deepEqual((await call('NetworkDriver.GetCapabilities')).body, {
    Scope: 'local',
    ConnectivityScope: 'local',
  })
})

test('a container’s life, call by call as recorded, leaves nothing behind', async (t) => {
  const { call, store, links } = await startAgent(t)
  t.deepEqual((await call('NetworkDriver.CreateNetwork', recordedNetwork)).body, {})
  t.deepEqual((await call('NetworkDriver.CreateEndpoint', recordedEndpoint)).body, {
    Interface: {},
  })
  const joined = await call('NetworkDriver.Join', joinBody(recordedId, first))
  t.deepEqual(joined.body, {
    InterfaceName: { SrcName: 'mp69dc0c0ccf5', DstPrefix: 'eth' },
    Gateway: '10.1.0.254',
  })
  t.is(links.find('mp69dc0c0ccf5')?.mac, '02:aa:bb:cc:dd:01')
  t.is(links.find('mn69dc0c0ccf5')?.mtu, 1400)
  links.take('mp69dc0c0ccf5')
  t.deepEqual(store.get('binding', first), {
    id: first,
    host: hostId,
    interface: 'mn69dc0c0ccf5',
    tunnelKey: 1327833,
  })
  t.deepEqual(store.get('port', first), {
    id: first,
    kind: 'bridge',
    bridge: recordedId,
    adminUp: true,
    stations: [{ mac: '02:aa:bb:cc:dd:01', addresses: ['10.1.5.77'] }],
  })
  const info = await call('NetworkDriver.EndpointOperInfo', refBody(recordedId, first))
  t.is(info.status, 200)
  t.like(info.body, { Value: { 'org.midonet.interface': 'mn69dc0c0ccf5' } })
  for (const name of ['RevokeExternalConnectivity', 'Leave', 'DeleteEndpoint'])
    t.deepEqual((await call(`NetworkDriver.${name}`, refBody(recordedId, first))).body, {})
  t.deepEqual((await call('NetworkDriver.DeleteNetwork', { NetworkID: recordedId })).body, {})
  t.deepEqual(contents(store), [])
  t.deepEqual(await linksLeft(links, 0), [])
})

const recordedId = '06f587361c0a731db9401e774a5a83f5e34c443a70140232529a9c0a0a2f1fbc'
/** Bodies as Docker 20.10 sent them. */
const recordedNetwork = {
  NetworkID: recordedId,
  Options: {
    'com.docker.network.enable_ipv6': false,
    'com.docker.network.generic': {
      'com.docker.network.driver.mtu': '1400',
      'probe.mtu': '1400',
    },
  },
  IPv4Data: [
    {
      AddressSpace: 'LocalDefault',
      AuxAddresses: { dns: '10.1.0.53/16', router: '10.1.5.3/16' },
      Gateway: '10.1.0.254/16',
      Pool: '10.1.0.0/16',
    },
  ],
  IPv6Data: [],
}
const recordedEndpoint = {
  NetworkID: recordedId,
  EndpointID: first,
  Interface: { Address: '10.1.5.77/16', AddressIPv6: '', MacAddress: '02:aa:bb:cc:dd:01' },
  Options: {
    'com.docker.network.endpoint.dnsservers': ['9.9.9.9'],
    'com.docker.network.endpoint.exposedports': [
      { Proto: 6, Port: 9999 },
      { Proto: 6, Port: 80 },
      { Proto: 17, Port: 53 },
    ],
    'com.docker.network.endpoint.macaddress': 'Aqq7zN0B',
    'com.docker.network.portmap': [
      { Proto: 6, IP: '', Port: 80, HostIP: '', HostPort: 8080, HostPortEnd: 8080 },
      { Proto: 17, IP: '', Port: 53, HostIP: '127.0.0.1', HostPort: 5353, HostPortEnd: 5353 },
    ],
  },
}

test('an endpoint takes along that its port was said to be active, whoever says so last', async (t) => {
  const { call, store } = await startAgent(t)
  await call('NetworkDriver.CreateNetwork', recordedNetwork)
  await call('NetworkDriver.CreateEndpoint', recordedEndpoint)
  await store.transact((draft) => {
    draft.put('host', { id: hostId, name: 'here' })
    draft.put('portActive', { id: first, host: hostId })
  })
  await call('NetworkDriver.DeleteEndpoint', refBody(recordedId, first))
  t.deepEqual(store.list('portActive'), [])
})

test('a MAC address is made from the IP address when Docker gives none', async (t) => {
  const { call, store } = await startAgent(t)
  await call('NetworkDriver.CreateNetwork', networkBody({ id: red, subnet: '10.1.0.0/24' }))
  const body = endpointBody(red, first, '10.1.0.2/24')
  const answer = { Interface: { MacAddress: '02:6d:0a:01:00:02' } }
  t.deepEqual((await call('NetworkDriver.CreateEndpoint', body)).body, answer)
  t.deepEqual((await call('NetworkDriver.CreateEndpoint', body)).body, answer)
  t.is(store.get('endpoint', first)?.mac, '02:6d:0a:01:00:02')
})

test('every call may come again', async (t) => {
  const { call, store, links } = await startAgent(t)
  const calls = [
    ['CreateNetwork', networkBody({ id: red, subnet: '10.1.0.0/24' })],
    ['CreateEndpoint', endpointBody(red, first, '10.1.0.2/24')],
    ['Join', joinBody(red, first)],
    ['ProgramExternalConnectivity', portsBody(red, first, [[0, 80]])],
    ['EndpointOperInfo', refBody(red, first)],
    ['RevokeExternalConnectivity', refBody(red, first)],
    ['Leave', refBody(red, first)],
    ['DeleteEndpoint', refBody(red, first)],
    ['DeleteNetwork', { NetworkID: red }],
  ] as const
  for (const [name, body] of calls) {
    const once = await call(`NetworkDriver.${name}`, body)
    const publications = store.get('endpoint', first)?.publications
    const again = await call(`NetworkDriver.${name}`, body)
    t.deepEqual(again, once, name)
    t.is(once.status, 200)
    t.false('Err' in (once.body ?? {}), name)
    t.deepEqual(store.get('endpoint', first)?.publications, publications, name)
  }
  t.is(links.created, 1)
  t.deepEqual(contents(store), [])
})

test('undoing what is unknown succeeds', async (t) => {
  const { call } = await startAgent(t)
  for (const name of ['RevokeExternalConnectivity', 'Leave', 'DeleteEndpoint'])
    t.deepEqual(await call(`NetworkDriver.${name}`, refBody(red, first)), { status: 200, body: {} })
  t.deepEqual((await call('NetworkDriver.DeleteNetwork', { NetworkID: red })).body, {})
  t.deepEqual((await call('NetworkDriver.FreeNetwork', { NetworkID: red })).body, {})
})

test('DeleteNetwork takes endpoints along that Docker forgot', async (t) => {
  const { call, store, links } = await startAgent(t)
  await call('NetworkDriver.CreateNetwork', networkBody({ id: red, subnet: '10.1.0.0/24' }))
  await call('NetworkDriver.CreateEndpoint', endpointBody(red, first, '10.1.0.2/24'))
  await call('NetworkDriver.Join', joinBody(red, first))
  await call('NetworkDriver.DeleteNetwork', { NetworkID: red })
  t.deepEqual(contents(store), [])
  t.deepEqual(links.list(), [])
})

test('a repeated call with other data is refused', async (t) => {
  const { call } = await startAgent(t)
  await call('NetworkDriver.CreateNetwork', networkBody({ id: red, subnet: '10.1.0.0/24' }))
  const network = await call(
    'NetworkDriver.CreateNetwork',
    networkBody({ id: red, subnet: '10.9.0.0/24' }),
  )
  t.regex(String(network.body?.Err), /exists with other settings/)
  await call('NetworkDriver.CreateEndpoint', endpointBody(red, first, '10.1.0.2/24'))
  const body = endpointBody(red, first, '10.1.0.3/24')
  const endpoint = await call('NetworkDriver.CreateEndpoint', body)
  t.regex(String(endpoint.body?.Err), /exists with other settings/)
})

test('a MAC address or the gateway is not given twice', async (t) => {
  const { call, links } = await startAgent(t)
  await call('NetworkDriver.CreateNetwork', networkBody({ id: red, subnet: '10.1.0.0/24' }))
  const mac = '02:aa:00:00:00:01'
  await call('NetworkDriver.CreateEndpoint', endpointBody(red, first, '10.1.0.2/24', { mac }))
  await call('NetworkDriver.Join', joinBody(red, first))
  links.take('mp69dc0c0ccf5')
  const same = await call(
    'NetworkDriver.CreateEndpoint',
    endpointBody(red, second, '10.1.0.3/24', { mac }),
  )
  t.regex(String(same.body?.Err), /02:aa:00:00:00:01 is taken/)
  const gateway = await call(
    'NetworkDriver.CreateEndpoint',
    endpointBody(red, second, '10.1.0.1/24'),
  )
  t.regex(String(gateway.body?.Err), /10\.1\.0\.1 is router port .* choose another one/)
  const outside = await call(
    'NetworkDriver.CreateEndpoint',
    endpointBody(red, second, '10.9.0.1/24'),
  )
  t.regex(String(outside.body?.Err), /10\.9\.0\.1\/24 is outside the network's 10\.1\.0\.0\/24/)
})

test('Join for what is unknown says what to do', async (t) => {
  const { call } = await startAgent(t)
  const { body } = await call('NetworkDriver.Join', joinBody(red, first))
  t.regex(String(body?.Err), /endpoint 69dc0c0ccf5d .* is unknown; start the container again/)
  const made = await call('NetworkDriver.CreateEndpoint', endpointBody(red, first, '10.1.0.2/24'))
  t.regex(String(made.body?.Err), /network 000000010000 is unknown; remove it/)
})

test('a new endpoint takes the address that Docker gives again', async (t) => {
  const { call, store, links, driver } = await startAgent(t)
  await call('NetworkDriver.CreateNetwork', networkBody({ id: red, subnet: '10.1.0.0/24' }))
  await call('NetworkDriver.CreateEndpoint', endpointBody(red, second, '10.1.0.2/24'))
  await call('NetworkDriver.Join', joinBody(red, second))
  links.take('mp4720e90104f')
  // Docker was killed: it takes no leave, or takes it late.
  const made = await call('NetworkDriver.CreateEndpoint', endpointBody(red, first, '10.1.0.2/24'))
  t.deepEqual(made.body, { Interface: { MacAddress: '02:6d:0a:01:00:02' } })
  const ids = () => store.list('endpoint').map(({ id }) => id)
  t.deepEqual(ids(), [first])
  t.deepEqual(store.list('binding'), [])
  t.is(links.find('mn4720e90104f'), undefined)
  t.regex(String(driver.reconciler.repairs[0]?.what), /endpoint 4720e90104f5, which held 10\.1/)
  t.deepEqual((await call('NetworkDriver.DeleteEndpoint', refBody(red, second))).body, {})
  t.deepEqual(ids(), [first])
})

test('AllocateNetwork is refused where networks are local', async (t) => {
  const { call } = await startAgent(t)
  const body = { NetworkID: 'p7ldgz1at1oycs1qk0sx22gy7', Options: {}, IPv4Data: [] }
  const answer = await call('NetworkDriver.AllocateNetwork', body)
  t.regex(String(answer.body?.Err), /local to one host/)
})
