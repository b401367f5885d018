/**
 * Random operations on a Swarm of three engines with the managed plugin, a thousand as a seed decides,
 * while its daemons and agents die: at the end services work as at the beginning, and when all is
 * removed nothing is left. Part of the long run.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import test from 'ava'
import { type Engine, image, type Result } from './engine.ts'
import { ensurePackages } from './packages.ts'
import { builtPlugin, pluginPackages } from './plugin-machine.ts'
import { type Random, randomOf } from './random.ts'
import { driver, SwarmMachines, until } from './swarm-machines.ts'
import { askWeb, serversOf, vipOf, web } from './swarm-web.ts'

const onlyLong = process.env.MIDONET_LONG === '1' ? test.serial : test.serial.skip
/** Set MIDONET_SEED to run a failed run again. */
const seed = Number(process.env.MIDONET_SEED ?? Date.now() % 1_000_000)
const operations = Number(process.env.MIDONET_OPERATIONS ?? 1000)
/** Operations under way at one time. */
const width = 8
/** Rounds from one death to the next. */
const disturbEvery = 6
/** For all that was asked for to happen, when nobody asks any more. */
const settledMs = 240_000

const networks = ['net0', 'net1', 'net2', 'net3']
const services = ['svc0', 'svc1', 'svc2', 'svc3']
const containers = ['box0', 'box1', 'box2']

let swarm: SwarmMachines

test.before(async (t) => {
  t.timeout(240_000)
  ensurePackages(pluginPackages)
  swarm = await SwarmMachines.open(builtPlugin().folder)
})

test.after.always(async () => {
  await swarm?.close()
})

type Operation = (random: Random) => readonly string[]

const network = (random: Random) => random.pick(networks) ?? ''
const service = (random: Random) => random.pick(services) ?? ''
const container = (random: Random) => random.pick(containers) ?? ''

/** Each on any of the machines. Refusals are part of life; what we forget shows in what is left. */
const kinds: readonly Operation[] = [
  createNetwork,
  createNetwork,
  (random) => ['network', 'rm', network(random)],
  ...Array(3).fill(run),
  (random) => ['rm', '-f', container(random)],
  (random) => ['rm', '-f', container(random)],
  (random) => ['restart', '-t', '0', container(random)],
  (random) => ['stop', '-t', '0', container(random)],
  (random) => ['start', container(random)],
  (random) => ['kill', container(random)],
  (random) => ['network', 'connect', network(random), container(random)],
  (random) => ['network', 'disconnect', '-f', network(random), container(random)],
  createService,
  createService,
  createService,
  (random) => ['service', 'scale', '--detach', `${service(random)}=${random.below(6)}`],
  (random) => ['service', 'scale', '--detach', `${service(random)}=${1 + random.below(4)}`],
  (random) => ['service', 'update', ...unseen, '--force', service(random)],
  (random) => ['service', 'update', ...unseen, '--network-add', network(random), service(random)],
  (random) => ['service', 'update', ...unseen, '--network-rm', network(random), service(random)],
  (random) => ['service', 'rm', service(random)],
  (random) => ['node', 'update', '--availability', random.pick(availability) ?? '', node(random)],
]

const unseen = ['--detach', '--quiet', '--no-resolve-image'] as const
const availability = ['active', 'active', 'drain'] as const
const node = (random: Random) => `m${1 + random.below(3)}`

/** One is internal, and one has the subnet that Swarm gives it. */
function createNetwork(random: Random): readonly string[] {
  const name = network(random)
  const number = networks.indexOf(name)
  const subnet = number === 3 ? [] : ['--subnet', `10.11${number}.0.0/24`]
  const way = number === 2 ? ['--internal'] : []
  return ['network', 'create', '--driver', driver, '--attachable', ...subnet, ...way, name]
}

function run(random: Random): readonly string[] {
  const options = ['--name', container(random), '--network', network(random)]
  if (random.below(4) === 0) options.push('-p', `${8000 + random.below(3)}:80`)
  const seconds = random.below(5) === 0 ? '0.3' : '100000'
  return ['run', '-d', '--stop-timeout', '1', ...options, image, 'sleep', seconds]
}

