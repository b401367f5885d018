import test from 'ava'
import type { DockerService, DockerTask } from '../../driver/docker.ts'
import { deleteNetwork } from '../../driver/network.ts'
import { networkCalls } from '../../driver/network-driver.ts'
import { needsServices, planServices } from '../../driver/service.ts'
import { ServiceWatch } from '../../driver/service-watch.ts'
import { swarmCalls } from '../../driver/swarm.ts'
import { contextOf, type MemoryContext } from './agent.ts'

const network = 'p7ldgz1at1oycs1qk0sx22gy7'

async function create(
  context: MemoryContext,
  more: Record<string, unknown> = {},
  id = network,
  subnet = '10.110.0',
): Promise<void> {
  const call = { ...networkCalls, ...swarmCalls }['NetworkDriver.CreateNetwork']
  await context.store.transact((draft) =>
    draft.put('host', { id: context.host, name: context.host }),
  )
  await call?.(context, {
    NetworkID: id,
    Options: { 'com.docker.network.generic': {}, ...more },
    IPv4Data: [{ Pool: `${subnet}.0/24`, Gateway: `${subnet}.1/24` }],
    IPv6Data: [],
  })
}

function task(id: string, last: number, more: Partial<DockerTask> = {}): DockerTask {
  const addresses = [{ network, address: `10.110.0.${last}` }]
  return { id, running: true, ending: false, addresses, ...more }
}

function service(...tasks: DockerTask[]): DockerService {
  const virtualIps = [{ network, address: '10.110.0.9' }]
  return { id: 'svc', name: 'web', virtualIps, ports: [], tasks }
}

test('a service is a VIP of all ports, its tasks are the members', async (t) => {
  const context = await contextOf(t)
  const { store } = context
  await create(context)
  const services = [
    service(
      task('one', 2),
      task('starts', 3, { running: false }),
      task('ends', 4, { ending: true }),
    ),
  ]
  t.true(needsServices(store, services))
  await store.transact((draft) => planServices(draft, services))
  t.false(needsServices(store, services))
  t.deepEqual(
    store.list('vip').map(({ address, protocol, port }) => [address, protocol, port]),
    [
      ['10.110.0.9', 'tcp', 0],
      ['10.110.0.9', 'udp', 0],
    ],
  )
  t.deepEqual(
    store.list('poolMember').map(({ address, adminUp, status }) => [address, adminUp, status]),
    [
      ['10.110.0.4', false, 'active'],
      ['10.110.0.2', true, 'active'],
      ['10.110.0.3', true, 'inactive'],
    ],
  )
  await store.transact((draft) => planServices(draft, [service(task('one', 2))]))
  t.deepEqual(
    store.list('poolMember').map(({ address }) => address),
    ['10.110.0.2'],
  )
  await store.transact((draft) => planServices(draft, []))
  for (const kind of ['loadBalancer', 'balancerPool', 'vip', 'poolMember'] as const)
    t.deepEqual(store.list(kind), [], kind)
})

test('what a service publishes on all hosts is published by its VIP on one network', async (t) => {
  const context = await contextOf(t)
  const { store } = context
  const [hidden, second] = ['hidden'.padEnd(25, '0'), 'second'.padEnd(25, '0')]
  await create(context, { 'com.docker.network.internal': true }, hidden, '10.111.0')
  await create(context)
  await create(context, {}, second, '10.112.0')
  const virtualIps = [
    { network: 'ingress', address: '10.0.0.9' },
    { network: hidden, address: '10.111.0.9' },
    { network, address: '10.110.0.9' },
    { network: second, address: '10.112.0.9' },
  ]
  const ports = [
    { protocol: 'tcp', hostPort: 8080, port: 80 },
    { protocol: 'udp', hostPort: 53, port: 5353 },
    { protocol: 'sctp', hostPort: 7000, port: 7000 },
  ]
  const services = [{ ...service(task('one', 2)), virtualIps, ports }]
  await store.transact((draft) => planServices(draft, services))
  t.false(needsServices(store, services))
  t.deepEqual(
    store
      .list('vip')
      .filter(({ published }) => published !== undefined)
      .map(({ address, protocol, published }) => [address, protocol, published]),
    [
      ['10.110.0.9', 'tcp', [{ hostPort: 8080, port: 80 }]],
      ['10.110.0.9', 'udp', [{ hostPort: 53, port: 5353 }]],
    ],
  )
  await store.transact((draft) => planServices(draft, [{ ...service(), virtualIps }]))
  t.true(store.list('vip').every(({ published }) => published === undefined))
})

test("the operator's balancer of the router is used, and left", async (t) => {
  const context = await contextOf(t)
  const { store } = context
  await create(context)
  await store.transact((draft) => {
    draft.put('loadBalancer', { id: 'mine', router: network, adminUp: true })
    planServices(draft, [service(task('one', 2))])
  })
  t.is(store.list('vip')[0]?.loadBalancer, 'mine')
  await store.transact((draft) => planServices(draft, []))
  t.deepEqual(
    store.list('loadBalancer').map(({ id }) => id),
    ['mine'],
  )
})

test('a network goes with what served its services', async (t) => {
  const context = await contextOf(t)
  const { store } = context
  await create(context)
  await store.transact((draft) => planServices(draft, [service(task('one', 2))]))
  await store.transact((draft) => deleteNetwork(draft, network))
  for (const kind of ['router', 'loadBalancer', 'balancerPool', 'vip', 'poolMember'] as const)
    t.deepEqual(store.list(kind), [], kind)
})

test('only the leader of a Swarm writes; without networks of it nobody is asked', async (t) => {
  const context = await contextOf(t)
  const { store } = context
  let asked = 0
  let answer: readonly DockerService[] | undefined
  const watch = new ServiceWatch(Promise.resolve(context), {
    networks: async () => [],
    watch: () => () => {},
    services: async () => {
      asked++
      return answer
    },
  })
  t.false(await watch.pass())
  t.is(asked, 0)
  await create(context)
  t.false(await watch.pass())
  t.deepEqual(store.list('vip'), [])
  answer = [service(task('one', 2))]
  t.true(await watch.pass())
  t.is(store.list('vip').length, 2)
  const { revision } = store
  t.true(await watch.pass())
  t.is(store.revision, revision, 'nothing is written when nothing changed')
})
