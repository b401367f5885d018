/**
 * A Swarm of three Docker Engines with the managed plugin: services on all of them, found by name,
 * by their own address, scaled, updated, drained; and nothing left of them.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import test, { type ExecutionContext } from 'ava'
import { image, outsideAddress } from './engine.ts'
import { ensurePackages } from './packages.ts'
import { builtPlugin, pluginPackages } from './plugin-machine.ts'
import { driver, SwarmMachines, until } from './swarm-machines.ts'
import { askWeb, createWeb, failuresWhile, lookUpName, serversOf, web } from './swarm-web.ts'

/** Three engines, each with its plugin, take minutes. */
const onlyLong = process.env.MIDONET_LONG === '1' ? test.serial : test.serial.skip

let swarm: SwarmMachines

test.before(async () => {
  ensurePackages(pluginPackages)
  swarm = await SwarmMachines.open(builtPlugin().folder)
})

test.afterEach.always((t) => {
  if (!t.passed) t.log(swarm?.engines.map((engine) => engine.log('dockerd')).join('\n'))
})

test.after.always(async () => {
  await swarm?.close()
})

const ask = (address: string) => askWeb(swarm.leader, address)
const lookUp = (name: string) => lookUpName(swarm.leader, name)
const serversAt = (address: string, count: number) => serversOf(swarm.leader, address, count)

onlyLong(
  'a network of the Swarm has its subnet, and one container of each host meets all',
  async (t) => {
    const options = ['--driver', driver, '--attachable', '--subnet', '10.110.0.0/24']
    await swarm.leader.mustDocker('network', 'create', ...options, 'net')
    const inspect = [
      'network',
      'inspect',
      '-f',
      '{{.Scope}} {{range .IPAM.Config}}{{.Subnet}}{{end}}',
    ]
    // The leader gives it its subnet after the command has ended.
    await until('its subnet', async () => {
      const said = await swarm.leader.mustDocker(...inspect, 'net')
      return said === 'swarm 10.110.0.0/24'
    })
    t.is(await swarm.count('network'), 0, 'until a host has something on it')
    for (const [index, engine] of swarm.engines.entries())
      await engine.sleeper(index === 0 ? 'client' : `other${index}`, 'net', '--stop-timeout', '1')
    t.is(await swarm.count('network'), 1)
    t.is(await swarm.count('endpoint'), 3)
    t.true(await swarm.leader.reaches('client', outsideAddress))
    for (const index of [1, 2]) {
      const address = await swarm.machine(index).address(`other${index}`, 'net')
      t.true(await swarm.leader.reaches('client', address), `host ${index}`)
    }
  },
)

onlyLong('dnsrr: the name is the address of each task, on all hosts', async (t) => {
  await createWeb(swarm, 'round', '--replicas', '3', '--endpoint-mode', 'dnsrr')
  const addresses = await lookUp('round')
  t.is(addresses.length, 3)
  const servers = await Promise.all(addresses.map(ask))
  t.is(new Set(servers.filter((server) => server !== '')).size, 3, servers.join())
  const placed = await swarm.leader.mustDocker(
    'service',
    'ps',
    '-f',
    'desired-state=running',
    '--format',
    '{{.Node}}',
    'round',
  )
  t.is(new Set(placed.split('\n')).size, 3, placed)
})

onlyLong('dnsrr: a host is drained, and the name leads to tasks elsewhere', async (t) => {
  await swarm.leader.mustDocker('node', 'update', '--availability', 'drain', 'm3')
  await until('nobody on m3', async () => {
    const words = ['node', 'ps', '-f', 'desired-state=running', '-q', 'm3']
    return (await swarm.leader.mustDocker(...words)) === ''
  })
  await swarm.converged('round')
  await until('three addresses', async () => (await lookUp('round')).length === 3)
  const servers = await Promise.all((await lookUp('round')).map(ask))
  t.is(new Set(servers.filter((server) => server !== '')).size, 3, servers.join())
  await swarm.leader.mustDocker('node', 'update', '--availability', 'active', 'm3')
  await swarm.leader.mustDocker('service', 'rm', 'round')
})

