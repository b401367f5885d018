/**
 * A Swarm of three engines with the managed plugin whose hosts are drained, lose their leader, and are
 * lost; and what its services publish on every host.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import test from 'ava'
import { type Engine, EngineError, hostAddress, outsideAddress } from './engine.ts'
import { ensurePackages } from './packages.ts'
import { builtPlugin, pluginPackages } from './plugin-machine.ts'
import { driver, SwarmMachines, until } from './swarm-machines.ts'
import {
  askWeb,
  createService,
  createWeb,
  failuresWhile,
  mirror,
  serversOf,
  vipOf,
} from './swarm-web.ts'

/** Three engines, each with its plugin, take minutes. */
const onlyLong = process.env.MIDONET_LONG === '1' ? test.serial : test.serial.skip
const outside = ['ip', 'netns', 'exec', 'outside'] as const
const update = ['--detach', '--quiet', '--no-resolve-image'] as const

let swarm: SwarmMachines
/** Where the client is, on the second machine: it stays when the others go. */
let home: Engine

test.before(async (t) => {
  t.timeout(240_000)
  if (process.env.MIDONET_LONG !== '1') return
  ensurePackages(pluginPackages)
  swarm = await SwarmMachines.open(builtPlugin().folder)
  home = swarm.machine(1)
  const create = ['network', 'create', '--driver', driver, '--attachable', '--subnet']
  await swarm.leader.mustDocker(...create, '10.110.0.0/24', 'net')
  await swarm.leader.mustDocker(...create, '10.111.0.0/24', '--internal', 'hidden')
  await until(
    'the network',
    async () => (await home.docker('network', 'inspect', 'net')).code === 0,
  )
  await home.sleeper('client', 'net', '--stop-timeout', '1')
})

test.afterEach.always((t) => {
  const errors = (text: string) => text.split('\n').filter((line) => line.includes('level=error'))
  if (!t.passed) for (const engine of swarm.engines) t.log(errors(engine.log('dockerd')).join('\n'))
})

test.after.always(async () => {
  await swarm?.close()
})

/** What the port of a machine says to the world outside of it. */
async function askPort(index: number, port: number): Promise<string> {
  return (await swarm.machine(index).fetch(hostAddress, port, ...outside)).stdout.trim()
}

/** The manager that leads, of those that run. */
async function leaderNow(): Promise<{ readonly index: number; readonly engine: Engine }> {
  for (const [index, engine] of swarm.engines.entries()) {
    const self = await engine.docker('node', 'inspect', '-f', '{{.ManagerStatus.Leader}}', 'self')
    if (self.stdout.trim() === 'true') return { index, engine }
  }
  throw new EngineError('nobody leads')
}

onlyLong("published in host mode: the client's own address, on the task's host", async (t) => {
  const where = [
    '--constraint',
    'node.hostname==m3',
    '--publish',
    'mode=host,target=80,published=8081',
  ]
  await createService(swarm.leader, 'near', mirror, '--network', 'net', ...where)
  await swarm.converged('near')
  await until('an answer', async () => (await askPort(2, 8081)).endsWith(` ${outsideAddress}`))
  t.is(await askPort(0, 8081), '')
  await swarm.leader.mustDocker('service', 'rm', 'near')
})

onlyLong("published in mode ingress: the client's own address, on all hosts", async (t) => {
  const where = ['--replicas', '2', '--publish', '8082:80']
  await createService(swarm.leader, 'all', mirror, '--network', 'net', ...where)
  await swarm.converged('all')
  // One of them at least has no task. Docker's own mesh answers until ours does.
  for (const [index] of swarm.engines.entries()) {
    const ask = () => askPort(index, 8082)
    const isOurs = (answer: string) => answer.endsWith(` ${outsideAddress}`)
    await until(`an answer on m${index + 1}`, async () => isOurs(await ask()))
    const seen = new Set<string>()
    for (let tries = 0; tries < 24; tries++) {
      const answer = await ask()
      t.true(isOurs(answer), `m${index + 1}: ${answer}`)
      seen.add(answer)
    }
    t.is(seen.size, 2, 'both tasks, of whatever host')
  }
  await swarm.leader.mustDocker('service', 'update', ...update, '--publish-rm', '80', 'all')
  for (const [index] of swarm.engines.entries())
    await until(`nothing on m${index + 1}`, async () => (await askPort(index, 8082)) === '')
  await swarm.leader.mustDocker('service', 'rm', 'all')
})

