/**
 * A machine for tests: a real Docker Engine and our agent in namespaces of their own.
 *
 *   ┌ network, mount and process namespaces ──────────────────┐     ┌ network namespace ┐
 *   │ dockerd, containers, agent; /run, /var/lib/… private    │     │ outside           │
 *   │                                    eth0 192.0.2.1 ──────┼─────┼─ 192.0.2.2        │
 *   └─────────────────────────────────────────────────────────┘     └───────────────────┘
 *
 * The namespaces' first process ends when its standard input does: whatever happens to the test,
 * everything inside ends with it.
 */
import { type ChildProcess, execFile, spawn, spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs'
import { request } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { setTimeout as sleep } from 'node:timers/promises'
import { EngineError, removeCgroups, startMachine } from './engine-machine.ts'

export { EngineError, hostAddress, outsideAddress } from './engine-machine.ts'

/** An emulated machine is slow. */
const isEmulated = process.env.MIDONET_VM === '1'

export const limits = {
  commandMs: isEmulated ? 240_000 : 120_000,
  startMs: isEmulated ? 300_000 : 60_000,
  outputSizeMax: 64 * 1024 * 1024,
} as const

/** The image's name; it holds busybox. */
export const image = 'midonet-test'

export interface Result {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

/** What may be left behind; equal before and after, nothing leaked. */
export type Leftovers = Readonly<Record<string, number>>

const docker = '/usr/bin/docker'
/** Without the folders that npm puts first: a package there has a command named nft, too. */
const env = { ...process.env, PATH: '/usr/local/sbin:/usr/sbin:/usr/local/bin:/usr/bin:/sbin:/bin' }
const main = new URL('../../main.js', import.meta.url).pathname
type Settings = Readonly<Record<string, string>>

export class Engine {
  readonly #dir: string
  readonly #first: ChildProcess
  readonly #pid: number
  readonly #children = new Set<ChildProcess>()
  #dockerd: ChildProcess | undefined
  #agent: ChildProcess | undefined
  #settings: Settings = {}

  private constructor(dir: string, first: ChildProcess, pid: number) {
    this.#dir = dir
    this.#first = first
    this.#pid = pid
  }

  /** A machine with neither Docker nor agent running. */
  static async open(): Promise<Engine> {
    if (process.getuid?.() !== 0)
      throw new EngineError('system tests make namespaces; run them as root: sudo npm test')
    const dir = mkdtempSync(join(tmpdir(), 'midonet-test-'))
    const { first, pid } = await startMachine(dir, env)
    return new Engine(dir, first, pid)
  }

  /**
   * A machine with Docker, our agent and the image; `settings` are the agent's variables. `prepare`
   * is for what the agent is to find.
   */
  static start(
    flags: readonly string[] = [],
    settings: Settings = {},
    prepare: (engine: Engine) => void = () => undefined,
  ): Promise<Engine> {
    return Engine.#boot(async (engine) => {
      engine.#settings = settings
      prepare(engine)
      await engine.startAgent()
      await engine.startDocker(flags)
    })
  }

  /** A machine with Docker and the image: the agent comes as a managed plugin, or not at all. */
  static startBare(flags: readonly string[] = []): Promise<Engine> {
    return Engine.#boot((engine) => engine.startDocker(flags))
  }

  static async #boot(start: (engine: Engine) => Promise<void>): Promise<Engine> {
    const engine = await Engine.open()
    try {
      await start(engine)
      await engine.#importImage()
      return engine
    } catch (error) {
      const log = engine.log()
      await engine.close()
      throw new EngineError(`${error instanceof Error ? error.message : error}\n${log}`)
    }
  }

  /** The number of the machine's first process outside: names its network namespace. */
  get pid(): number {
    return this.#pid
  }

  /** The arguments that run a command inside, for `spawn('nsenter', …)`. */
  enter(command: string, args: readonly string[]): string[] {
    const inside = ['-t', String(this.#pid), '-n', '-m', '-p', '-u']
    return [...inside, '--', command, ...args]
  }

  run(command: string, ...args: string[]): Promise<Result> {
    return execute('nsenter', this.enter(command, args))
  }

  /** Runs a command in the network outside of the machine. */
  outside(command: string, ...args: string[]): Promise<Result> {
    return this.run('ip', 'netns', 'exec', 'outside', command, ...args)
  }

  /** The last line a web server answers with; `prefix` is a command that runs another. */
  fetch(address: string, port: number, ...prefix: string[]): Promise<Result> {
    const script = `exec 3<>/dev/tcp/${address}/${port}; printf 'GET / HTTP/1.0\r\n\r\n' >&3; tail -n 1 <&3`
    const [command = 'timeout', ...args] = [...prefix, 'timeout', '2', 'bash', '-c', script]
    return this.run(command, ...args)
  }

  docker(...args: string[]): Promise<Result> {
    return this.run(docker, ...args)
  }

  /** Runs docker and gives its output. @throws EngineError when it fails */
  async mustDocker(...args: string[]): Promise<string> {
    const { code, stdout, stderr } = await this.docker(...args)
    if (code === 0) return stdout.trim()
    throw new EngineError(`docker ${args.join(' ')}: ${stderr.trim()}`)
  }

  /** Starts a long-running command inside; it is ended with the machine at the latest. */
  spawn(command: string, ...args: string[]): ChildProcess {
    const child = spawn('nsenter', this.enter(command, args), {
      env,
      stdio: ['pipe', 'pipe', 'pipe'],
    })
    this.#children.add(child)
    child.once('exit', () => this.#children.delete(child))
    return child
  }

  async startDocker(flags: readonly string[] = []): Promise<void> {
    this.#dockerd = this.#daemon('dockerd', ['--cgroup-parent', `/${this.#name()}`, ...flags])
    await this.#until('Docker', async () => (await this.docker('info')).code === 0)
  }

  /** Ends dockerd and waits until it is gone. */
  async stopDocker(signal: 'TERM' | 'KILL' = 'TERM'): Promise<void> {
    await this.#end('/run/docker.pid', signal, this.#dockerd)
  }

  async startAgent(): Promise<void> {
    this.#agent = this.#daemon(process.execPath, [main], this.#settings)
    await this.#until('the agent', async () => {
      if (this.#agent?.exitCode !== null) throw new EngineError(`the agent ended:\n${this.log()}`)
      return (await this.midonet('status', '--ready')).code === 0
    })
  }

  async stopAgent(signal: 'TERM' | 'KILL' = 'TERM'): Promise<void> {
    await this.#end('/run/midonet/agent.pid', signal, this.#agent)
  }

  midonet(...args: string[]): Promise<Result> {
    return this.run(process.execPath, main.replace(/main\.js$/, 'cli.js'), ...args)
  }

  /** What `midonet status --json` says. */
  async status(): Promise<Record<string, unknown>> {
    const { code, stdout, stderr } = await this.midonet('status', '--json')
    if (code !== 0) throw new EngineError(stderr)
    return JSON.parse(stdout)
  }

  /** Objects of one kind in the agent's store. */
  objects(kind: string): Promise<readonly Record<string, unknown>[]> {
    const socketPath = `/proc/${this.#pid}/root/run/midonet/agent.sock`
    return new Promise((resolve, reject) => {
      const outgoing = request({ socketPath, path: `/v1/${kind}` }, async (answer) => {
        try {
          resolve(JSON.parse(await text(answer)))
        } catch (error) {
          reject(new EngineError(`GET /v1/${kind}: ${answer.statusCode} ${error}`))
        }
      })
      outgoing.on('error', reject)
      outgoing.end()
    })
  }

  /** The container's address on a network. */
  address(container: string, network: string): Promise<string> {
    const format = `{{(index .NetworkSettings.Networks "${network}").IPAddress}}`
    return this.mustDocker('inspect', '-f', format, container)
  }

  /** A container that sleeps; `options` go before the image. */
  sleeper(name: string, network: string, ...options: string[]): Promise<string> {
    const base = ['run', '-d', '--name', name, '--network', network, ...options]
    return this.mustDocker(...base, image, 'sleep', '1000000')
  }

  /** Whether `container` reaches an address; a few packets, since the first may be lost by design. */
  async reaches(container: string, address: string): Promise<boolean> {
    const ping = ['ping', '-c', '1', '-W', '1', address]
    for (let tries = 0; tries < 3; tries++)
      if ((await this.docker('exec', container, ...ping)).code === 0) return true
    return false
  }

  /** Counts what endpoints leave behind when they leak. */
  async leftovers(): Promise<Leftovers> {
    const { stdout } = await this.run('ip', '-o', 'link')
    const names = [...stdout.matchAll(/^\d+: ([^:@]+)/gm)].map((match) => match[1] ?? '')
    const links = (prefix: string) =>
      names.filter((name) => new RegExp(`^${prefix}[0-9a-f]{11}$`).test(name)).length
    const counts: Record<string, number> = { mn: links('mn'), mp: links('mp'), mu: links('mu') }
    for (const kind of ['network', 'endpoint', 'port', 'binding', 'address', 'uplink', 'route'])
      counts[kind] = (await this.objects(kind)).length
    return counts
  }

  /** Ends everything inside and removes what was made. */
  async close(): Promise<void> {
    for (const child of this.#children) child.kill('SIGKILL')
    if (this.#first.exitCode === null) {
      const ended = new Promise((resolve) => this.#first.once('exit', resolve))
      this.#first.stdin?.end()
      const timer = setTimeout(() => this.#first.kill('SIGKILL'), 5_000)
      await ended
      clearTimeout(timer)
    }
    // The kernel tears namespaces down a moment after their last process.
    rmSync(this.#dir, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 })
    for (let tries = 0; tries < 20 && !removeCgroups(this.#name()); tries++) await sleep(100)
  }

  /** The ends of the daemons' logs; `node` is the agent's. */
  log(...names: readonly string[]): string {
    return (names.length > 0 ? names : ['machine', 'dockerd', 'node'])
      .map((name) => `--- ${name}\n${tailOf(`${this.#dir}/${name}.log`)}`)
      .join('\n')
  }

  /** How often Docker, since the machine began, has waited for plugins that do not answer for 7 s. */
  get waitsForPlugins(): number {
    const text = readFileSync(`${this.#dir}/dockerd.log`, 'utf8')
    return text
      .split('Unable to connect to plugin')
      .filter((rest) => /^.*retrying in 8s/.test(rest)).length
  }

  /** The control group that goes with the machine. */
  get cgroup(): string {
    return `/${this.#name()}`
  }

  #name(): string {
    return this.#dir.split('/').at(-1) ?? ''
  }

  #daemon(command: string, args: readonly string[], settings: Settings = {}): ChildProcess {
    const log = openSync(`${this.#dir}/${command.split('/').at(-1)}.log`, 'a')
    const stdio = ['ignore', log, log] as const
    const options = { env: { ...env, ...settings }, stdio: [...stdio] }
    return spawn('nsenter', this.enter(command, args), options)
  }

  async #end(pidFile: string, signal: string, child: ChildProcess | undefined): Promise<void> {
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return
    const ended = new Promise((resolve) => child.once('exit', resolve))
    const { code, stderr } = await this.run('sh', '-c', `kill -${signal} $(cat ${pidFile})`)
    if (code !== 0) throw new EngineError(`kill: ${stderr}`)
    await ended
    // The pid file of a killed daemon would keep the next one from starting.
    if (signal === 'KILL') await this.run('rm', '-f', pidFile)
  }

  async #until(what: string, condition: () => Promise<boolean>): Promise<void> {
    const end = Date.now() + limits.startMs
    while (!(await condition())) {
      if (Date.now() > end) throw new EngineError(`${what} does not start:\n${this.log()}`)
      await sleep(100)
    }
  }

  /** The image is a tar made on the spot: no registry is needed. */
  async #importImage(): Promise<void> {
    const root = `${this.#dir}/image`
    mkdirSync(`${root}/bin`, { recursive: true })
    for (const folder of ['etc', 'tmp', 'www']) mkdirSync(`${root}/${folder}`)
    const script = `cp "$(command -v busybox)" ${root}/bin/ && cd ${root}/bin && \
for name in $(./busybox --list); do [ $name = busybox ] || ln -s busybox $name; done; \
tar -C ${root} -c . | ${docker} import - ${image}`
    const { code, stderr } = await this.run('sh', '-c', script)
    if (code !== 0) throw new EngineError(`docker import: ${stderr}`)
  }
}

function execute(command: string, args: readonly string[]): Promise<Result> {
  const options = { env, timeout: limits.commandMs, maxBuffer: limits.outputSizeMax }
  return new Promise((resolve) => {
    const child = execFile(command, [...args], options, (error, stdout, stderr) => {
      const code = error === null ? 0 : typeof error.code === 'number' ? error.code : 255
      resolve({ code, stdout, stderr })
    })
    child.stdin?.end()
  })
}

function tailOf(file: string): string {
  const { stdout } = spawnSync('tail', ['-n', '25', file], { encoding: 'utf8' })
  return stdout ?? ''
}
