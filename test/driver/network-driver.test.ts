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

const red = dockerId(1)
const blue = dockerId(2)
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
  t.deepEqual(links.list(), [])
})

const recordedId = '06f587361c0a731db9401e774a5a83f5e34c443a70140232529a9c0a0a2f1fbc'
const recordedNetwork = `{"NetworkID":"${recordedId}","Options":{"com.docker.network.enable_ipv6":false,"com.docker.network.generic":{"com.docker.network.driver.mtu":"1400","probe.mtu":"1400"}},"IPv4Data":[{"AddressSpace":"LocalDefault","AuxAddresses":{"dns":"10.1.0.53/16","router":"10.1.5.3/16"},"Gateway":"10.1.0.254/16","Pool":"10.1.0.0/16"}],"IPv6Data":[]}`
const recordedEndpoint = `{"NetworkID":"${recordedId}","EndpointID":"${first}","Interface":{"Address":"10.1.5.77/16","AddressIPv6":"","MacAddress":"02:aa:bb:cc:dd:01"},"Options":{"com.docker.network.endpoint.dnsservers":["9.9.9.9"],"com.docker.network.endpoint.exposedports":[{"Proto":6,"Port":9999},{"Proto":6,"Port":80},{"Proto":17,"Port":53}],"com.docker.network.endpoint.macaddress":"Aqq7zN0B","com.docker.network.portmap":[{"Proto":6,"IP":"","Port":80,"HostIP":"","HostPort":8080,"HostPortEnd":8080},{"Proto":17,"IP":"","Port":53,"HostIP":"127.0.0.1","HostPort":5353,"HostPortEnd":5353}]}}`

test('a network is a bridge with a router port as its gateway', async (t) => {
  const { call, store } = await startAgent(t)
  await call('NetworkDriver.CreateNetwork', networkBody({ id: red, subnet: '10.1.0.0/24' }))
  t.deepEqual(contents(store), [
    `bridge/${red}`,
    `router/${red}`,
    `port/${red}:bridge`,
    `port/${red}:router`,
    `network/${red}`,
  ])
  t.like(store.get('port', `${red}:router`), {
    router: red,
    peer: `${red}:bridge`,
    mac: '02:6e:0a:01:00:01',
    addresses: ['10.1.0.1/24'],
  })
})

test('networks that name one router share it, and it goes with the last of them', async (t) => {
  const { call, store } = await startAgent(t)
  const options = { 'org.midonet.router': 'shop' }
  await call(
    'NetworkDriver.CreateNetwork',
    networkBody({ id: red, subnet: '10.1.0.0/24', options }),
  )
  await call(
    'NetworkDriver.CreateNetwork',
    networkBody({ id: blue, subnet: '10.2.0.0/24', options }),
  )
  const routers = store.list('router')
  t.is(routers.length, 1)
  t.is(routers[0]?.name, 'shop')
  t.is(store.get('network', blue)?.router, routers[0]?.id)
  await call('NetworkDriver.DeleteNetwork', { NetworkID: red })
  t.is(store.list('router').length, 1)
  await call('NetworkDriver.DeleteNetwork', { NetworkID: blue })
  t.deepEqual(contents(store), [])
})

test('a router that was there before stays', async (t) => {
  const { call, store } = await startAgent(t)
  await store.transact((draft) => draft.put('router', { id: 'r1', name: 'shop', adminUp: true }))
  const options = { 'org.midonet.router': 'shop' }
  const body = networkBody({ id: red, subnet: '10.1.0.0/24', options })
  await call('NetworkDriver.CreateNetwork', body)
  t.is(store.get('network', red)?.router, 'r1')
  await call('NetworkDriver.DeleteNetwork', { NetworkID: red })
  t.deepEqual(contents(store), ['router/r1'])
})

