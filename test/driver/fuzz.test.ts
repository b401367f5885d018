/** Random bytes, random JSON, random orders of calls. SEED=<seed in the title> runs one again. */
import { connect } from 'node:net'
import test from 'ava'
import fc from 'fast-check'
import { ipamCalls } from '../../driver/ipam-driver.ts'
import { lenientNetworkCalls, networkCalls } from '../../driver/network-driver.ts'
import {
  type Agent,
  contents,
  dockerId,
  endpointBody,
  joinBody,
  networkBody,
  portsBody,
  refBody,
  startAgent,
} from './agent.ts'
import { linksLeft } from './fake-links.ts'

const seed = Number(process.env.SEED ?? Math.floor(Math.random() * 2 ** 31))
const names = [
  ...Object.keys(networkCalls),
  ...Object.keys(lenientNetworkCalls),
  ...Object.keys(ipamCalls),
]

/** Sends bytes and resolves when the other side has closed, or after `ms` of nothing. */
function throwBytes(path: string, bytes: Uint8Array, ms: number): Promise<void> {
  return new Promise((resolve) => {
    const socket = connect(path, () => socket.end(bytes))
    socket.setTimeout(ms, () => socket.destroy())
    socket.on('error', () => {})
    socket.on('close', () => resolve())
    socket.resume()
  })
}

test(`raw bytes do no harm (seed ${seed})`, async (t) => {
  const { socketPath, apiSocketPath, call, store } = await startAgent(t)
  const line = fc.constantFrom('POST /NetworkDriver.Join HTTP/1.1\r\n', 'GET / HTTP/1.1\r\n', '')
  const header = fc.constantFrom('Host: x\r\n\r\n', 'Content-Length: 9\r\n\r\n', '\r\n', '')
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom(socketPath, apiSocketPath),
      line,
      header,
      fc.uint8Array({ maxLength: 300 }),
      async (path, start, rest, bytes) => {
        await throwBytes(path, Buffer.concat([Buffer.from(start + rest), bytes]), 500)
      },
    ),
    { seed, numRuns: 150 },
  )
  t.is((await call('Plugin.Activate')).status, 200)
  t.deepEqual(contents(store), [])
})

test(`random JSON is refused or done, never half (seed ${seed})`, async (t) => {
  const { call, store, links } = await startAgent(t)
  const id = fc.constantFrom(dockerId(1), dockerId(2), '', 'x', '../../etc', 'x'.repeat(200), 7)
  const text = fc.constantFrom(
    '',
    '10.1.0.0/24',
    '10.1.0.2/24',
    '0.0.0.0/0',
    '10.1.0.1',
    'fd00::/64',
  )
  const anything = fc.oneof(id, text, fc.jsonValue({ maxDepth: 3 }))
  const body = fc.oneof(
    fc.jsonValue(),
    fc.record(
      {
        NetworkID: anything,
        EndpointID: anything,
        Options: fc.oneof(anything, fc.record({ 'com.docker.network.generic': anything })),
        IPv4Data: fc.oneof(anything, fc.array(fc.record({ Pool: anything, Gateway: anything }))),
        IPv6Data: anything,
        Interface: fc.oneof(anything, fc.record({ Address: anything, MacAddress: anything })),
        SandboxKey: anything,
        AddressSpace: anything,
        Pool: anything,
        PoolID: anything,
        Address: anything,
      },
      { requiredKeys: [] },
    ),
  )
  await fc.assert(
    fc.asyncProperty(fc.constantFrom(...names), body, async (name, value) => {
      const answer = await call(name, JSON.stringify(value))
      // 500 would be a fault of ours; a refusal has a sentence.
      if (![200, 400].includes(answer.status)) return false
      return answer.body !== undefined
    }),
    { seed, numRuns: 1500 },
  )
  for (const { id: NetworkID } of store.list('network'))
    await call('NetworkDriver.DeleteNetwork', { NetworkID })
  for (const { id: PoolID, references } of store.list('pool'))
    for (let count = 0; count < references; count++)
      await call('IpamDriver.ReleasePool', { PoolID })
  t.deepEqual(contents(store), [])
  t.deepEqual(links.list(), [])
})

/** What a call should leave, told by a model that knows only sets. */
interface Model {
  readonly networks: Set<number>
  /** Endpoint to its network. */
  readonly endpoints: Map<number, number>
  readonly joined: Set<number>
  /** Those that were joined once: a link stays over Leave. */
  readonly linked: Set<number>
}

function newModel(): Model {
  return { networks: new Set(), endpoints: new Map(), joined: new Set(), linked: new Set() }
}

interface Step {
  readonly name: string
  readonly network: number
  readonly endpoint: number
}

const subnetOf = (network: number) => `10.${network}.0.0/24`
const networkId = (network: number) => dockerId(0x100 + network)
const endpointId = (endpoint: number) => dockerId(0x10000 * (endpoint + 1))