function createService(random: Random): readonly string[] {
  const options = ['--name', service(random), '--network', network(random)]
  if (random.below(4) === 0) options.push('--network', network(random))
  options.push('--replicas', String(1 + random.below(4)))
  const way = random.below(6)
  if (way < 2) options.push('--endpoint-mode', 'dnsrr')
  else if (way === 2) options.push('--publish', `mode=host,target=80,published=${port(random)}`)
  else if (way === 3) options.push('--publish', `${port(random) + 100}:80`)
  const quick = ['--restart-delay', '200ms', '--stop-grace-period', '1s']
  const words = random.below(5) === 0 ? ['sleep', '2'] : web
  return ['service', 'create', ...unseen, ...quick, ...options, image, ...words]
}

const port = (random: Random) => 8100 + random.below(3)

interface Told {
  readonly done: boolean
  readonly line: string
  /** What Docker said. */
  readonly error: string
}

async function operate(random: Random): Promise<Told> {
  const index = random.below(3)
  const args = random.pick(kinds)?.(random) ?? []
  const { code, stderr } = await swarm.machine(index).docker(...args)
  // Docker removes by force what is not there without complaint.
  const done = code === 0 && !stderr.includes('No such')
  const error = stderr.trim()
  return { done, line: `m${index + 1}: docker ${args.join(' ')}: ${code} ${error}`, error }
}

/** What happens to a machine while the others, and Swarm, go on. */
const deaths = {
  async 'the agent is killed'(engine: Engine) {
    const id = await engine.mustDocker('plugin', 'inspect', '-f', '{{.Id}}', driver)
    const root = '/run/docker/runtime-runc/plugins.moby'
    const { stdout } = await engine.run('runc', '--root', root, 'state', id)
    await engine.run('kill', '-9', String(JSON.parse(stdout).pid))
  },
  async 'Docker is killed'(engine: Engine) {
    await engine.stopDocker('KILL')
    await engine.startDocker(swarm.flags)
  },
  async 'Docker is restarted'(engine: Engine) {
    await engine.stopDocker()
    await engine.startDocker(swarm.flags)
  },
  async 'the plugin is disabled for a while'(engine: Engine) {
    await engine.docker('plugin', 'disable', '--force', driver)
    await sleep(1_000)
    await engine.mustDocker('plugin', 'enable', driver)
  },
} as const

async function disturb(random: Random): Promise<Told> {
  const index = random.below(3)
  const [what, happen] = random.pick(Object.entries(deaths)) ?? ['', async () => undefined]
  await happen(swarm.machine(index))
  await until(`m${index + 1} after "${what}"`, () => isWell(swarm.machine(index)), settledMs)
  return { done: true, line: `m${index + 1}: ${what}`, error: '' }
}

/** In the Swarm, with an agent that forwards. */
async function isWell(engine: Engine): Promise<boolean> {
  const answers = await Promise.all([
    engine.docker('node', 'ls'),
    engine.docker('plugin', 'inspect', '-f', '{{.Enabled}}', driver),
    engine.midonet('status', '--ready'),
  ])
  return answers.every(({ code }) => code === 0) && answers[1]?.stdout.trim() === 'true'
}

/** Does as many operations as are asked for; each as it went, in order. */
async function churn(random: Random): Promise<readonly Told[]> {
  const told: Told[] = []
  const count = () => told.filter(({ done }) => done).length
  for (let round = 1; count() < operations && round < operations; round++) {
    // A plan made before its operations run is the same for the same seed.
    const seeds = Array.from({ length: width }, () => randomOf(random.below(2 ** 31)))
    const death = round % disturbEvery === 0 ? [disturb(randomOf(random.below(2 ** 31)))] : []
    told.push(...(await Promise.all([...seeds.map(operate), ...death])))
    if (round % 20 === 0) console.error(`# ${count()} of ${told.length} operations done`)
  }
  return told
}

/** What there is, of all machines, in words; empty when nothing is. */
async function rest(): Promise<readonly string[]> {
  const kinds = [
    ...['network', 'endpoint', 'bridge', 'router', 'port', 'binding', 'uplink', 'route', 'chain'],
    ...['rule', 'pool', 'address', 'loadBalancer', 'balancerPool', 'poolMember', 'vip'],
    ...['addressGroup', 'portActive', 'learnedMac', 'learnedNeighbor'],
  ]
  const objects = kinds.map(async (kind) => ((await swarm.count(kind)) > 0 ? [kind] : []))
  const found = await Promise.all([...objects, ...swarm.engines.map(restOf)])
  return found.flat()
}

