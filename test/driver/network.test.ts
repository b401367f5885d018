import test from 'ava'
import {
  contents,
  dockerId,
  endpointBody,
  hostId,
  joinBody,
  networkBody,
  startAgent,
} from './agent.ts'

const red = dockerId(1)
const blue = dockerId(2)
const first = '69dc0c0ccf5db9767dab026a16583f581ba6988bef842e820b10b1e7daaf0212'

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

test('gateway=docker leaves the gateway to Docker and gives routes to siblings', async (t) => {
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
    'midonet: subnet 192.168.0.0/16 overlaps 192.168.7.5/24 of interface eth0 of this host; ' +
      'choose another --subnet, or use --internal or -o org.midonet.gateway=docker for one of them',
  )
  t.regex(await create(red, '172.20.5.0/24'), /this host's route to tun0/)
  t.is(await create(red, '10.99.0.0/24'), 'made')
  t.is(await create(blue, '10.99.0.128/25'), 'made', 'another router: behind a NAT of its own')
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
    'midonet: unknown option org.midonet.mut; known are org.midonet.router, ' +
      'org.midonet.bridge, org.midonet.mtu, org.midonet.gateway, org.midonet.provider',
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

test('a provider is one for all networks of a router, and goes with the last of them', async (t) => {
  const { call, store } = await startAgent(t)
  const create = async (id: string, subnet: string, options: Record<string, string>) => {
    const body = networkBody({ id, subnet, options })
    return String((await call('NetworkDriver.CreateNetwork', body)).body?.Err ?? 'made')
  }
  const [router, provider] = ['org.midonet.router', 'org.midonet.provider']
  t.is(await create(red, '10.1.0.0/24', { [router]: 'shop', [provider]: 'edge' }), 'made')
  t.is(await create(blue, '10.2.0.0/24', { [router]: 'shop' }), 'made', 'follows the first')
  const edge = store.list('router').find(({ name }) => name === 'edge')
  t.is(store.get('network', blue)?.provider, edge?.id)
  const refused = (options: Record<string, string>) => create(dockerId(9), '10.9.0.0/24', options)
  t.regex(await refused({ [router]: 'shop', [provider]: 'other' }), /has provider edge already/)
  t.regex(await refused({ [router]: 'edge', [provider]: 'shop' }), /cannot get shop/)
  t.regex(await refused({ [router]: 'x', [provider]: 'shop' }), /cannot get shop/)
  t.regex(await refused({ [router]: 'x', [provider]: 'x' }), /a provider is another router/)
  await call('NetworkDriver.DeleteNetwork', { NetworkID: red })
  t.true(store.list('router').some(({ name }) => name === 'edge'))
  await call('NetworkDriver.DeleteNetwork', { NetworkID: blue })
  t.deepEqual(contents(store), [])
})