test('a router’s uplink goes with it', async (t) => {
  const { call, store } = await startAgent(t)
  await call('NetworkDriver.CreateNetwork', networkBody({ id: red, subnet: '10.1.0.0/24' }))
  await store.transact((draft) => {
    const addresses = ['169.254.1.2/30']
    const mac = '02:00:00:00:00:01'
    const host = hostId
    draft.put('port', { id: 'up', kind: 'router', router: red, adminUp: true, mac, addresses })
    draft.put('binding', { id: 'up', host, interface: 'mn00000000001' })
    draft.put('uplink', {
      id: 'up',
      router: red,
      host,
      interface: 'mu00000000001',
      hostAddress: '169.254.1.1/30',
      hostMac: '02:00:00:00:00:02',
    })
    draft.put('route', {
      id: 'up-default',
      router: red,
      src: '0.0.0.0/0',
      dst: '0.0.0.0/0',
      action: 'port',
      port: 'up',
      gateway: '169.254.1.1',
      weight: 1000,
    })
  })
  await call('NetworkDriver.DeleteNetwork', { NetworkID: red })
  t.deepEqual(contents(store), [])
})

test('an existing bridge is used by name and by id, and stays', async (t) => {
  const { call, store } = await startAgent(t)
  await store.transact((draft) => draft.put('bridge', { id: 'b1', name: 'office', adminUp: true }))
  const byName = { 'org.midonet.bridge': 'office' }
  const byId = { 'org.midonet.bridge': 'b1' }
  await call(
    'NetworkDriver.CreateNetwork',
    networkBody({ id: red, subnet: '10.1.0.0/24', options: byName }),
  )
  await call(
    'NetworkDriver.CreateNetwork',
    networkBody({ id: blue, subnet: '10.2.0.0/24', options: byId }),
  )
  t.is(store.get('network', red)?.bridge, 'b1')
  t.is(store.get('network', blue)?.bridge, 'b1')
  for (const NetworkID of [red, blue]) await call('NetworkDriver.DeleteNetwork', { NetworkID })
  t.deepEqual(contents(store), ['bridge/b1'])
})

test('an internal network gets no gateway at Join and no way out of a shared router', async (t) => {
  const { call, store } = await startAgent(t)
  const options = { 'org.midonet.router': 'shop' }
  await call(
    'NetworkDriver.CreateNetwork',
    networkBody({ id: red, subnet: '10.1.0.0/24', options, internal: true }),
  )
  await call(
    'NetworkDriver.CreateNetwork',
    networkBody({ id: blue, subnet: '10.2.0.0/24', options }),
  )
  await call('NetworkDriver.CreateEndpoint', endpointBody(red, first, '10.1.0.2/24'))
  const { body } = await call('NetworkDriver.Join', joinBody(red, first))
  t.deepEqual(body, {
    InterfaceName: { SrcName: 'mp69dc0c0ccf5', DstPrefix: 'eth' },
    StaticRoutes: [{ Destination: '10.2.0.0/24', RouteType: 0, NextHop: '10.1.0.1' }],
  })
  t.like(store.list('route')[0], { src: '10.1.0.0/24', dst: '0.0.0.0/0', action: 'reject' })
  await call('NetworkDriver.DeleteNetwork', { NetworkID: red })
  t.deepEqual(store.list('route'), [])
})

test('an internal network that names no router has none', async (t) => {
  const { call, store } = await startAgent(t)
  const body = networkBody({ id: red, subnet: '10.1.0.0/24', internal: true })
  await call('NetworkDriver.CreateNetwork', body)
  t.deepEqual(contents(store), [`bridge/${red}`, `network/${red}`])
  await call('NetworkDriver.CreateEndpoint', endpointBody(red, first, '10.1.0.2/24'))
  const joined = await call('NetworkDriver.Join', joinBody(red, first))
  t.false('Gateway' in (joined.body ?? {}))
})

