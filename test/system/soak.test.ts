/** Random operations, eighty or a thousand, as a seed decides: what was there before is there after, no more. */
import { setTimeout as sleep } from 'node:timers/promises'
import test from 'ava'
import { Engine, image, type Leftovers } from './engine.ts'
import { type Random, randomOf } from './random.ts'

/** Set MIDONET_SEED to run a failed run again. */
const seed = Number(process.env.MIDONET_SEED ?? Date.now() % 1_000_000)
const operations = process.env.MIDONET_LONG === '1' ? 1000 : 80
/** Operations under way at one time. */
const width = 4
const names = Array.from({ length: 8 }, (_, at) => `soak${at}`)
const networks = ['red', 'blue', 'hidden', 'theirs']

let engine: Engine

test.before(async () => {
  engine = await Engine.start()
  const create = ['network', 'create', '--driver', 'midonet']
  const shared = ['-o', 'org.midonet.router=shared']
  await engine.mustDocker(...create, '--subnet', '10.1.0.0/24', ...shared, 'red')
  await engine.mustDocker(...create, '--ipam-driver', 'midonet', ...shared, 'blue')
  await engine.mustDocker(...create, '--subnet', '10.3.0.0/24', '--internal', 'hidden')
  const docker = ['-o', 'org.midonet.gateway=docker']
  await engine.mustDocker(...create, '--subnet', '10.4.0.0/24', ...docker, 'theirs')
})

test.after.always('the machine is taken down', async () => {
  await engine?.close()
})

/** What an operation does; refusals are part of life, faults of ours show in what is left. */
const kinds: readonly ((random: Random, name: string) => string[])[] = [
  ...Array(6).fill(run),
  (_, name) => ['rm', '-f', name],
  (_, name) => ['rm', '-f', name],
  (_, name) => ['stop', '-t', '0', name],
  (_, name) => ['start', name],
  (_, name) => ['restart', '-t', '0', name],
  (_, name) => ['kill', name],
  (random, name) => ['network', 'connect', random.pick(networks) ?? '', name],
  (random, name) => ['network', 'disconnect', '-f', random.pick(networks) ?? '', name],
  (random) => ['network', 'create', '--driver', 'midonet', `extra${random.below(3)}`],
  (random) => ['network', 'rm', `extra${random.below(3)}`],
]

function run(random: Random, name: string): string[] {
  const options = ['--name', name, '--network', random.pick(networks) ?? '']
  if (random.below(3) === 0) options.push('-p', `${8000 + random.below(4)}:80`)
  if (random.below(4) === 0) options.push('-p', '80')
  return ['run', '-d', ...options, image, 'sleep', random.below(5) === 0 ? '0.3' : '100000']
}

interface Told {
  readonly done: boolean
  readonly line: string
}

async function operate(random: Random): Promise<Told> {
  const name = random.pick(names) ?? ''
  const args = random.pick(kinds)?.(random, name) ?? []
  const { code, stderr } = await engine.docker(...args)
  // Docker removes by force what is not there without complaint.
  const done = code === 0 && !stderr.includes('No such')
  return { done, line: `docker ${args.join(' ')}: ${code} ${stderr.trim()}` }
}

async function restartAgent(): Promise<void> {
  await engine.stopAgent('KILL')
  await engine.startAgent()
}

async function restartDocker(): Promise<void> {
  await engine.stopDocker('KILL')
  await engine.startDocker()
}

async function settle(before: Leftovers): Promise<Leftovers> {
  let counts = await engine.leftovers()
  for (let tries = 0; tries < 240; tries++) {
    if (JSON.stringify(counts) === JSON.stringify(before)) return counts
    await sleep(500)
    counts = await engine.leftovers()
  }
  return counts
}

test(`nothing is left of ${operations} random operations (seed ${seed})`, async (t) => {
  const before = await engine.leftovers()
  const random = randomOf(seed)
  const told: Told[] = []
  let done = 0
  for (let round = 1; done < operations && round < operations; round++) {
    // A plan made before its operations run is the same for the same seed.
    const seeds = Array.from({ length: width }, () => random.below(2 ** 31))
    const results = await Promise.all(seeds.map((each) => operate(randomOf(each))))
    told.push(...results)
    done += results.filter((result) => result.done).length
    if (round % 12 === 0) await restartAgent()
    if (round % 20 === 0) await restartDocker()
  }
  t.true(done >= operations)
  await Promise.all(names.map((name) => engine.docker('rm', '-f', name)))
  // Docker lets two callers at once make two networks of one name: removed by id.
  const extras = await engine.mustDocker('network', 'ls', '-q', '-f', 'name=extra')
  if (extras !== '') await engine.mustDocker('network', 'rm', ...extras.split('\n'))
  const after = await settle(before)
  const lines = told.map(({ line }) => line)
  if (JSON.stringify(after) !== JSON.stringify(before)) t.log(lines.join('\n'), engine.log('node'))
  t.deepEqual(after, before)
  const faults = lines.filter((line) => /remote.*(time|internal|undefined|EINVAL)/is.test(line))
  t.deepEqual(faults, [])
})
