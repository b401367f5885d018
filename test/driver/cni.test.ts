/** What the agent does for `midonet-cni`: attachments in the store, beside those of Docker. */
import { readFileSync } from 'node:fs'
import test, { type ExecutionContext } from 'ava'
import { answerCni } from '../../driver/cni.ts'
import { readCniConfig } from '../../driver/cni-request.ts'
import { findAttachments, findDifferences } from '../../driver/reconcile.ts'
import { limits, Reconciler } from '../../driver/reconciler.ts'
import { contents, contextOf, dockerId, hostId, networkBody, post, startAgent } from './agent.ts'
import { FakeContainers } from './fake-container.ts'

const config = {
  name: 'blue',
  type: 'midonet-cni',
  ipam: { type: 'midonet', subnet: '10.9.0.0/24' },
}

async function start(t: ExecutionContext) {
  const clock = { ms: 1_000_000 }
  const context = await contextOf(t, () => clock.ms)
  await context.store.transact((draft) => draft.put('host', { id: hostId, name: 'h' }))
  const containers = new FakeContainers(context.links)
  const settings = { ready: Promise.resolve(context), openContainer: containers.open }
  const call = async (command: string, container: string, more: object = {}) => {
    const netns = { path: `/run/netns/${container}`, pid: 1, fd: 3, device: 4, inode: 5 }
    const body = { command, network: 'blue', container, ifname: 'eth0', netns, config, ...more }
    const answer = await answerCni(settings, body)
    return 'error' in answer ? { ...answer.error } : { code: 0, ...answer }
  }
  return { ...context, clock, context, containers, call }
}

test('addresses are given in turn, and everything goes with the last attachment', async (t) => {
  const { call, store, links, containers } = await start(t)
  const before = contents(store)
  const first = await call('ADD', 'a')
  t.like(first, { code: 0, result: { routes: [{ dst: '0.0.0.0/0', gw: '10.9.0.1' }] } })
  t.deepEqual(containers.inside.get('/run/netns/a')?.get('eth0')?.addresses, ['10.9.0.2/24'])
  t.like(await call('ADD', 'b'), { result: { ips: [{ address: '10.9.0.3/24' }] } })
  t.is(store.list('binding').length, 2)
  for (const container of ['a', 'b', 'b']) t.is((await call('DEL', container)).code, 0)
  t.deepEqual(contents(store), before)
  t.deepEqual(links.list(), [])
  t.is(containers.opened, 0, 'no namespace stays open')
})

for (const failing of ['addAddress', 'setUp', 'addRoute'] as const)
  test(`nothing is left of an ADD whose ${failing} failed`, async (t) => {
    const { call, store, links, containers } = await start(t)
    const before = contents(store)
    containers.failing.add(failing)
    t.is((await call('ADD', 'a')).code, 199)
    t.deepEqual(contents(store), before)
    t.deepEqual(links.list(), [])
    t.is(containers.opened, 0)
  })

test('an ADD whose container is gone is replaced by the next', async (t) => {
  const { call, store, containers } = await start(t)
  await call('ADD', 'a')
  containers.inside.delete('/run/netns/a')
  t.is((await call('ADD', 'a')).code, 0)
  t.is(store.list('endpoint').length, 1)
  t.is((await call('ADD', 'a')).code, 101, 'the interface is there')
})

test('networks of one name cannot have different settings at once', async (t) => {
  const { call } = await start(t)
  await call('ADD', 'a')
  const other = { config: { ...config, ipam: { subnet: '10.8.0.0/24' } } }
  t.is((await call('ADD', 'b', other)).code, 103)
  await call('DEL', 'a')
  t.like(await call('ADD', 'b', other), { result: { ips: [{ address: '10.8.0.2/24' }] } })
})

test('what a key must be, and keys that nobody knows', async (t) => {
  const { call } = await start(t)
  const code = async (values: object) =>
    await call('ADD', 'a', { config: { ...config, ...values } })
  t.like(await code({ securityGroup: 'web' }), {
    code: 2,
    msg: 'unsupported field securityGroup: "web"',
  })
  t.like(await code({ ipam: { type: 'midonet', subent: '10.0.0.0/8' } }), { code: 2 })
  t.like(await code({ ipMasq: false }), { code: 2 })
  t.like(await code({ mtu: 'big' }), { code: 7 })
  t.like(await code({ gateway: '10.9.0.300' }), { code: 7 })
  t.like(await code({ securityGroups: ['web'] }), { code: 7 })
  t.like(await code({ runtimeConfig: { mac: 'me' } }), { code: 7 })
  t.like(await code({ runtimeConfig: { ips: ['10.1.2.3/24'] } }), { code: 7 })
  t.like(await code({ 'cni.dev/attachments': [], _comment: 'mine' }), { code: 0 })
})

