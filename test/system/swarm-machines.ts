/**
 * Three machines as hosts of one Swarm: a Docker Engine each, the managed plugin from a registry,
 * one store for all.
 *
 *   etcd, registry in a namespace of their own ═ Linux bridge 10.200.0.254 ═ under0 in m1, m2, m3
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { Engine, EngineError, limits } from './engine.ts'

/** Of this process: several worlds stand side by side. */
const namespace = `msw-${process.pid}`
const center = '10.200.0.254'
const registry = `${center}:5000`
const reference = `${registry}/midonet/midonet:1`

/** The plugin's name on each host, by which Swarm knows the driver. */
export const driver = 'midonet:swarm'

export class SwarmMachines {
  readonly engines: readonly Engine[]
  /** What each Docker is started with. */
  readonly flags: readonly string[] = ['--insecure-registry', registry]
  readonly #children: readonly ChildProcess[]
  readonly #dir: string

  private constructor(engines: readonly Engine[], children: readonly ChildProcess[], dir: string) {
    this.engines = engines
    this.#children = children
    this.#dir = dir
  }

  /** Starts machines, etcd and registry, installs `plugin` everywhere, and makes the Swarm. */
  static async open(plugin: string, count = 3): Promise<SwarmMachines> {
    removeNamespace()
    const dir = mkdtempSync(join(tmpdir(), 'midonet-swarm-'))
    makeUnderlay()
    const children = startServers(dir)
    const flags = ['--insecure-registry', registry]
    const starting = Array.from({ length: count }, () => Engine.startBare(flags))
    const started = await Promise.allSettled(starting)
    const engines = started.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : []))
    const machines = new SwarmMachines(engines, children, dir)
    try {
      const failed = started.find((one) => one.status === 'rejected')
      if (failed !== undefined) throw failed.reason
      await Promise.all(engines.map((engine, index) => connect(engine, index)))
      await machines.#install(plugin)
      await machines.#join()
      return machines
    } catch (error) {
      await machines.close()
      throw error
    }
  }

  /** The first machine: it leads at the beginning. */
  get leader(): Engine {
    return this.machine(0)
  }

  machine(index: number): Engine {
    const engine = this.engines[index]
    if (engine === undefined) throw new EngineError(`there is no machine ${index}`)
    return engine
  }

  /** Waits until a service has as many running tasks as it is to have. */
  async converged(service: string, manager = this.leader, patienceMs?: number): Promise<void> {
    const words = ['service', 'ls', '--filter', `name=${service}`, '--format', '{{.Replicas}}']
    await until(
      `service ${service}`,
      async () => {
        const { stdout } = await manager.docker(...words)
        const [running, wanted] = stdout.trim().split(' ')[0]?.split('/') ?? []
        return running !== undefined && running === wanted
      },
      patienceMs,
    )
  }

  /** How many objects of a kind the store holds, asked at a machine. */
  async count(kind: string, index = 0): Promise<number> {
    return (await this.machine(index).objects(kind)).length
  }

  async close(): Promise<void> {
    await Promise.all(this.engines.map((engine) => engine.close()))
    for (const child of this.#children) child.kill('SIGKILL')
    removeNamespace()
    rmSync(this.#dir, { recursive: true, force: true })
  }

  async #install(plugin: string): Promise<void> {
    await this.leader.mustDocker('plugin', 'create', reference, plugin)
    await this.leader.mustDocker('plugin', 'push', reference)
    await this.leader.mustDocker('plugin', 'rm', reference)
    const settings = [`MIDONET_STORE=etcd://${center}:2379`, 'MIDONET_UNDERLAY=10.200.0.0/24']
    const install = ['plugin', 'install', '--grant-all-permissions', '--alias', driver]
    await Promise.all(
      this.engines.map((engine) => engine.mustDocker(...install, reference, ...settings)),
    )
  }

  async #join(): Promise<void> {
    // Docker's own VXLAN keeps to another port than the one of our tunnels.
    const ports = ['--data-path-port', '7789']
    await this.leader.mustDocker('swarm', 'init', ...ports, ...addressesOf(0))
    const token = await this.leader.mustDocker('swarm', 'join-token', '-q', 'manager')
    for (const [index, engine] of this.engines.entries())
      if (index > 0)
        await engine.mustDocker(
          ...['swarm', 'join', '--token', token, ...addressesOf(index), `${underlayOf(0)}:2377`],
        )
  }
}