async function restOf(engine: Engine, index: number): Promise<readonly string[]> {
  const [links, flows, table] = await Promise.all([
    engine.run('ip', '-o', 'link'),
    engine.midonet('dpctl', 'dump-flows'),
    engine.run('nft', 'list', 'table', 'inet', 'midonet'),
  ])
  const names = [...links.stdout.matchAll(/^\d+: (m[npu][0-9a-f]{11})/gm)].map(([, name]) => name)
  return [
    ...names.map((name) => `link ${name}`),
    ...lines(flows).map((flow) => `flow ${flow}`),
    ...(table.code === 0 ? ['table inet midonet'] : []),
  ].map((what) => `m${index + 1}: ${what}`)
}

function lines({ stdout }: Result): readonly string[] {
  return stdout.split('\n').filter((line) => line !== '')
}

/** Services, containers, then networks, as a user would; Docker may need to be asked again. */
async function removeAll(): Promise<void> {
  const { leader } = swarm
  await until('all machines', async () =>
    (await Promise.all(swarm.engines.map(isWell))).every(Boolean),
  )
  for (const name of ['m1', 'm2', 'm3'])
    await leader.mustDocker('node', 'update', '--availability', 'active', name)
  const created = lines(await leader.docker('service', 'ls', '-q'))
  if (created.length > 0) await leader.mustDocker('service', 'rm', ...created)
  const cleared = async (engine: Engine) => {
    const left = lines(await engine.docker('ps', '-aq'))
    if (left.length > 0) await engine.docker('rm', '-f', ...left)
    return left.length === 0
  }
  await until(
    'no container',
    async () => (await Promise.all(swarm.engines.map(cleared))).every(Boolean),
    settledMs,
  )
  const words = ['network', 'ls', '-q', '--no-trunc', '-f', `driver=${driver}`]
  await until(
    'no network',
    async () => {
      // Docker lets two callers at once make two networks of one name: removed by id.
      const left = lines(await leader.docker(...words))
      if (left.length > 0) await leader.docker('network', 'rm', ...left)
      return left.length === 0
    },
    settledMs,
  )
}

/** A service of this many tasks answers by its own address, whoever asks. */
async function serves(tasks: number): Promise<void> {
  const { leader } = swarm
  await leader.mustDocker(
    ...[
      'network',
      'create',
      '--driver',
      driver,
      '--attachable',
      '--subnet',
      '10.119.0.0/24',
      'last',
    ],
  )
  const options = ['--name', 'last', '--network', 'last', '--replicas', String(tasks)]
  await leader.mustDocker('service', 'create', ...unseen, ...options, image, ...web)
  await swarm.converged('last', leader, settledMs)
  const address = await vipOf(leader, 'last')
  for (const [index, engine] of swarm.engines.entries()) {
    await engine.sleeper('client', 'last', '--stop-timeout', '1')
    await until(`an answer on m${index + 1}`, async () => (await askWeb(engine, address)) !== '')
    await until(
      `all tasks from m${index + 1}`,
      async () => (await serversOf(engine, address, tasks)).size === tasks,
    )
  }
}

onlyLong(`nothing is left of ${operations} random operations (seed ${seed})`, async (t) => {
  t.timeout(90 * 60_000)
  t.deepEqual(await rest(), [])
  const told = await churn(randomOf(seed))
  t.log(`${told.filter(({ done }) => done).length} of ${told.length} operations done`)
  try {
    await removeAll()
    await until('nothing', async () => (await rest()).length === 0, settledMs).catch(() => {})
    t.deepEqual(await rest(), [])
    await serves(6)
    await removeAll()
    await until('nothing', async () => (await rest()).length === 0, settledMs).catch(() => {})
    t.deepEqual(await rest(), [])
  } catch (error) {
    t.log(told.map(({ line }) => line).join('\n'))
    t.log(...swarm.engines.map((engine) => engine.log('dockerd')))
    throw error
  }
  const faults = told.filter(({ error }) => /midonet.*(internal|undefined|EINVAL)/is.test(error))
  t.deepEqual(faults, [])
})
