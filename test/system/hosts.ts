/**
 * Several hosts on this machine: a network namespace each, with an agent and a datapath of its own,
 * joined by an underlay and by one store.
 *
 *   etcd ── hs-store ═ Linux bridge in namespace hs-net ═ under0 in hs-1, hs-2, hs-3
 *   station a: namespace hs-a, eth0 ═ va in the namespace of its host
 */
import { execFile, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import { EtcdCluster } from './etcd-cluster.ts'
import { type Machine, type Named, Stage, slowness } from './stage.ts'
import { WallClock } from './wall-clock.ts'

export interface HostsOptions {
  /** Of all hosts; `MIDONET_TEST_DATAPATH` when not said, else eBPF. */
  readonly datapath?: string
  readonly count?: number
  /** Of the underlay. */
  readonly mtu?: number
  readonly family?: 4 | 6
  /** etcd needs TLS, user and password. */
  readonly isSecure?: boolean
  /** Each agent has a wall clock of its own. */
  readonly hasClocks?: boolean
}

/** What the hosts of a test were to do did not happen. */
export class HostsError extends Error {
  override readonly name = 'HostsError'
  readonly code = 'HOSTS'
}

/** Where etcd listens. */
export const storeAddress = '192.168.77.254'
const outputMax = 1 << 24

/** The namespace of host `index`, counted from 0. */
export const hostName = (index: number): string => `hs-${index + 1}`

/** The host's address of the underlay. */
export function underlayOf(index: number, family: 4 | 6 = 4): string {
  return family === 4 ? `192.168.77.${index + 1}` : `fd77::${index + 1}`
}

function sh(script: string): void {
  const { status, stdout, stderr } = spawnSync('sh', ['-ec', script], { encoding: 'utf8' })
  if (status !== 0) throw new HostsError(`${script}\n${stdout}${stderr}`)
}

/** A network namespace of this machine. */
function namespace(name: string): Machine {
  return {
    run: (command, ...args) =>
      new Promise((resolve) => {
        const words = ['netns', 'exec', name, command, ...args]
        execFile('ip', words, { maxBuffer: outputMax }, (error, stdout, stderr) => {
          const code = error === null ? 0 : typeof error.code === 'number' ? error.code : -1
          resolve({ code, stdout, stderr })
        })
      }),
    spawn: (command, ...args) =>
      spawn('ip', ['netns', 'exec', name, command, ...args], { stdio: ['ignore', 'pipe', 'pipe'] }),
    async close() {},
  }
}

export class Hosts {
  readonly etcd: EtcdCluster
  readonly stages: readonly Stage[]
  /** Of each host, or none. */
  readonly clocks: readonly WallClock[]
  /** Ids of the hosts in the topology. */
  ids: readonly string[] = []
  readonly #stations = new Map<string, number>()

  private constructor(etcd: EtcdCluster, stages: readonly Stage[], clocks: readonly WallClock[]) {
    this.etcd = etcd
    this.clocks = clocks
    this.stages = stages
  }

  /** Makes the namespaces, and starts etcd and the agents. */
  static async open(options: HostsOptions = {}): Promise<Hosts> {
    const {
      datapath = process.env.MIDONET_TEST_DATAPATH ?? 'ebpf',
      count = 3,
      family = 4,
      hasClocks = false,
    } = options
    const etcd = await startStore(options.mtu, options.isSecure)
    makeHosts(options)
    const clocks = hasClocks ? Array.from({ length: count }, () => new WallClock()) : []
    const stages = Array.from({ length: count }, (_, index) => {
      const settings = {
        ...etcd.settings,
        ...clocks[index]?.settings,
        MIDONET_UNDERLAY: family === 4 ? '192.168.77.0/24' : 'fd77::/64',
        MIDONET_DOCKER_SOCKET: '/nonexistent/docker.sock',
      }
      return new Stage(namespace(hostName(index)), datapath, settings)
    })
    const hosts = new Hosts(etcd, stages, clocks)
    await Promise.all(stages.map((stage) => stage.startAgent()))
    hosts.ids = await Promise.all(stages.map(idOf))
    return hosts
  }

  stage(index: number): Stage {
    const stage = this.stages[index]
    if (stage === undefined) throw new HostsError(`there is no host ${index}`)
    return stage
  }

  /** The stage of the host that a station is on. */
  of(station: string): Stage {
    return this.stage(this.#stations.get(station) ?? -1)
  }

  /** Makes a namespace with an eth0 whose other end is `v-<name>` on a host; `script` is for it. */
  addStation(name: string, host: number, script: readonly string[], mtu = 1450): void {
    const station = `hs-${name}`
    sh(`ip netns add ${station}
ip link add name v-${name} netns ${hostName(host)} mtu ${mtu} type veth peer name eth0 mtu ${mtu} netns ${station}
ip -n ${hostName(host)} link set v-${name} up
ip -n ${station} link set lo up
ip -n ${station} link set eth0 up
${script.map((words) => `ip -n ${station} ${words}`).join('\n')}`)
    this.#stations.set(name, host)
  }

  /** Moves a station's eth0 to another host, where it is `v-<name>` again. */
  moveStation(name: string, host: number): void {
    sh(`ip -n ${hostName(this.#stations.get(name) ?? 0)} link set v-${name} netns ${hostName(host)}
ip -n ${hostName(host)} link set v-${name} up`)
    this.#stations.set(name, host)
  }

  /** Starts what ends with the test in a station, and waits until it says something. */
  async serve(station: string, command: string, ...args: readonly string[]): Promise<void> {
    const child = this.of(station).spawn('ip', 'netns', 'exec', `hs-${station}`, command, ...args)
    if (child.stdout !== null) await once(child.stdout, 'data')
  }

  /** What a station says to a script. */
  async in(station: string, script: string): Promise<string> {
    const { code, stdout, stderr } = await namespace(`hs-${station}`).run('sh', '-c', script)
    return code === 0 ? stdout : `${stdout}${stderr} (status ${code})`
  }

  /** Puts objects in one transaction, by the agent of the first host. */
  async put(...objects: readonly (readonly [kind: string, value: Named])[]): Promise<void> {
    const operations = objects.map(([kind, value]) => ({ op: 'put', kind, id: value.id, value }))
    await this.transact(operations)
  }

  async transact(operations: readonly object[]): Promise<void> {
    let answer: unknown
    await eventually(async () => {
      answer = await this.stage(0).ask('POST', '/v1/transaction', { operations })
      // A machine with much else to do takes no connection at times, an emulated one above all.
      return Reflect.get(Object(answer), 'code') !== 'UNREACHABLE'
    })
    if (typeof answer === 'object' && answer !== null && 'code' in answer)
      throw new HostsError(JSON.stringify(answer))
  }

  /** Binds port `name` to interface `v-<name>` of a host. */
  bind(name: string, host: number): Promise<void> {
    const binding = { id: name, host: this.ids[host] ?? '', interface: `v-${name}` }
    return this.put(['binding', binding])
  }

  async close(): Promise<void> {
    await Promise.all(this.stages.map((stage) => stage.close()))
    for (const clock of this.clocks) clock.close()
    await stopStore(this.etcd)
  }
}

/** The id that the agent on a stage has. */
async function idOf(stage: Stage): Promise<string> {
  const status = await stage.ask('GET', '/status')
  const host = Reflect.get(Object(status), 'host')
  return String(Reflect.get(Object(host), 'id'))
}

/** Tries until it holds. */
export async function eventually(
  holds: () => boolean | Promise<boolean>,
  patienceMs = 10_000,
): Promise<boolean> {
  for (const end = Date.now() + patienceMs * slowness; Date.now() < end; await sleep(50))
    if (await holds()) return true
  return holds()
}

/** Makes the network that joins hosts, and etcd at it. */
export function startStore(mtu = 1500, isSecure = false): Promise<EtcdCluster> {
  removeNamespaces()
  makeCore(mtu)
  // An emulated machine has enough to do with one.
  const members = process.env.MIDONET_VM === undefined ? 3 : 1
  return EtcdCluster.start(members, storeAddress, isSecure)
}

/** Ends what `startStore` made. */
export async function stopStore(etcd: EtcdCluster): Promise<void> {
  await etcd.stop()
  removeNamespaces()
}

/** Joins a network namespace (a name, or the number of a process in it) to the underlay. */
export function joinUnderlay(namespace: string, index: number, mtu = 1500): void {
  const far = `hs-${index + 1}`
  const inside = `ip link set under0 up; ip addr add ${underlayOf(index)}/24 dev under0`
  sh(`ip link add under0 netns ${namespace} mtu ${mtu} type veth peer name ${far} netns hs-net mtu ${mtu}
ip -n hs-net link set ${far} master br0 up
${/^\d+$/.test(namespace) ? `nsenter -t ${namespace} -n` : `ip netns exec ${namespace}`} sh -ec '${inside}'`)
}

function makeCore(mtu: number): void {
  sh(`ip netns add hs-net
ip -n hs-net link add br0 mtu ${mtu} type bridge
ip -n hs-net link set br0 up
ip link add hs-store mtu ${mtu} type veth peer name store netns hs-net mtu ${mtu}
ip addr add ${storeAddress}/24 dev hs-store
ip link set hs-store up
ip -n hs-net link set store master br0 up`)
}

function makeHosts({ count = 3, mtu = 1500, family = 4 }: HostsOptions): void {
  for (let index = 0; index < count; index++) {
    const host = hostName(index)
    const address = underlayOf(index, family)
    sh(`ip netns add ${host}
ip -n ${host} link set lo up`)
    joinUnderlay(host, index, mtu)
    if (family === 6) sh(`ip -n ${host} addr add ${address}/64 dev under0 nodad`)
  }
}

function removeNamespaces(): void {
  const { stdout } = spawnSync('ip', ['netns', 'list'], { encoding: 'utf8' })
  for (const line of stdout.split('\n')) {
    const [name = ''] = line.split(' ')
    if (name.startsWith('hs-')) spawnSync('ip', ['netns', 'del', name])
  }
  spawnSync('ip', ['link', 'del', 'hs-store'])
}
