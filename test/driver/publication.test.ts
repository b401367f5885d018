import { createServer } from 'node:net'
import test from 'ava'
import { collides } from '../../driver/endpoint.ts'
import { choosePublications, type Probe } from '../../driver/publication.ts'
import { type PortRequest, readPortMap } from '../../driver/request.ts'
import { openMemoryStore } from '../../topology/memory.ts'
import type { Endpoint, Publication } from '../../topology/model.ts'
import { dockerId, endpointBody, networkBody, portsBody, refBody, startAgent } from './agent.ts'

const red = dockerId(1)
const first = dockerId(2)
const second = dockerId(3)

function request(hostPort: number, port: number, rest: Partial<PortRequest> = {}): PortRequest {
  return { protocol: 'tcp', hostAddress: '0.0.0.0', hostPort, hostPortEnd: hostPort, port, ...rest }
}

function publication(hostPort: number, port: number, rest: Partial<Publication> = {}): Publication {
  return { protocol: 'tcp', hostAddress: '0.0.0.0', hostPort, port, ...rest }
}

const endpoint: Endpoint = {
  id: 'a',
  network: 'n',
  host: 'h',
  mac: '02:00:00:00:00:01',
  publications: [],
}
const free: Probe = async () => undefined

test('a port of the host that is asked for is taken, others are left alone', async (t) => {
  const store = await openMemoryStore()
  const wanted = [request(8080, 80), request(5353, 53, { protocol: 'udp' })]
  t.deepEqual(await choosePublications(store, endpoint, wanted, free), [
    publication(8080, 80),
    publication(5353, 53, { protocol: 'udp' }),
  ])
})

test('host port 0 gets a free port, another one for each', async (t) => {
  const store = await openMemoryStore()
  const wanted = [request(0, 80), request(0, 81)]
  const probe: Probe = async ({ hostPort }) =>
    hostPort < 32_770 ? 'address already in use' : undefined
  const chosen = await choosePublications(store, endpoint, wanted, probe)
  t.deepEqual(chosen, [publication(32_770, 80), publication(32_771, 81)])
})

test('of a range the first free port is taken', async (t) => {
  const store = await openMemoryStore()
  const probe: Probe = async ({ hostPort }) => (hostPort === 8000 ? 'in use' : undefined)
  const wanted = [
    request(8000, 80, { hostPortEnd: 8002 }),
    request(8000, 81, { hostPortEnd: 8002 }),
  ]
  const chosen = await choosePublications(store, endpoint, wanted, probe)
  t.deepEqual(
    chosen.map(({ hostPort }) => hostPort),
    [8001, 8002],
  )
  const full = [...wanted, request(8000, 82, { hostPortEnd: 8002 })]
  await t.throwsAsync(choosePublications(store, endpoint, full, probe), {
    code: 'PORT_IN_USE',
    message: 'listen tcp4 0.0.0.0:8000: bind: in use',
  })
})

test('what the endpoint has already is kept', async (t) => {
  const store = await openMemoryStore()
  const has = { ...endpoint, publications: [publication(40_000, 80)] }
  const busy: Probe = async () => 'address already in use'
  const chosen = await choosePublications(store, has, [request(0, 80)], busy)
  t.deepEqual(chosen, [publication(40_000, 80)])
})

test('the search for a free port ends', async (t) => {
  const store = await openMemoryStore()
  let tries = 0
  const probe: Probe = async () => {
    tries++
    return 'address already in use'
  }
  await t.throwsAsync(choosePublications(store, endpoint, [request(0, 80)], probe), {
    code: 'PORT_IN_USE',
  })
  t.is(tries, 256)
})

test('one address of the host and all of them are the same port', (t) => {
  const local = publication(80, 1, { hostAddress: '127.0.0.1' })
  t.true(collides(publication(80, 1), local))
  t.true(collides(local, publication(80, 2)))
  t.false(collides(local, publication(80, 1, { hostAddress: '10.0.0.1' })))
  t.false(collides(local, publication(80, 1, { protocol: 'udp' })))
  t.false(collides(local, publication(81, 1)))
})

