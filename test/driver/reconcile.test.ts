import test, { type ExecutionContext } from 'ava'
import { DockerError, type DockerNetwork } from '../../driver/docker.ts'
import { findDifferences } from '../../driver/reconcile.ts'
import { limits, Reconciler } from '../../driver/reconciler.ts'
import { contents, contextOf, dockerId, dockerNetwork, hostId } from './agent.ts'

const red = dockerId(1)
const first = dockerId(2)
const link = 'mn00000002000'

/** A store with network red and endpoint `first` on it, a Docker that says `docker`, a clock. */
async function start(t: ExecutionContext, docker: readonly DockerNetwork[]) {
  const clock = { ms: 1_000_000 }
  const context = await contextOf(t, () => clock.ms)
  const { store, links } = context
  const fake = { networks: docker, unreachable: false, asked: 0, changed: () => {} }
  await store.transact((draft) => {
    const mac = '02:6d:0a:01:00:02'
    draft.put('host', { id: hostId, name: 'h' })
    draft.put('bridge', { id: red, adminUp: true })
    draft.put('network', {
      id: red,
      bridge: red,
      ownsBridge: true,
      subnets: [{ subnet: '10.1.0.0/24', gateway: '10.1.0.1/24' }],
      subnets6: [],
      internal: false,
      gatewayMode: 'virtual',
      mtu: 1500,
      options: {},
    })
    const stations = [{ mac, addresses: ['10.1.0.2'] }]
    draft.put('port', { id: first, kind: 'bridge', bridge: red, adminUp: true, stations })
    draft.put('endpoint', {
      id: first,
      network: red,
      host: hostId,
      mac,
      address: '10.1.0.2/24',
      interface: link,
      publications: [],
    })
    draft.put('binding', { id: first, host: hostId, interface: link })
  })
  links.createVeth({ name: link, peerName: 'mp00000002000', mtu: 1500 })
  links.take('mp00000002000')
  const reconciler = new Reconciler({
    ready: Promise.resolve(context),
    driver: 'midonet',
    now: () => clock.ms,
    docker: {
      async networks() {
        fake.asked++
        if (fake.unreachable) throw new DockerError('Docker does not answer')
        return fake.networks
      },
      watch(changed) {
        fake.changed = changed
        return () => {}
      },
    },
  })
  t.teardown(() => reconciler.stop())
  /** Two passes, far enough apart. */
  const twice = async () => {
    await reconciler.pass()
    clock.ms += limits.confirmMs
    await reconciler.pass()
  }
  const told = () => reconciler.repairs.map(({ what }) => what)
  return { store, links, clock, fake, context, reconciler, twice, told }
}

const alive = dockerNetwork(red, '10.1.0.0/24', [first])

test('where all agree nothing is done', async (t) => {
  const { store, links, twice, told } = await start(t, [alive])
  const before = contents(store)
  await twice()
  t.deepEqual(contents(store), before)
  t.is(links.list().length, 1)
  t.deepEqual(told(), [])
})

test('an endpoint that Docker has forgotten goes on the second look, with its link', async (t) => {
  const { store, links, clock, reconciler, told } = await start(t, [
    dockerNetwork(red, '10.1.0.0/24'),
  ])
  await reconciler.pass()
  clock.ms += limits.confirmMs - 1
  await reconciler.pass()
  t.is(store.list('endpoint').length, 1)
  clock.ms += 1
  await reconciler.pass()
  t.deepEqual(contents(store), [`bridge/${red}`, `network/${red}`])
  t.deepEqual(links.list(), [])
  t.deepEqual(told(), ['endpoint 000000020000 (10.1.0.2/24): Docker has it no more; removed'])
})

test('an endpoint that a call touched a moment ago is not judged', async (t) => {
  const { store, clock, context, twice } = await start(t, [dockerNetwork(red, '10.1.0.0/24')])
  context.recent.touch(first)
  await twice()
  t.is(store.list('endpoint').length, 1)
  clock.ms += 20_000
  await twice()
  t.is(store.list('endpoint').length, 0)
})

test('an endpoint that Docker shows again in between stays', async (t) => {
  const { store, fake, clock, reconciler } = await start(t, [dockerNetwork(red, '10.1.0.0/24')])
  await reconciler.pass()
  fake.networks = [alive]
  clock.ms += limits.confirmMs
  await reconciler.pass()
  fake.networks = [dockerNetwork(red, '10.1.0.0/24')]
  clock.ms += limits.confirmMs
  await reconciler.pass()
  t.is(store.list('endpoint').length, 1)
})

test('a network that Docker has no more goes with all that is on it', async (t) => {
  const { store, links, twice, told } = await start(t, [])
  await twice()
  t.deepEqual(contents(store), [])
  t.deepEqual(links.list(), [])
  t.true(told().includes('network 000000010000 (10.1.0.0/24): Docker has it no more; removed'))
})