/** Waits for a condition. @throws EngineError */
export async function until(
  what: string,
  condition: () => Promise<boolean>,
  patienceMs: number = limits.startMs,
): Promise<void> {
  const end = Date.now() + patienceMs
  while (!(await condition())) {
    if (Date.now() > end) throw new EngineError(`${what}: not in time`)
    await sleep(200)
  }
}

function underlayOf(index: number): string {
  return `10.200.0.${index + 1}`
}

function addressesOf(index: number): readonly string[] {
  const address = underlayOf(index)
  return ['--advertise-addr', address, '--listen-addr', `${address}:2377`]
}

function sh(script: string): void {
  const { status, stderr } = spawnSync('sh', ['-ec', script], { encoding: 'utf8' })
  if (status !== 0) throw new EngineError(`${script}\n${stderr}`)
}

/**
 * It refuses each question for a name, however many are asked: the kernel would answer so many a
 * second, and Docker, which looks for a registry with each task, waits five seconds for the others.
 */
function makeUnderlay(): void {
  sh(`ip netns add ${namespace}
ip -n ${namespace} link set lo up
ip -n ${namespace} link add under0 type bridge
ip -n ${namespace} address add ${center}/24 dev under0
ip -n ${namespace} link set under0 up
ip netns exec ${namespace} sysctl -qw net.ipv4.icmp_ratemask=0`)
}

/** This one, and those of processes that were killed before they could. */
function removeNamespace(): void {
  const { stdout } = spawnSync('ip', ['netns', 'list'], { encoding: 'utf8' })
  for (const [name, pid] of (stdout ?? '').matchAll(/^msw-(\d+)/gm))
    if (name === namespace || !existsSync(`/proc/${pid}`))
      spawnSync('ip', ['netns', 'delete', name])
}

/** etcd and Docker's registry. */
function startServers(dir: string): readonly ChildProcess[] {
  const config = `version: 0.1
storage: {filesystem: {rootdirectory: ${dir}/registry}}
http: {addr: '${registry}'}
log: {level: warn}
`
  writeFileSync(join(dir, 'registry.yml'), config)
  const client = `http://${center}:2379`
  const etcd = [
    ...['etcd', '--data-dir', join(dir, 'etcd'), '--listen-peer-urls', 'http://127.0.0.1:2380'],
    ...['--listen-client-urls', client, '--advertise-client-urls', client],
  ]
  const servers = [etcd, ['docker-registry', 'serve', join(dir, 'registry.yml')]]
  const env = { ...process.env, ETCD_UNSUPPORTED_ARCH: process.arch }
  return servers.map((words) =>
    spawn('ip', ['netns', 'exec', namespace, ...words], { stdio: 'ignore', env }),
  )
}

/** Gives a machine its name, its place on the underlay, and a name server that refuses at once. */
async function connect(engine: Engine, index: number): Promise<void> {
  const link = `msw-m${index + 1}`
  sh(`ip link add ${link} netns ${engine.pid} type veth peer name ${link} netns ${namespace}
ip -n ${namespace} link set ${link} master under0 up`)
  const script = `hostname m${index + 1}
ip link set ${link} name under0
ip address add ${underlayOf(index)}/24 dev under0
ip link set under0 up
echo nameserver ${center} >/run/resolv.conf
mount --bind /run/resolv.conf /etc/resolv.conf`
  const { code, stderr } = await engine.run('sh', '-ec', script)
  if (code !== 0) throw new EngineError(stderr)
}
