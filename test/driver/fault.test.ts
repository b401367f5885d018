import test from 'ava'
import { DriverError } from '../../driver/error.ts'
import {
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

const red = dockerId(1)
const first = dockerId(2)

test('a Join whose veth pair cannot be made leaves no binding', async (t) => {
  const { call, links, store } = await startAgent(t)
  await call('NetworkDriver.CreateNetwork', networkBody({ id: red, subnet: '10.1.0.0/24' }))
  await call('NetworkDriver.CreateEndpoint', endpointBody(red, first, '10.1.0.2/24'))
  const before = contents(store)
  links.failing.add('createVeth')
  const { body } = await call('NetworkDriver.Join', joinBody(red, first))
  t.regex(String(body?.Err), /createVeth failed/)
  t.deepEqual(contents(store), before)
  t.is(store.get('endpoint', first)?.interface, undefined)
  links.failing.clear()
  t.true('InterfaceName' in ((await call('NetworkDriver.Join', joinBody(red, first))).body ?? {}))
})

test('a Join that forwarding does not take is taken back', async (t) => {
  let refuse = true
  const settled = async () => {
    if (refuse) throw new DriverError('TIMEOUT', 'forwarding stands still')
  }
  const { call, links, store } = await startAgent(t, { settled })
  await call('NetworkDriver.CreateNetwork', networkBody({ id: red, subnet: '10.1.0.0/24' }))
  await call('NetworkDriver.CreateEndpoint', endpointBody(red, first, '10.1.0.2/24'))
  const before = contents(store)
  const { body } = await call('NetworkDriver.Join', joinBody(red, first))
  t.is(body?.Err, 'forwarding stands still')
  t.deepEqual(contents(store), before)
  t.deepEqual(links.list(), [])
  refuse = false
  t.true('Gateway' in ((await call('NetworkDriver.Join', joinBody(red, first))).body ?? {}))
})

test('published ports that the gateway does not take are taken back', async (t) => {
  let refuse = false
  const settled = async () => {
    if (refuse) throw new DriverError('TIMEOUT', 'install nftables')
  }
  const { call, store } = await startAgent(t, { settled })
  await call('NetworkDriver.CreateNetwork', networkBody({ id: red, subnet: '10.1.0.0/24' }))
  await call('NetworkDriver.CreateEndpoint', endpointBody(red, first, '10.1.0.2/24'))
  await call('NetworkDriver.Join', joinBody(red, first))
  refuse = true
  const body = portsBody(red, first, [[0, 80]])
  const answer = await call('NetworkDriver.ProgramExternalConnectivity', body)
  t.is(answer.body?.Err, 'install nftables')
  t.deepEqual(store.get('endpoint', first)?.publications, [])
})

test('a link left from before does not stop a Join', async (t) => {
  const { call, links } = await startAgent(t)
  links.createVeth({ name: 'mn00000002000', peerName: 'other', mtu: 1500 })
  links.createVeth({ name: 'another', peerName: 'mp00000002000', mtu: 1500 })
  await call('NetworkDriver.CreateNetwork', networkBody({ id: red, subnet: '10.1.0.0/24' }))
  await call('NetworkDriver.CreateEndpoint', endpointBody(red, first, '10.1.0.2/24'))
  const { body } = await call('NetworkDriver.Join', joinBody(red, first))
  t.true('InterfaceName' in (body ?? {}))
  t.deepEqual(
    links
      .list()
      .map(({ name }) => name)
      .sort(),
    ['mn00000002000', 'mp00000002000'],
  )
})

test('a link that cannot be removed is told, and the call succeeds', async (t) => {
  const { call, links, driver, store } = await startAgent(t)
  await call('NetworkDriver.CreateNetwork', networkBody({ id: red, subnet: '10.1.0.0/24' }))
  await call('NetworkDriver.CreateEndpoint', endpointBody(red, first, '10.1.0.2/24'))
  await call('NetworkDriver.Join', joinBody(red, first))
  links.failing.add('remove')
  t.deepEqual((await call('NetworkDriver.DeleteEndpoint', refBody(red, first))).body, {})
  // Docker is answered before it is done.
  for (let turn = 0; turn < 1000 && driver.reconciler.repairs.length === 0; turn++)
    await new Promise((done) => setTimeout(done, 1))
  t.is(store.get('binding', first), undefined)
  t.regex(driver.reconciler.repairs[0]?.what ?? '', /link mn00000002000 could not be removed/)
})

test('calls for one endpoint that come at once are done one after another', async (t) => {
  const settled = () => new Promise<void>((resolve) => setTimeout(resolve, 100))
  const { call, store, links } = await startAgent(t, { settled })
  await call('NetworkDriver.CreateNetwork', networkBody({ id: red, subnet: '10.1.0.0/24' }))
  await call('NetworkDriver.CreateEndpoint', endpointBody(red, first, '10.1.0.2/24'))
  const order: string[] = []
  const send = async (name: string, body: object) => {
    const answer = await call(`NetworkDriver.${name}`, body)
    order.push(name)
    return answer
  }
  const joining = send('Join', joinBody(red, first))
  while (links.list().length === 0) await new Promise((resolve) => setTimeout(resolve, 1))
  const deleting = send('DeleteEndpoint', refBody(red, first))
  t.true('Gateway' in ((await joining).body ?? {}))
  await deleting
  t.deepEqual(order, ['Join', 'DeleteEndpoint'])
  t.deepEqual(store.list('binding'), [])
  t.deepEqual(await linksLeft(links, 0), [])
})

test('a hundred endpoints at once are all joined, each with its own link', async (t) => {
  const { call, store, links } = await startAgent(t)
  await call('NetworkDriver.CreateNetwork', networkBody({ id: red, subnet: '10.1.0.0/24' }))
  const answers = await Promise.all(
    Array.from({ length: 100 }, async (_, index) => {
      const id = dockerId(0x1000 + index * 0x10000)
      await call('NetworkDriver.CreateEndpoint', endpointBody(red, id, `10.1.0.${index + 2}/24`))
      return call('NetworkDriver.Join', joinBody(red, id))
    }),
  )
  t.true(answers.every(({ body }) => body?.Gateway === '10.1.0.1'))
  t.is(store.list('binding').length, 100)
  t.is(links.list().length, 200)
})
