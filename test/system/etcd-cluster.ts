/** A real etcd of some members on the loopback, whose members can be killed, paused and restarted. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { root, Secrets, user } from './etcd-secure.ts'
import { canonical } from './fault-call.ts'
import { slowness } from './stage.ts'

/** The tests' etcd did not do what it should. */
export class ClusterError extends Error {
  override readonly name = 'ClusterError'
  readonly code = 'CLUSTER'
}

interface Member {
  readonly name: string
  readonly client: number
  readonly peer: number
  process: ChildProcess | undefined
}

export class EtcdCluster {
  readonly #dir = mkdtempSync(join(tmpdir(), 'midonet-etcd-'))
  readonly #members: readonly Member[]
  readonly #address: string

  readonly #secrets: Secrets | undefined
  #needsPassword = false

  private constructor(members: readonly Member[], address: string, isSecure: boolean) {
    this.#members = members
    this.#address = address
    this.#secrets = isSecure ? new Secrets(this.#dir, address) : undefined
  }

  /** Members that listen at an address of this machine; secure ones need TLS, user and password. */
  static async start(count = 3, address = '127.0.0.1', isSecure = false): Promise<EtcdCluster> {
    const ports = await freePorts(2 * count)
    const members = Array.from({ length: count }, (_, at) => ({
      name: `m${at}`,
      client: ports[2 * at] ?? 0,
      peer: ports[2 * at + 1] ?? 0,
      process: undefined,
    }))
    const cluster = new EtcdCluster(members, address, isSecure)
    for (let at = 0; at < count; at++) cluster.run(at)
    await cluster.healthy()
    if (isSecure) cluster.#demandPassword()
    return cluster
  }

  /** What an agent must be told of it. */
  get settings(): Readonly<Record<string, string>> {
    return { MIDONET_STORE: this.url, ...this.#secrets?.settings }
  }

  get size(): number {
    return this.#members.length
  }

  get ports(): readonly number[] {
    return this.#members.map(({ client }) => client)
  }

  get url(): string {
    return `etcd://${this.endpoints}`
  }

  get endpoints(): string {
    return this.ports.map((port) => `${this.#address}:${port}`).join(',')
  }

  /** Starts a member on the data it left. */
  run(at: number): void {
    const member = this.#member(at)
    const state = this.#members.map(({ name, peer }) => `${name}=http://${this.#address}:${peer}`)
    const client = `${this.#secrets === undefined ? 'http' : 'https'}://${this.#address}:${member.client}`
    member.process = spawn(
      'etcd',
      [
        ...['--name', member.name, '--data-dir', join(this.#dir, member.name)],
        ...['--listen-client-urls', client, '--advertise-client-urls', client],
        ...['--listen-peer-urls', `http://${this.#address}:${member.peer}`],
        ...['--initial-advertise-peer-urls', `http://${this.#address}:${member.peer}`],
        ...['--initial-cluster', state.join(','), '--initial-cluster-state', 'new'],
        ...['--heartbeat-interval', '50', '--election-timeout', '500'],
        ...(this.#secrets?.options ?? []),
      ],
      { stdio: 'ignore', env: { ...process.env, ETCD_UNSUPPORTED_ARCH: process.arch } },
    )
  }

  async kill(at: number): Promise<void> {
    const child = this.#member(at).process
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return
    const gone = new Promise((resolve) => child.once('exit', resolve))
    child.kill('SIGKILL')
    await gone
  }

  signal(at: number, signal: 'SIGSTOP' | 'SIGCONT'): void {
    this.#member(at).process?.kill(signal)
  }

  /** Which member leads. */
  leader(): number {
    const text = this.ctl('endpoint', 'status', '-w', 'json')
    const all: unknown = JSON.parse(text)
    for (const one of Array.isArray(all) ? all : []) {
      if (one.Status.leader !== one.Status.header.member_id) continue
      return this.ports.findIndex((port) => String(one.Endpoint).endsWith(`:${port}`))
    }
    throw new ClusterError('no member leads')
  }

  /** Runs etcdctl and returns what it says. @throws ClusterError */
  ctl(...words: readonly string[]): string {
    const login = this.#needsPassword ? ['--user', `${root.name}:${root.password}`] : []
    const access = [...(this.#secrets?.words ?? []), ...login]
    const { status, stdout, stderr } = spawnSync(
      'etcdctl',
      ['--endpoints', this.endpoints, '--command-timeout', '3s', ...access, ...words],
      { encoding: 'utf8', env: { ...process.env, ETCDCTL_API: '3' } },
    )
    if (status === 0) return stdout
    throw new ClusterError(`etcdctl ${words.join(' ')}: ${stderr}`)
  }

  /** All objects that the topology has in etcd, by `kind/id`. @throws ClusterError */
  objects(): Map<string, string> {
    const { kvs = [] } = JSON.parse(this.ctl('get', '--prefix', '/midonet/v1/', '-w', 'json'))
    const text = (base64: string): string => Buffer.from(base64, 'base64').toString()
    return new Map(
      kvs.map(({ key, value }: { readonly key: string; readonly value: string }) => [
        text(key).slice('/midonet/v1/'.length),
        canonical(JSON.parse(text(value))),
      ]),
    )
  }

  /** Leases and writers' keys beyond one of each host. @throws ClusterError */
  leftovers(hosts: number): readonly string[] {
    const leases = this.ctl('lease', 'list').split('\n').slice(1).filter(Boolean)
    const writers = this.ctl('get', '--prefix', '/midonet/writer/', '--keys-only')
    const keys = writers.split('\n').filter(Boolean)
    return [
      ...(leases.length > hosts ? [`etcd has leases ${leases.join(' ')}`] : []),
      ...(keys.length > hosts ? [`etcd has ${keys.join(' ')}`] : []),
    ]
  }

  /** Waits until all members answer. @throws ClusterError when they do not in 20 s */
  async healthy(): Promise<void> {
    const end = performance.now() + 20_000 * slowness
    for (let last = ''; performance.now() < end; await delay(100)) {
      try {
        this.ctl('endpoint', 'health')
        return
      } catch (error) {
        last = String(error)
        if (performance.now() + 200 > end) throw new ClusterError(last)
      }
    }
  }

  /** Empties the store. */
  wipe(): void {
    this.ctl('del', '--prefix', '/midonet/')
  }

  async stop(): Promise<void> {
    for (let at = 0; at < this.#members.length; at++) await this.kill(at)
    rmSync(this.#dir, { recursive: true, force: true })
  }

  #demandPassword(): void {
    this.ctl('user', 'add', `${root.name}:${root.password}`)
    this.ctl('user', 'grant-role', root.name, 'root')
    this.ctl('role', 'add', user.name)
    this.ctl('role', 'grant-permission', user.name, '--prefix=true', 'readwrite', '/midonet/')
    this.ctl('user', 'add', `${user.name}:${user.password}`)
    this.ctl('user', 'grant-role', user.name, user.name)
    this.ctl('auth', 'enable')
    this.#needsPassword = true
  }

  #member(at: number): Member {
    const member = this.#members[at]
    if (member === undefined) throw new ClusterError(`there is no member ${at}`)
    return member
  }
}

async function freePorts(count: number): Promise<readonly number[]> {
  const servers = await Promise.all(
    Array.from(
      { length: count },
      () =>
        new Promise<ReturnType<typeof createServer>>((resolve) => {
          const server = createServer().listen(0, '127.0.0.1', () => resolve(server))
        }),
    ),
  )
  const ports = servers.map((server) => {
    const address = server.address()
    return typeof address === 'object' && address !== null ? address.port : 0
  })
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))))
  return ports
}