test('gateway=docker leaves the gateway to Docker and gives routes to sibling networks', async (t) => {
  const { call } = await startAgent(t)
  const options = { 'org.midonet.router': 'shop', 'org.midonet.gateway': 'docker' }
  await call(
    'NetworkDriver.CreateNetwork',
    networkBody({ id: red, subnet: '10.1.0.0/24', options }),
  )
  await call(
    'NetworkDriver.CreateNetwork',
    networkBody({ id: blue, subnet: '10.2.0.0/24', options }),
  )
  await call('NetworkDriver.CreateEndpoint', endpointBody(red, first, '10.1.0.2/24'))
  const { body } = await call('NetworkDriver.Join', joinBody(red, first))
  t.false('Gateway' in (body ?? {}))
  t.deepEqual(body?.StaticRoutes, [
    { Destination: '10.2.0.0/24', RouteType: 0, NextHop: '10.1.0.1' },
  ])
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

test('a network of several subnets gives each endpoint its own gateway', async (t) => {
  const { call } = await startAgent(t)
  const body = {
    NetworkID: red,
    Options: { 'com.docker.network.generic': {} },
    IPv4Data: [
      { AddressSpace: 'LocalDefault', Gateway: '10.2.0.1/24', Pool: '10.2.0.0/24' },
      { AddressSpace: 'LocalDefault', Gateway: '10.3.0.1/24', Pool: '10.3.0.0/24' },
    ],
    IPv6Data: [],
  }
  t.deepEqual((await call('NetworkDriver.CreateNetwork', body)).body, {})
  await call('NetworkDriver.CreateEndpoint', endpointBody(red, first, '10.3.0.2/24'))
  t.is((await call('NetworkDriver.Join', joinBody(red, first))).body?.Gateway, '10.3.0.1')
})

test('IPv6 addresses stand on the bridge; an IPv6-only network has no gateway', async (t) => {
  const { call, store } = await startAgent(t)
  const body = {
    NetworkID: red,
    Options: { 'com.docker.network.enable_ipv4': false, 'com.docker.network.generic': {} },
    IPv4Data: [],
    IPv6Data: [{ AddressSpace: 'LocalDefault', Gateway: 'fd00:5::1/64', Pool: 'fd00:5::/64' }],
  }
  t.deepEqual((await call('NetworkDriver.CreateNetwork', body)).body, {})
  const made = await call('NetworkDriver.CreateEndpoint', {
    NetworkID: red,
    EndpointID: first,
    Interface: { Address: '', AddressIPv6: 'fd00:5::2/64', MacAddress: '' },
    Options: {},
  })
  t.regex(JSON.stringify(made.body), /"MacAddress":"02:36:/)
  t.like(store.get('port', first), { stations: [{ addresses6: ['fd00:5::2'] }] })
  const joined = await call('NetworkDriver.Join', joinBody(red, first))
  t.is(joined.body?.DisableGatewayService, true)
})

test('a network without addresses (IPAM driver null) works', async (t) => {
  const { call } = await startAgent(t)
  const body = {
    NetworkID: red,
    Options: { 'com.docker.network.enable_ipv6': false, 'com.docker.network.generic': {} },
    IPv4Data: [{ AddressSpace: 'null', Pool: '0.0.0.0/0' }],
    IPv6Data: [],
  }
  t.deepEqual((await call('NetworkDriver.CreateNetwork', body)).body, {})
  await call('NetworkDriver.CreateEndpoint', endpointBody(red, first, ''))
  const joined = await call('NetworkDriver.Join', joinBody(red, first))
  t.like(joined.body, { DisableGatewayService: true })
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

test('an address or a MAC address is not given twice', async (t) => {
  const { call, links } = await startAgent(t)
  await call('NetworkDriver.CreateNetwork', networkBody({ id: red, subnet: '10.1.0.0/24' }))
  const mac = '02:aa:00:00:00:01'
  await call('NetworkDriver.CreateEndpoint', endpointBody(red, first, '10.1.0.2/24', { mac }))
  await call('NetworkDriver.Join', joinBody(red, first))
  links.take('mp69dc0c0ccf5')
  const address = await call(
    'NetworkDriver.CreateEndpoint',
    endpointBody(red, second, '10.1.0.2/24'),
  )
  t.regex(String(address.body?.Err), /10\.1\.0\.2 is taken/)
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

test('overlapping subnets are refused with what to change', async (t) => {
  const { call, links, store } = await startAgent(t)
  links.addAddress('lo', '127.0.0.1/8')
  links.addAddress('eth0', '192.168.7.5/24')
  links.addAddress('mu00000000001', '10.99.0.1/24')
  links.setRoute({ dst: '0.0.0.0/0', gateway: '192.168.7.1', interface: 'eth0' })
  links.setRoute({ dst: '172.20.0.0/16', gateway: undefined, interface: 'tun0' })
  const create = async (id: string, subnet: string, options = {}, internal = false) => {
    const body = networkBody({ id, subnet, options, internal })
    return String((await call('NetworkDriver.CreateNetwork', body)).body?.Err ?? 'made')
  }
  t.is(
    await create(red, '192.168.0.0/16'),
    'midonet: subnet 192.168.0.0/16 overlaps 192.168.7.5/24 of interface eth0 of this host; choose another --subnet, or let one do without our way out: --internal or -o org.midonet.gateway=docker',
  )
  t.regex(await create(red, '172.20.5.0/24'), /this host's route to tun0/)
  t.is(await create(red, '10.99.0.0/24'), 'made')
  t.regex(await create(blue, '10.99.0.128/25'), /overlaps 10\.99\.0\.0\/24 of network 000000010000/)
  t.is(await create(blue, '10.99.0.128/25', {}, true), 'made')
  const docker = { 'org.midonet.gateway': 'docker', 'org.midonet.router': 'shop' }
  t.is(await create(dockerId(3), '192.168.0.0/16', docker), 'made')
  t.regex(
    await create(dockerId(4), '192.168.3.0/24', docker),
    /on the same router; choose another --subnet or another org\.midonet\.router/,
  )
  t.is(store.list('network').length, 3)
})

test('options are checked', async (t) => {
  const { call, store } = await startAgent(t)
  const create = async (options: Record<string, string>) => {
    const body = networkBody({ id: red, subnet: '10.1.0.0/24', options })
    return String((await call('NetworkDriver.CreateNetwork', body)).body?.Err ?? 'made')
  }
  t.is(
    await create({ 'org.midonet.mut': '1400' }),
    'midonet: unknown option org.midonet.mut; known are org.midonet.router, org.midonet.bridge, org.midonet.mtu, org.midonet.gateway',
  )
  t.regex(await create({ 'org.midonet.mtu': '12' }), /org\.midonet\.mtu must be a number of bytes/)
  t.regex(await create({ 'org.midonet.gateway': 'x' }), /must be virtual or docker/)
  t.regex(await create({ 'org.midonet.router': '../x' }), /org\.midonet\.router must be 1 to 63/)
  t.deepEqual(contents(store), [])
  t.is(await create({ 'org.midonet.mtu': '9000', 'com.example.x': 'y' }), 'made')
  t.is(store.get('network', red)?.mtu, 9000)
  const body = endpointBody(red, first, '10.1.0.2/24', { options: { 'org.midonet.qos': '1' } })
  const endpoint = await call('NetworkDriver.CreateEndpoint', body)
  t.regex(String(endpoint.body?.Err), /unknown option org\.midonet\.qos/)
})

test('Join for what is unknown says what to do', async (t) => {
  const { call } = await startAgent(t)
  const { body } = await call('NetworkDriver.Join', joinBody(red, first))
  t.regex(String(body?.Err), /endpoint 69dc0c0ccf5d .* is unknown; start the container again/)
  const made = await call('NetworkDriver.CreateEndpoint', endpointBody(red, first, '10.1.0.2/24'))
  t.regex(String(made.body?.Err), /network 000000010000 is unknown; remove it/)
})

test('a new endpoint takes the address of one that no container has any more', async (t) => {
  const { call, store, driver } = await startAgent(t)
  await call('NetworkDriver.CreateNetwork', networkBody({ id: red, subnet: '10.1.0.0/24' }))
  await store.transact((draft) => {
    const mac = '02:6d:0a:01:00:02'
    const stations = [{ mac, addresses: ['10.1.0.2'] }]
    draft.put('port', { id: second, kind: 'bridge', bridge: red, adminUp: true, stations })
    draft.put('endpoint', {
      id: second,
      network: red,
      host: hostId,
      mac,
      address: '10.1.0.2/24',
      publications: [],
    })
  })
  const made = await call('NetworkDriver.CreateEndpoint', endpointBody(red, first, '10.1.0.2/24'))
  t.deepEqual(made.body, { Interface: { MacAddress: '02:6d:0a:01:00:02' } })
  t.deepEqual(
    store.list('endpoint').map(({ id }) => id),
    [first],
  )
  t.regex(String(driver.reconciler.repairs[0]?.what), /endpoint 4720e90104f5, which held 10\.1/)
})

test('AllocateNetwork is refused: networks are local', async (t) => {
  const { call } = await startAgent(t)
  const body = { NetworkID: 'p7ldgz1at1oycs1qk0sx22gy7', Options: {}, IPv4Data: [] }
  const answer = await call('NetworkDriver.AllocateNetwork', body)
  t.regex(String(answer.body?.Err), /local to one host/)
})
