/** What Docker's events bring: names, and the groups that containers' labels ask for. */
import test, { type ExecutionContext } from 'ava'
import { Containers } from '../../driver/containers.ts'
import type { DockerContainer } from '../../driver/docker.ts'
import { DockerError } from '../../driver/docker.ts'
import { createEndpoint, deleteEndpoint } from '../../driver/endpoint.ts'
import { createNetwork } from '../../driver/network.ts'
import { readNetworkOptions } from '../../driver/options.ts'
import { contents, contextOf, dockerId, hostId } from './agent.ts'

const network = dockerId(1)
const endpoint = dockerId(2)
const key = 'org.midonet.security-groups'

async function start(t: ExecutionContext, securityGroups: readonly string[] = []) {
  const context = await contextOf(t)
  const { store } = context
  const fake: { containers: DockerContainer[] | undefined; changed: () => void } = {
    containers: [],
    changed: () => {},
  }
  await store.transact((draft) => {
    draft.put('host', { id: hostId, name: 'h' })
    for (const name of ['web', 'db']) draft.put('chain', { id: name, name })
    createNetwork(draft, {
      ...{ id: network, options: readNetworkOptions({}), subnets6: [], host: [], hostId },
      subnets: [{ subnet: '10.1.0.0/24', gateway: '10.1.0.1/24' }],
      newId: () => 'x',
    })
  })
  const before = contents(store)
  const plan = { id: endpoint, network, host: hostId, address6: undefined, mac: undefined }
  await store.transact((draft) =>
    createEndpoint(draft, { ...plan, address: '10.1.0.2/24', securityGroups }),
  )
  const containers = new Containers({
    ready: Promise.resolve(context),
    docker: {
      networks: async () => [],
      async containers() {
        if (fake.containers === undefined) throw new DockerError('no answer')
        return fake.containers
      },
      watch(changed) {
        fake.changed = changed
        return () => {}
      },
    },
  })
  t.teardown(() => containers.stop())
  const says = async (label?: string) => {
    const endpoints = [{ id: endpoint, network, networkName: 'red' }]
    const labels: Record<string, string> = label === undefined ? {} : { [key]: label }
    fake.containers = [{ id: dockerId(3), name: 'shop', labels, endpoints }]
    await containers.pass()
    return store.get('endpoint', endpoint)
  }
  return { store, fake, containers, says, before }
}

test('endpoints and networks have Docker’s names, also while it is silent', async (t) => {
  const { containers, fake, says } = await start(t)
  t.is(containers.names.size, 0)
  await says()
  t.is(containers.names.get(endpoint), 'shop')
  t.is(containers.names.get(network), 'red')
  fake.containers = undefined
  await containers.pass()
  t.is(containers.names.get(endpoint), 'shop')
})

test('a label puts a port into groups, once', async (t) => {
  const { store, says } = await start(t)
  t.like(await says('web+db'), { securityGroups: ['web', 'db'], groupsLabel: 'web+db' })
  const port = store.get('port', endpoint)
  t.is(port?.inboundChain, `${endpoint}-from`)
  t.is(port?.portGroups?.length, 2)
  const { revision } = store
  await says('web+db')
  t.is(store.revision, revision)
  t.deepEqual(
    store.list('addressGroup').map(({ addresses }) => addresses),
    [['10.1.0.2'], ['10.1.0.2']],
  )
})

test('nothing is left of a label when the endpoint goes', async (t) => {
  for (const label of ['web', 'nobody', 'web,nobody', '***']) {
    const { store, says, before } = await start(t)
    await says(label)
    await store.transact((draft) => deleteEndpoint(draft, endpoint))
    t.deepEqual(contents(store), before, label)
  }
})

test('a group that is not there lets nothing pass, and is told, until it is made', async (t) => {
  const { store, says, containers } = await start(t)
  const alone = await says('nobody')
  t.is(alone?.securityGroups, undefined)
  t.is(alone?.groupsLabel, 'nobody')
  t.is(store.get('port', endpoint)?.outboundChain, `${endpoint}-to`)
  const jumps = store.list('rule').filter(({ action }) => action.kind === 'jump')
  t.deepEqual(
    jumps.map(({ action }) => (action.kind === 'jump' ? action.chain : '')),
    [`${endpoint}-source6`],
  )
  t.regex(containers.problems.join(), /container shop: .* no security group nobody.*chain create/)
  await store.transact((draft) => draft.put('chain', { id: 'n', name: 'nobody' }))
  t.like(await says('nobody'), { securityGroups: ['nobody'] })
  t.deepEqual(containers.problems, [])
})

test('what cannot be a group’s name is told, and lets nothing pass', async (t) => {
  const { says, containers } = await start(t)
  t.is((await says('***'))?.securityGroups, undefined)
  t.regex(containers.problems.join(), /container shop: label: .* must be 1 to 16 names/)
})

test('groups of the endpoint’s own option count more than a label', async (t) => {
  const { says, containers } = await start(t, ['db'])
  const kept = await says('web')
  t.deepEqual(kept?.securityGroups, ['db'])
  t.is(kept?.groupsLabel, undefined)
  t.deepEqual(containers.problems, [])
})

test('a swarm of events is one question', async (t) => {
  const { containers, fake } = await start(t)
  let asked = 0
  fake.containers = new Proxy([], {
    get(target, property, receiver) {
      if (property === 'flatMap') asked++
      return Reflect.get(target, property, receiver)
    },
  })
  containers.start()
  await new Promise((resolve) => setTimeout(resolve, 200))
  const first = asked
  for (let events = 0; events < 1000; events++) fake.changed()
  await new Promise((resolve) => setTimeout(resolve, 300))
  t.is(first, 1)
  t.true(asked === 2, String(asked))
})