test('while Docker cannot be asked nothing is removed', async (t) => {
  const { store, links, fake, clock, reconciler } = await start(t, [])
  links.createVeth({ name: 'mn0123456789a', peerName: 'mp0123456789a', mtu: 1500 })
  await reconciler.pass()
  fake.unreachable = true
  for (let pass = 0; pass < 5; pass++) {
    clock.ms += limits.confirmMs
    await reconciler.pass()
  }
  t.is(store.list('endpoint').length, 1)
  t.is(links.list().length, 3)
  t.is(reconciler.problem, 'Docker does not answer')
  // What was wrong before the gap must last anew.
  fake.unreachable = false
  await reconciler.pass()
  t.is(store.list('endpoint').length, 1)
  t.is(reconciler.problem, undefined)
})

test('links with our names that nothing stands for are removed, and no others', async (t) => {
  const { store, links, twice, told } = await start(t, [alive])
  await store.transact((draft) => {
    draft.put('router', { id: 'r', adminUp: true })
    const mac = '02:00:00:00:00:01'
    const addresses = ['169.254.1.2/30']
    draft.put('port', { id: 'up', kind: 'router', router: 'r', adminUp: true, mac, addresses })
    draft.put('binding', { id: 'up', host: hostId, interface: 'mn0000000000b' })
  })
  links.createVeth({ name: 'mn0000000000b', peerName: 'mu0000000000b', mtu: 1500 })
  links.createVeth({ name: 'mn0123456789a', peerName: 'eth7', mtu: 1500 })
  links.createVeth({ name: 'veth0', peerName: 'mp0123456789a', mtu: 1500 })
  links.createVeth({ name: 'mnemonic', peerName: 'veth1', mtu: 1500 })
  await twice()
  t.deepEqual(
    links
      .list()
      .map(({ name }) => name)
      .sort(),
    ['mn0000000000b', link, 'mnemonic', 'mu0000000000b', 'veth1'],
  )
  t.is(told().length, 2)
})

test('a link that vanished under a living container is told once', async (t) => {
  const { links, clock, reconciler, twice, told } = await start(t, [alive])
  links.remove(link)
  await twice()
  clock.ms += limits.confirmMs
  await reconciler.pass()
  t.deepEqual(told(), [
    `container c1 on network net-0000 has lost its link ${link}; restart the container`,
  ])
})

test('what Docker has and we do not is told', async (t) => {
  const other = dockerNetwork(dockerId(9), '10.9.0.0/24', [dockerId(8)])
  const { twice, told } = await start(t, [alive, other])
  await twice()
  t.deepEqual(told(), [
    'container c1 on network net-0000 has an endpoint unknown here; restart the container',
    'network net-0000 is unknown here; remove it and create it again',
  ])
})

test('addresses and pools that no network of Docker uses are given back', async (t) => {
  const pooled = {
    ...alive,
    driver: 'bridge',
    ipamDriver: 'midonet:latest',
    subnets: ['10.5.0.0/24'],
    reserved: ['10.5.0.1', '10.5.0.9'],
    endpoints: [{ id: dockerId(7), container: 'c7', addresses: ['10.5.0.2'] }],
  }
  const { store, twice, told } = await start(t, [alive, pooled])
  await store.transact((draft) => {
    const put = (pool: string, address: string, gateway = false) =>
      draft.put('address', { id: `${pool}_${address}`, pool, address, gateway })
    draft.put('pool', { id: 'p5', space: 's', subnet: '10.5.0.0/24', references: 1 })
    draft.put('pool', { id: 'p6', space: 's', subnet: '10.6.0.0/24', references: 1 })
    put('p5', '10.5.0.1', true)
    put('p5', '10.5.0.2')
    put('p5', '10.5.0.3')
    put('p5', '10.5.0.9')
    put('p6', '10.6.0.2')
  })
  await twice()
  t.deepEqual(
    store.list('address').map(({ address }) => address),
    ['10.5.0.1', '10.5.0.2', '10.5.0.9'],
  )
  t.deepEqual(
    store.list('pool').map(({ id }) => id),
    ['p5'],
  )
  t.deepEqual(told(), [
    'address 10.5.0.3 of pool 10.5.0.0/24: no endpoint of Docker has it; removed',
    'pool 10.6.0.0/24: no network of Docker uses it; removed',
  ])
})

test('endpoints of other hosts are theirs to judge', async (t) => {
  const { store, links } = await start(t, [])
  const found = findDifferences({
    store,
    links: links.list(),
    docker: [dockerNetwork(red, '10.1.0.0/24')],
    host: 'host-2',
    driver: 'midonet',
  })
  t.deepEqual(
    found.map(({ kind }) => kind),
    ['link'],
  )
})

test('an event of Docker’s brings a pass, and passes go on by themselves', async (t) => {
  const { fake, reconciler } = await start(t, [alive])
  reconciler.start()
  await new Promise((resolve) => setTimeout(resolve, 50))
  t.is(fake.asked, 1)
  fake.changed()
  fake.changed()
  reconciler.stop()
  await new Promise((resolve) => setTimeout(resolve, 50))
  t.is(fake.asked, 1)
})