test('port maps are read as recorded', (t) => {
  const map = [
    { Proto: 6, IP: '', Port: 80, HostIP: '', HostPort: 8080, HostPortEnd: 8080 },
    { Proto: 17, IP: '', Port: 53, HostIP: '127.0.0.1', HostPort: 5353, HostPortEnd: 5353 },
    { Proto: 6, IP: '', Port: 7000, HostIP: '', HostPort: 0, HostPortEnd: 0 },
  ]
  t.deepEqual(readPortMap({ 'com.docker.network.portmap': map }), [
    request(8080, 80),
    request(5353, 53, { protocol: 'udp', hostAddress: '127.0.0.1' }),
    request(0, 7000),
  ])
  t.deepEqual(readPortMap({}), [])
  const on = (HostIP: string) => () =>
    readPortMap({ 'com.docker.network.portmap': [{ ...map[0], HostIP }] })
  t.throws(on('::1'), { message: /cannot be published on ::1; give an IPv4 address/ })
  t.throws(on('localhost'), { code: 'INVALID_OPTION' })
})

test('a port that another container or a process has is refused as Docker does it', async (t) => {
  const { call, store } = await startAgent(t)
  await call('NetworkDriver.CreateNetwork', networkBody({ id: red, subnet: '10.1.0.0/24' }))
  await call('NetworkDriver.CreateEndpoint', endpointBody(red, first, '10.1.0.2/24'))
  await call('NetworkDriver.CreateEndpoint', endpointBody(red, second, '10.1.0.3/24'))
  const publish = async (id: string, ports: readonly (readonly [number, number])[], ip = '') => {
    const body = portsBody(red, id, ports, ip)
    return (await call('NetworkDriver.ProgramExternalConnectivity', body)).body?.Err
  }
  t.is(await publish(first, [[0, 80]], '127.0.0.1'), undefined)
  const port = store.get('endpoint', first)?.publications[0]?.hostPort ?? 0
  t.true(port >= 32_768)
  t.is(
    await publish(second, [[port, 80]]),
    `Bind for 0.0.0.0:${port} failed: port is already allocated`,
  )
  t.deepEqual(store.get('endpoint', second)?.publications, [])

  const process = createServer()
  await new Promise<void>((resolve) => process.listen(0, '127.0.0.1', resolve))
  t.teardown(() => process.close())
  const address = process.address()
  const taken = typeof address === 'object' ? (address?.port ?? 0) : 0
  t.is(
    await publish(second, [[taken, 80]], '127.0.0.1'),
    `listen tcp4 127.0.0.1:${taken}: bind: address already in use`,
  )
  t.is(
    await publish(second, [[8080, 80]], '192.0.2.1'),
    'listen tcp4 192.0.2.1:8080: bind: cannot assign requested address',
  )
  await call('NetworkDriver.RevokeExternalConnectivity', refBody(red, first))
  t.deepEqual(store.get('endpoint', first)?.publications, [])
  t.is(await publish(second, [[port, 80]], '127.0.0.1'), undefined)
})

test('ports chosen at once differ', async (t) => {
  const { call, store } = await startAgent(t)
  await call('NetworkDriver.CreateNetwork', networkBody({ id: red, subnet: '10.1.0.0/24' }))
  const ids = Array.from({ length: 20 }, (_, index) => dockerId(0x1000 + index * 0x10000))
  await Promise.all(
    ids.map(async (id, index) => {
      await call('NetworkDriver.CreateEndpoint', endpointBody(red, id, `10.1.0.${index + 2}/24`))
      await call('NetworkDriver.ProgramExternalConnectivity', portsBody(red, id, [[0, 80]]))
    }),
  )
  const ports = ids.map((id) => store.get('endpoint', id)?.publications[0]?.hostPort)
  t.is(new Set(ports).size, 20)
  t.false(ports.includes(undefined))
})