onlyLong("vip: the service's own address leads to each task that is healthy", async (t) => {
  await createWeb(swarm, 'vip', '--replicas', '3')
  const [address = '', ...more] = await lookUp('vip')
  t.deepEqual(more, [])
  await until('members', async () => (await swarm.count('poolMember')) === 3)
  t.is((await serversAt(address, 3)).size, 3)
  await swarm.leader.mustDocker('service', 'scale', '--detach', 'vip=5')
  await swarm.converged('vip')
  await until('members', async () => (await swarm.count('poolMember')) === 5)
  t.is((await serversAt(address, 5)).size, 5)
})

onlyLong('vip: connections go on while the service is updated', async (t) => {
  const [address = ''] = await lookUp('vip')
  const update = ['service', 'update', '--detach', '--quiet', '--force', '--no-resolve-image']
  const order = [
    '--update-order',
    'start-first',
    '--update-parallelism',
    '2',
    '--update-delay',
    '0s',
  ]
  const updated = await failuresWhile(
    () => ask(address),
    async () => {
      await swarm.leader.mustDocker(...update, ...order, 'vip')
      await until('the update', async () => {
        const state = ['service', 'inspect', '-f', '{{.UpdateStatus.State}}', 'vip']
        return (await swarm.leader.mustDocker(...state)) === 'completed'
      })
    },
  )
  tell(t, 'while it was updated', updated)
})

/** New connections may meet a task that ends in the second until Docker says so. */
function tell(t: ExecutionContext, when: string, count: { asked: number; failed: number }): void {
  t.log(`${when} ${count.failed} of ${count.asked} connections failed`)
  t.true(count.asked > 5)
  t.true(count.failed <= count.asked / 4, `${count.failed} of ${count.asked}`)
}

onlyLong('vip: a task takes connections when its health check says that it may', async (t) => {
  const check = ['--health-cmd', 'test -f /tmp/well', '--health-interval', '1s']
  const patience = ['--health-retries', '100', '--health-start-period', '100s', '--detach']
  const where = [
    '--constraint',
    'node.hostname==m1',
    '--no-resolve-image',
    '--stop-grace-period',
    '1s',
  ]
  await swarm.leader.mustDocker(
    ...['service', 'create', '--quiet', '--name', 'ill', '--network', 'net', ...check, ...patience],
    ...[...where, image, ...web],
  )
  const id = async () =>
    (await swarm.leader.mustDocker('ps', '-q', '-f', 'name=ill.1')).split('\n')[0] ?? ''
  await until('its container', async () => (await id()) !== '')
  // Docker's DNS knows a service only while a task runs.
  const inspect = ['service', 'inspect', '-f', '{{(index .Endpoint.VirtualIPs 0).Addr}}', 'ill']
  const address = (await swarm.leader.mustDocker(...inspect)).split('/')[0] ?? ''
  await sleep(2_000)
  t.is(await ask(address), '')
  await swarm.leader.mustDocker('exec', await id(), 'touch', '/tmp/well')
  await until('an answer', async () => (await ask(address)) !== '')
  await swarm.leader.mustDocker('service', 'rm', 'ill')
  t.pass()
})

onlyLong('nothing is left of services and networks that are removed', async (t) => {
  await swarm.leader.mustDocker('service', 'rm', 'vip')
  await Promise.all(
    swarm.engines.map((engine, index) =>
      engine.mustDocker('rm', '-f', index === 0 ? 'client' : `other${index}`),
    ),
  )
  const remove = ['network', 'rm', 'net']
  await until('the network', async () => (await swarm.leader.docker(...remove)).code === 0)
  const docker = ['endpoint', 'port', 'network', 'bridge', 'router', 'uplink']
  const kinds = [...docker, 'vip', 'poolMember', 'balancerPool', 'loadBalancer']
  const rest = async () => {
    const counts = kinds.map(async (kind) => `${kind} ${await swarm.count(kind)}`)
    return (await Promise.all(counts)).filter((text) => !text.endsWith(' 0'))
  }
  await until('nothing', async () => (await rest()).length === 0).catch(() => {})
  t.deepEqual(await rest(), [])
})