onlyLong('a VIP of an internal network', async (t) => {
  await createService(swarm.leader, 'inner', mirror, '--network', 'hidden', '--replicas', '3')
  await swarm.converged('inner')
  await home.mustDocker('network', 'connect', 'hidden', 'client')
  const address = await vipOf(swarm.leader, 'inner')
  await until('an answer', async () => (await askWeb(home, address)) !== '')
  await home.mustDocker('network', 'disconnect', 'hidden', 'client')
  await swarm.leader.mustDocker('service', 'rm', 'inner')
  t.pass()
})

onlyLong(
  'drained: no connection is refused, since tasks leave the VIP before they end',
  async (t) => {
    await createWeb(swarm, 'web', '--replicas', '4', '--stop-grace-period', '5s')
    const address = await vipOf(swarm.leader, 'web')
    t.is((await serversOf(home, address, 4)).size, 4)
    const counts = await failuresWhile(
      () => askWeb(home, address),
      async () => {
        await swarm.leader.mustDocker('node', 'update', '--availability', 'drain', 'm3')
        const left = ['node', 'ps', '-f', 'desired-state=running', '-q', 'm3']
        await until('nobody on m3', async () => (await swarm.leader.mustDocker(...left)) === '')
        const running = () => swarm.machine(2).mustDocker('ps', '-q', '-f', 'name=web')
        await until('no container on m3', async () => (await running()) === '')
        await swarm.converged('web')
      },
    )
    t.log(`${counts.failed} of ${counts.asked} connections failed`)
    t.true(counts.asked > 20)
    t.is(counts.failed, 0)
    await swarm.leader.mustDocker('node', 'update', '--availability', 'active', 'm3')
  },
)

onlyLong('the leader is killed: the next goes on with VIPs', async (t) => {
  const address = await vipOf(swarm.leader, 'web')
  const before = await leaderNow()
  await before.engine.stopDocker('KILL')
  const started = performance.now()
  await until('another leader', async () => {
    const next = await leaderNow().catch(() => undefined)
    return next !== undefined && next.index !== before.index
  })
  const { engine: next } = await leaderNow()
  const ledMs = performance.now() - started
  const where = ['--constraint', 'node.hostname!=m1', '--network', 'net', '--replicas', '2']
  await createService(
    next,
    'later',
    ['sh', '-c', 'hostname >/www/index.html; exec httpd -f -p 80 -h /www'],
    ...where,
  )
  await swarm.converged('later', next)
  const later = await vipOf(next, 'later')
  await until('an answer of the new service', async () => (await askWeb(home, later)) !== '')
  await until('an answer of the old one', async () => (await askWeb(home, address)) !== '')
  t.log(
    `led after ${Math.round(ledMs)} ms, served after ${Math.round(performance.now() - started)} ms`,
  )
  await next.mustDocker('service', 'rm', 'later')
  await before.engine.startDocker(swarm.flags)
  await until('the machine', async () => (await before.engine.docker('node', 'ls')).code === 0)
  t.pass()
})

onlyLong(
  'a machine is lost: its tasks leave the VIP in bounded time, others take their place',
  async (t) => {
    t.timeout(180_000)
    // Neither the client's machine nor, so that one thing is tested, the leader's.
    const lead = await leaderNow()
    const lost = lead.index === 2 ? 0 : 2
    const manager = lead.engine
    const pin = ['--force', '--detach', '--quiet', '--no-resolve-image', '--replicas', '6', 'web']
    await manager.mustDocker('service', 'update', ...pin)
    await sleep(2_000)
    await swarm.converged('web', manager)
    const address = await vipOf(manager, 'web')
    const on = (index: number) => [
      'node',
      'ps',
      '-f',
      'desired-state=running',
      '-q',
      `m${index + 1}`,
    ]
    const placed = (await manager.mustDocker(...on(lost)))
      .split('\n')
      .filter((id) => id !== '').length
    t.true(placed > 0, 'some are on the machine that is lost')
    const counts = await failuresWhile(
      () => askWeb(home, address),
      async () => {
        await swarm.machine(lost).close()
        // Swarm misses three heartbeats of five seconds before it says that a node is down.
        await sleep(40_000)
      },
    )
    t.log(
      `${placed} of 6 tasks lost; ${counts.failed} of ${counts.asked} connections failed, ` +
        `the last ${Math.round(counts.lastFailureMs)} ms after the machine was`,
    )
    t.true(counts.lastFailureMs < 30_000)
    // Swarm goes on counting those of the lost machine among the running ones.
    const format = ['--format', '{{.CurrentState}}', 'web']
    await until('six tasks', async () => {
      const words = ['service', 'ps', '-f', 'desired-state=running', ...format]
      const states = (await manager.mustDocker(...words)).split('\n')
      return states.length === 6 && states.every((state) => state.startsWith('Running'))
    })
    t.is((await serversOf(home, address, 6)).size, 6)
  },
)
