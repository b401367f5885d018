import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { isDriver } from '../../driver/docker.ts'
import { networkCalls } from '../../driver/network-driver.ts'
import { findDifferences } from '../../driver/reconcile.ts'
import { swarmCalls } from '../../driver/swarm.ts'
import { contextOf, dockerId, type MemoryContext, post, startAgent } from './agent.ts'

/** As Docker 20.10 sends it to a leader. */
const allocation = {
  NetworkID: 'p7ldgz1at1oycs1qk0sx22gy7',
  Options: { foo: 'bar' },
  IPv4Data: [{ AddressSpace: '', Gateway: '10.110.0.254/24', Pool: '10.110.0.0/24' }],
  IPv6Data: null,
}
const id = allocation.NetworkID

/** As it sends it to each host. */
const creation = (internal = false) => ({
  NetworkID: id,
  Options: {
    'com.docker.network.enable_ipv6': false,
    'com.docker.network.generic': { foo: 'bar' },
    ...(internal && { 'com.docker.network.internal': true }),
  },
  IPv4Data: [{ AddressSpace: 'LocalDefault', Gateway: '10.110.0.254/24', Pool: '10.110.0.0/24' }],
  IPv6Data: [],
})

async function call(context: MemoryContext, name: string, body: object): Promise<object> {
  const calls = { ...networkCalls, ...swarmCalls }
  const work = calls[`NetworkDriver.${name}`]
  if (work === undefined) return { Err: `no ${name}` }
  return work(context, JSON.parse(JSON.stringify(body)))
}

/** Two hosts of one store. */
async function twoHosts(t: ExecutionContext): Promise<readonly [MemoryContext, MemoryContext]> {
  const one = await contextOf(t)
  const other = { ...(await contextOf(t)), store: one.store, host: 'host-2' }
  await one.store.transact((draft) => {
    for (const { host } of [one, other]) draft.put('host', { id: host, name: host })
  })
  return [one, other]
}

function endpoint(number: number) {
  const address = `10.110.0.${number}/24`
  return {
    NetworkID: id,
    EndpointID: dockerId(number),
    Interface: { Address: address, AddressIPv6: '', MacAddress: '' },
    Options: {},
  }
}

test('each socket says whose networks it makes', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'midonet-swarm-'))
  t.teardown(() => rmSync(dir, { recursive: true, force: true }))
  const socketPath = join(dir, 'managed.sock')
  const { call } = await startAgent(t, { managed: { socketPath, scope: 'global' } })
  const capabilities = 'NetworkDriver.GetCapabilities'
  t.is((await call(capabilities)).body?.Scope, 'local')
  t.is((await post(socketPath, `/${capabilities}`)).body?.Scope, 'global')
  const refused = await call('NetworkDriver.AllocateNetwork', allocation)
  t.regex(String(refused.body?.Err), /local to one host/)
  const answer = await post(
    socketPath,
    '/NetworkDriver.AllocateNetwork',
    JSON.stringify(allocation),
  )
  t.deepEqual(answer.body, { Options: { foo: 'bar' } })
})

test('a network of Swarm is one for all hosts, and goes when Swarm has freed it', async (t) => {
  const [one, other] = await twoHosts(t)
  t.deepEqual(await call(one, 'AllocateNetwork', allocation), { Options: { foo: 'bar' } })
  t.deepEqual(one.store.list('network'), [], 'until a host has a task on it')
  await call(one, 'CreateNetwork', creation())
  await call(other, 'CreateNetwork', creation())
  t.like(one.store.get('network', id), { swarm: true, host: undefined, router: id })
  t.is(one.store.list('network').length, 1)
  await call(one, 'CreateEndpoint', endpoint(2))
  await call(other, 'CreateEndpoint', endpoint(3))
  await call(one, 'DeleteEndpoint', endpoint(2))
  await call(one, 'DeleteNetwork', { NetworkID: id })
  t.not(one.store.get('network', id), undefined, 'the other host has a task')
  // Swarm frees a network seconds before its last tasks end.
  await call(one, 'FreeNetwork', { NetworkID: id })
  t.true(one.store.get('network', id)?.freed)
  await call(other, 'DeleteEndpoint', endpoint(3))
  await call(other, 'DeleteNetwork', { NetworkID: id })
  for (const kind of ['network', 'endpoint', 'port', 'bridge', 'router'] as const)
    t.deepEqual(one.store.list(kind), [], kind)
})

test('all of it may come again, and for what is unknown', async (t) => {
  const [one] = await twoHosts(t)
  for (let times = 0; times < 2; times++) {
    await call(one, 'AllocateNetwork', { ...allocation, Options: { foo: 'bar', more: '1' } })
    await call(one, 'CreateNetwork', creation(true))
  }
  t.is(
    one.store.get('network', id)?.router,
    id,
    'internal: the address of services is the router’s',
  )
  for (let times = 0; times < 2; times++) {
    await call(one, 'FreeNetwork', { NetworkID: id })
    await call(one, 'DeleteNetwork', { NetworkID: id })
  }
  t.deepEqual(one.store.list('network'), [])
})

test('what a leader may not allocate is refused in a sentence; both families come as one', async (t) => {
  const [one] = await twoHosts(t)
  const wrong = { ...allocation, Options: { 'org.midonet.rooter': 'x' } }
  await t.throwsAsync(call(one, 'AllocateNetwork', wrong), { message: /unknown option/ })
  const six = { AddressSpace: '', Gateway: 'fd00:114::1/64', Pool: 'fd00:114::/64' }
  const both = { ...allocation, IPv4Data: [...allocation.IPv4Data, six] }
  await t.notThrowsAsync(call(one, 'AllocateNetwork', both))
})

test('an address that Swarm gives again is taken from a host that is lost', async (t) => {
  const [one, other] = await twoHosts(t)
  await call(one, 'CreateNetwork', creation())
  await call(one, 'CreateEndpoint', endpoint(2))
  await call(other, 'CreateEndpoint', { ...endpoint(2), EndpointID: dockerId(9) })
  t.deepEqual(
    one.store.list('endpoint').map(({ id, host }) => [id, host]),
    [[dockerId(9), 'host-2']],
  )
})

test('only a manager judges that a network of Swarm is gone', async (t) => {
  const [one] = await twoHosts(t)
  await call(one, 'CreateNetwork', creation())
  const picture = { store: one.store, links: [], docker: [], host: one.host, driver: 'midonet' }
  t.deepEqual(findDifferences(picture), [])
  const found = findDifferences({ ...picture, managesSwarm: true })
  t.deepEqual(
    found.map(({ kind, id }) => [kind, id]),
    [['network', id]],
  )
})

test('a managed plugin is known by its tag, with and without where it came from', (t) => {
  for (const name of ['midonet', 'midonet:latest', '127.0.0.1:5000/some/midonet:1'])
    t.true(isDriver(name, 'midonet'), name)
  for (const name of ['midonetx:1', 'midonet/other:1', undefined])
    t.false(isDriver(name, 'midonet'), name)
})