test('Mesos tells labels, addresses and ports in its own way', async (t) => {
  const { call, store } = await start(t)
  await store.transact((draft) => draft.put('chain', { id: 'web', name: 'web' }))
  const network_info = {
    ip_addresses: [{ ip_address: '10.9.0.40' }],
    labels: { labels: [{ key: 'org.midonet.security-groups', value: 'web' }] },
    port_mappings: [{ host_port: 31_999, container_port: 80 }],
  }
  const args = { 'org.apache.mesos': { network_info } }
  t.is((await call('ADD', 'a', { config: { ...config, router: 'r', args } })).code, 0)
  t.like(store.list('endpoint')[0], { address: '10.9.0.40/24', securityGroups: ['web'] })
  t.like(store.list('endpoint')[0]?.publications[0], { hostPort: 31_999, port: 80 })
  await call('DEL', 'a')
  const several = { labels: [{ key: 'org.midonet.security-groups', value: 'web, db' }] }
  await store.transact((draft) => draft.put('chain', { id: 'db', name: 'db' }))
  const told = async (at: string, labels: object) => {
    const mesos = { args: { 'org.apache.mesos': { network_info: { name: 'blue', labels } } } }
    const { code } = await call('ADD', at, { config: { ...config, ...mesos } })
    const groups = store.list('endpoint')[0]?.securityGroups
    await call('DEL', at)
    return { code, groups }
  }
  t.deepEqual(await told('c', several), { code: 0, groups: ['web', 'db'] })
  t.deepEqual(await told('d', {}), { code: 0, groups: undefined }, 'labels without any')
  const asked = await call('ADD', 'b', {
    args: 'IgnoreUnknown=1;IP=10.9.0.50;MAC=02:00:00:00:00:AA',
  })
  t.is(asked.code, 0)
  t.like(store.list('endpoint')[0], { address: '10.9.0.50/24', mac: '02:00:00:00:00:aa' })
})

test('CHECK finds what has changed', async (t) => {
  const { call, containers, links } = await start(t)
  const added = await call('ADD', 'a')
  const previous = 'result' in added ? added.result : undefined
  t.is((await call('CHECK', 'a', { previous })).code, 0)
  const inside = containers.inside.get('/run/netns/a')?.get('eth0')
  inside?.routes.pop()
  t.like(await call('CHECK', 'a', { previous }), {
    code: 102,
    msg: 'there is no route to 0.0.0.0/0 by eth0',
  })
  inside?.routes.push('0.0.0.0/0')
  if (inside !== undefined) inside.link.mac = '02:00:00:00:00:ff'
  t.is((await call('CHECK', 'a', { previous })).code, 102)
  links.remove(links.list()[0]?.name ?? '')
  t.is((await call('CHECK', 'a', { previous })).code, 102)
  t.is((await call('CHECK', 'b', { previous })).code, 3)
})

test('GC removes of one network what is not named', async (t) => {
  const { call, store } = await start(t)
  for (const container of ['a', 'b']) await call('ADD', container)
  await call('ADD', 'c', { network: 'red' })
  const attachments = [{ containerID: 'b', ifname: 'eth0' }]
  t.like(await call('GC', 'x', { attachments }), {
    removed: [{ container: 'a', ifname: 'eth0', netns: '/run/netns/a' }],
  })
  t.deepEqual(
    store
      .list('endpoint')
      .map(({ cni }) => cni?.container)
      .toSorted(),
    ['b', 'c'],
  )
  t.is((await call('GC', 'x')).code, 4)
})

test('STATUS is 50 when nothing forwards, and 7 for a wrong configuration', async (t) => {
  const { call, context, containers } = await start(t)
  t.is((await call('STATUS', 'x')).code, 0)
  t.is((await call('STATUS', 'x', { config: { ...config, mtu: -1 } })).code, 7)
  const settled = () => Promise.reject(new RangeError('no forwarding'))
  const broken = { ready: Promise.resolve({ ...context, settled }), openContainer: containers.open }
  const answer = await answerCni(broken, { command: 'STATUS', network: 'blue', config })
  t.like(answer, { error: { code: 50 } })
})

test('Docker knows nothing of attachments, and they stay; without a link they go', async (t) => {
  const { call, context, store, links, clock } = await start(t)
  await call('ADD', 'a')
  const picture = { store, links: links.list(), host: hostId, driver: 'midonet' }
  t.deepEqual(findDifferences({ ...picture, docker: [] }), [])
  for (const { name } of links.list()) links.remove(name)
  const [finding] = findAttachments({ ...picture, links: [], docker: undefined })
  t.is(finding?.what, 'attachment a/eth0 (10.9.0.2/24): its network namespace is gone')

  // Also while Docker cannot be asked.
  const docker = { networks: () => Promise.reject(new RangeError('gone')), watch: () => () => {} }
  const ready = Promise.resolve(context)
  const reconciler = new Reconciler({ ready, docker, driver: 'midonet', now: () => clock.ms })
  for (let passes = 0; passes < 3; passes++) {
    clock.ms += 20_000 + limits.confirmMs
    await reconciler.pass()
  }
  t.deepEqual(contents(store), [])
  t.regex(reconciler.problem ?? '', /gone/)
})

test('the agent answers at /cni, and beside Docker’s networks', async (t) => {
  const { FakeLinks } = await import('./fake-links.ts')
  const links = new FakeLinks()
  const containers = new FakeContainers(links)
  const agent = await startAgent(t, { links, openContainer: containers.open })
  const body = networkBody({ id: dockerId(1), subnet: '10.9.0.0/24' })
  t.is((await agent.call('NetworkDriver.CreateNetwork', body)).status, 200)
  const netns = { path: '/run/netns/a', pid: 1, fd: 3, device: 4, inode: 5 }
  const add = { command: 'ADD', network: 'blue', container: 'a', ifname: 'eth0', netns, config }
  const { status, body: answer } = await post(agent.apiSocketPath, '/cni', add)
  t.is(status, 200)
  t.like(answer, { result: { ips: [{ address: '10.9.0.2/24' }] } })
  t.like((await post(agent.apiSocketPath, '/cni', {})).body, { error: { code: 7 } })
})

test('the examples are configurations that are understood', (t) => {
  const folder = new URL('../../../examples/cni/', import.meta.url)
  for (const name of ['midonet.conflist', 'podman.conflist', 'mesos.json', 'host-local.json']) {
    const read = JSON.parse(readFileSync(new URL(name, folder), 'utf8'))
    for (const plugin of read.plugins ?? [read]) t.truthy(readCniConfig(plugin), name)
  }
})
