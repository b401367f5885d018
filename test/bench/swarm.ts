/**
 * Networks of a Swarm over three engines, with the managed plugin, against Docker's own overlay driver
 * on the same engines and the same underlay, in turn.
 *
 *    ours ── m1: a ═ our VXLAN ═ m2: b        overlay ── m1: p ═ Docker's VXLAN ═ m2: q
 *
 * Each figure is the median of eleven (of three: convergence), after a warm-up.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { Engine, image } from '../system/engine.ts'
import { builtPlugin } from '../system/plugin-machine.ts'
import { driver, SwarmMachines, until } from '../system/swarm-machines.ts'
import {
  compare,
  compareAttach,
  makeContainer,
  median,
  type Pair,
  roundTrips,
  row,
  tcpStream,
} from './docker.ts'
import type { Row } from './row.ts'

const rounds = 3
const tasks = 50
/** For fifty containers to start, or to end. */
const patienceMs = 300_000
const networks = ['ours', 'overlay'] as const

export async function benchSwarm(): Promise<Row[]> {
  const swarm = await SwarmMachines.open(builtPlugin().folder)
  try {
    const { leader } = swarm
    const create = ['network', 'create', '--attachable', '--driver']
    await leader.mustDocker(...create, driver, '--subnet', '10.1.0.0/24', 'ours')
    await leader.mustDocker(...create, 'overlay', '--subnet', '10.2.0.0/24', 'overlay')
    const converge = await compareConverge(swarm)
    const pairs = [await makePair(swarm, 'ours'), await makePair(swarm, 'overlay')] as const
    const tcp = await compare(tcpStream(leader), pairs)
    const rr = await compare(roundTrips(leader), pairs)
    return [
      converge,
      row('swarm-tcp-stream', 'Gbit/s', tcp, ...pairs, 1),
      row('swarm-rr', '1/s', rr, ...pairs, 1),
    ]
  } finally {
    await swarm.close()
  }
}

/** Attaching by the managed plugin on a host of its own, against a bridge network of Docker's. */
export async function benchPlugin(): Promise<Row[]> {
  const engine = await Engine.startBare()
  try {
    await engine.mustDocker('plugin', 'create', driver, builtPlugin().folder)
    await engine.mustDocker('plugin', 'set', driver, 'MIDONET_SCOPE=local')
    await engine.mustDocker('plugin', 'enable', driver)
    const create = ['network', 'create', '--driver']
    await engine.mustDocker(...create, driver, '--subnet', '10.3.0.0/24', 'plugin')
    await engine.mustDocker(...create, 'bridge', '--subnet', '10.4.0.0/24', 'plain')
    return [await compareAttach('plugin-attach', engine, 'plugin', 'plain')]
  } finally {
    await engine.close()
  }
}

async function makePair(swarm: SwarmMachines, network: string): Promise<Pair> {
  const client = await makeContainer(swarm.machine(0), `${network}-client`, network)
  const server = await makeContainer(swarm.machine(1), `${network}-server`, network)
  return { name: network, client: client.pid, server: server.pid, address: server.address }
}

/** From the command until Swarm says that all tasks run. */
async function compareConverge(swarm: SwarmMachines): Promise<Row> {
  const times = { ours: [] as number[], overlay: [] as number[] }
  for (let round = -1; round < rounds; round++)
    for (const network of round % 2 === 0 ? networks : networks.toReversed()) {
      const seconds = await converge(swarm, network)
      // The first round warms up: what both have made with their first task of a host.
      if (round >= 0) times[network].push(seconds)
    }
  const [ours, peer] = [median(times.ours), median(times.overlay)]
  return { name: 'swarm-converge', unit: 's', ours, peer, goal: 1, better: 'lower' }
}

async function converge(swarm: SwarmMachines, network: string): Promise<number> {
  const { leader } = swarm
  const options = ['--detach', '--quiet', '--no-resolve-image', '--stop-signal', 'SIGKILL']
  const size = ['--network', network, '--replicas', String(tasks), '--name', 'many']
  const started = performance.now()
  await leader.mustDocker('service', 'create', ...options, ...size, image, 'sleep', '1000000')
  await swarm.converged('many', leader, patienceMs)
  const seconds = (performance.now() - started) / 1000
  console.error(`# ${network}: ${seconds} s`)
  await leader.mustDocker('service', 'rm', 'many')
  await until(
    'no container',
    async () => {
      const left = swarm.engines.map((engine) => engine.mustDocker('ps', '-aq', '-f', 'name=many'))
      return (await Promise.all(left)).every((names) => names === '')
    },
    patienceMs,
  )
  await sleep(2_000)
  return seconds
}