async function play({ call }: Agent, model: Model, { name, network, endpoint }: Step) {
  const [net, ep] = [networkId(network), endpointId(endpoint)]
  const options = network === 3 ? {} : { 'org.midonet.router': 'shop' }
  const send = async (method: string, body: object) => {
    const answer = (await call(`NetworkDriver.${method}`, body)).body ?? {}
    return !('Err' in answer)
  }
  const isMine = model.endpoints.get(endpoint) === network
  switch (name) {
    case 'CreateNetwork':
      model.networks.add(network)
      return send(name, networkBody({ id: net, subnet: subnetOf(network), options }))
    case 'DeleteNetwork':
      model.networks.delete(network)
      for (const [id, owner] of model.endpoints) if (owner === network) forget(model, id)
      return send(name, { NetworkID: net })
    case 'CreateEndpoint': {
      const expected = model.networks.has(network) && (isMine || !model.endpoints.has(endpoint))
      if (expected) model.endpoints.set(endpoint, network)
      const address = `10.${network}.0.${endpoint + 10}/24`
      return expected === (await send(name, endpointBody(net, ep, address)))
    }
    case 'Join':
      if (isMine) model.joined.add(endpoint)
      if (isMine) model.linked.add(endpoint)
      return isMine === (await send(name, joinBody(net, ep)))
    case 'ProgramExternalConnectivity':
      return isMine === (await send(name, portsBody(net, ep, [[0, 80]])))
    case 'Leave':
      model.joined.delete(endpoint)
      return send(name, refBody(net, ep))
    case 'DeleteEndpoint':
      forget(model, endpoint)
      return send(name, refBody(net, ep))
    default:
      return send(name, refBody(net, ep))
  }
}

function forget(model: Model, endpoint: number): void {
  model.endpoints.delete(endpoint)
  model.joined.delete(endpoint)
  model.linked.delete(endpoint)
}

test(`calls in any order do what a model says (seed ${seed})`, async (t) => {
  const step = fc.record({
    name: fc.constantFrom(
      'CreateNetwork',
      'CreateNetwork',
      'DeleteNetwork',
      'CreateEndpoint',
      'CreateEndpoint',
      'CreateEndpoint',
      'Join',
      'Join',
      'Join',
      'EndpointOperInfo',
      'ProgramExternalConnectivity',
      'RevokeExternalConnectivity',
      'Leave',
      'DeleteEndpoint',
    ),
    // Mostly the same network, or few endpoints would ever be joined.
    network: fc.oneof(
      { weight: 6, arbitrary: fc.constant(1) },
      { weight: 1, arbitrary: fc.integer({ min: 2, max: 3 }) },
    ),
    endpoint: fc.integer({ min: 0, max: 2 }),
  })
  const agent = await startAgent(t)
  const { call, store, links } = agent
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 10, maxLength: 60 }), async (steps) => {
      const model = newModel()
      for (const each of steps) {
        t.true(await play(agent, model, each), JSON.stringify(each))
        t.is(store.list('network').length, model.networks.size)
        t.is(store.list('endpoint').length, model.endpoints.size)
        t.is(store.list('binding').length, model.joined.size)
        const links = 2 * model.linked.size
        t.is((await linksLeft(agent.links, links)).length, links)
      }
      for (const endpoint of [0, 1, 2, 3])
        await call('NetworkDriver.DeleteEndpoint', refBody(networkId(1), endpointId(endpoint)))
      for (const network of [1, 2, 3])
        await call('NetworkDriver.DeleteNetwork', { NetworkID: networkId(network) })
      t.deepEqual(contents(store), [])
      t.deepEqual(await linksLeft(links, 0), [])
    }),
    { seed, numRuns: 60 },
  )
})

test(`calls at once, and faults of the links, leave nothing behind (seed ${seed})`, async (t) => {
  const agent = await startAgent(t)
  const { call, store, links } = agent
  const name = fc.constantFrom('CreateNetwork', 'CreateEndpoint', 'Join', 'Leave', 'DeleteEndpoint')
  const step = fc.record({
    name,
    network: fc.constant(1),
    endpoint: fc.integer({ max: 3, min: 0 }),
  })
  await fc.assert(
    fc.asyncProperty(
      fc.array(step, { minLength: 5, maxLength: 30 }),
      fc.boolean(),
      async (steps, fails) => {
        if (fails) links.failing.add('createVeth')
        const model = newModel()
        await Promise.all(steps.map((each) => play(agent, model, each)))
        links.failing.clear()
        const { length } = store.list('binding')
        t.true(links.list().length >= 2 * length, 'each that has one keeps its link')
        for (const { id } of store.list('endpoint'))
          await call('NetworkDriver.DeleteEndpoint', refBody(networkId(1), id))
        await call('NetworkDriver.DeleteNetwork', { NetworkID: networkId(1) })
        t.deepEqual(contents(store), [])
        t.deepEqual(await linksLeft(links, 0), [])
      },
    ),
    { seed, numRuns: 40 },
  )
})
