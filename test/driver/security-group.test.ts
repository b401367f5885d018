import test from 'ava'
import { contents, dockerId, endpointBody, networkBody, refBody, startAgent } from './agent.ts'

const red = dockerId(1)
const [first, second] = [dockerId(11), dockerId(12)]

async function prepared(t: Parameters<typeof startAgent>[0]) {
  const agent = await startAgent(t)
  const { call, store } = agent
  await call('NetworkDriver.CreateNetwork', networkBody({ id: red, subnet: '10.1.0.0/24' }))
  await store.transact((draft) => {
    draft.put('chain', { id: 'c-web', name: 'web' })
    draft.put('chain', { id: 'c-db', name: 'db' })
  })
  const create = async (id: string, address: string, groups: string) => {
    const options = { 'org.midonet.security-groups': groups }
    const body = endpointBody(red, id, address, { options })
    return String((await call('NetworkDriver.CreateEndpoint', body)).body?.Err ?? 'made')
  }
  return { ...agent, create }
}

test('an endpoint is put into groups, and what was made for it goes with it', async (t) => {
  const { call, store, create } = await prepared(t)
  const before = contents(store)
  t.is(await create(first, '10.1.0.2/24', 'web,db'), 'made')
  t.is(await create(first, '10.1.0.2/24', 'web,db'), 'made', 'again')
  t.is(await create(second, '10.1.0.3/24', 'db'), 'made')

  const port = store.get('port', first)
  const groupsOf = (kind: 'portGroup' | 'addressGroup') =>
    new Map(store.list(kind).map((group) => [group.name, group]))
  t.deepEqual(
    port?.portGroups,
    ['web', 'db'].map((name) => groupsOf('portGroup').get(name)?.id),
  )
  const addresses = store.list('addressGroup').map((group) => [group.name, group.addresses])
  t.deepEqual(Object.fromEntries(addresses), { db: ['10.1.0.2', '10.1.0.3'], web: ['10.1.0.2'] })
  const jumps = store
    .list('rule')
    .filter(({ chain }) => chain === port?.outboundChain)
    .flatMap(({ action }) => (action.kind === 'jump' ? action.chain : []))
  t.deepEqual(jumps, ['c-web', 'c-db'])

  await call('NetworkDriver.DeleteEndpoint', refBody(red, first))
  t.deepEqual(
    store.list('addressGroup').map(({ name, addresses: list }) => [name, list]),
    [['db', ['10.1.0.3']]],
  )
  await call('NetworkDriver.DeleteEndpoint', refBody(red, second))
  t.deepEqual(contents(store), before)
})

test('what others have built on a group stays', async (t) => {
  const { call, store, create } = await prepared(t)
  await store.transact((draft) => {
    draft.put('addressGroup', { id: 'g', name: 'web', addresses: ['192.0.2.7'] })
  })
  await create(first, '10.1.0.2/24', 'web+db')
  const db = store.list('addressGroup').find(({ name }) => name === 'db')
  await store.transact((draft) => {
    draft.put('rule', {
      id: 'theirs',
      chain: 'c-web',
      position: 1,
      condition: { srcGroup: { is: db?.id ?? '' } },
      action: { kind: 'accept' },
    })
  })
  await call('NetworkDriver.DeleteEndpoint', refBody(red, first))
  t.deepEqual(store.get('addressGroup', 'g')?.addresses, ['192.0.2.7'])
  t.deepEqual(store.get('addressGroup', db?.id ?? '')?.addresses, [])
})

test('groups that are not there, or have no names, are refused with what to do', async (t) => {
  const { store, create } = await prepared(t)
  const before = contents(store)
  t.is(
    await create(first, '10.1.0.2/24', 'web,wbe'),
    'midonet: there is no security group wbe; ' +
      "make its chain: midonet cli -e 'chain create name wbe'",
  )
  t.regex(await create(first, '10.1.0.2/24', ''), /must be 1 to 16 names/)
  t.regex(await create(first, '10.1.0.2/24', 'web,../x'), /must be 1 to 16 names/)
  t.deepEqual(contents(store), before)
})
