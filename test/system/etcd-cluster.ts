/** A real etcd of some members on the loopback, whose members can be killed, paused and restarted. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'

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

  private constructor(members: readonly Member[]) {
    this.#members = members
  }

  static async start(count = 3): Promise<EtcdCluster> {
    const ports = await freePorts(2 * count)
    const members = Array.from({ length: count }, (_, at) => ({
      name: `m${at}`,
      client: ports[2 * at] ?? 0,
      peer: ports[2 * at + 1] ?? 0,
      process: undefined,
    }))
    const cluster = new EtcdCluster(members)
    for (let at = 0; at < count; at++) cluster.run(at)
    await cluster.healthy()
    return cluster
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
    return this.ports.map((port) => `127.0.0.1:${port}`).join(',')
  }

  /** Starts a member on the data it left. */
  run(at: number): void {
    const member = this.#member(at)
    const state = this.#members.map(({ name, peer }) => `${name}=http://127.0.0.1:${peer}`)
    member.process = spawn(
      'etcd',
      [
        ...['--name', member.name, '--data-dir', join(this.#dir, member.name)],
        ...['--listen-client-urls', `http://127.0.0.1:${member.client}`],
        ...['--advertise-client-urls', `http://127.0.0.1:${member.client}`],
        ...['--listen-peer-urls', `http://127.0.0.1:${member.peer}`],
        ...['--initial-advertise-peer-urls', `http://127.0.0.1:${member.peer}`],
        ...['--initial-cluster', state.join(','), '--initial-cluster-state', 'new'],
        ...['--heartbeat-interval', '50', '--election-timeout', '500'],
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
    const { status, stdout, stderr } = spawnSync(
      'etcdctl',
      ['--endpoints', this.endpoints, '--command-timeout', '3s', ...words],
      { encoding: 'utf8', env: { ...process.env, ETCDCTL_API: '3' } },
    )
    if (status === 0) return stdout
    throw new ClusterError(`etcdctl ${words.join(' ')}: ${stderr}`)
  }

  /** Waits until all members answer. @throws ClusterError after 20 s */
  async healthy(): Promise<void> {
    const end = performance.now() + 20_000
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
