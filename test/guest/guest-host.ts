/**
 * A host of a guest: our agent on the kernel module, in the guest's own network or in a network
 * namespace. A test plays Docker at the plugin's socket; containers are network namespaces.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, openSync, readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { dockerId, endpointBody, joinBody, networkBody, post, send } from '../driver/agent.ts'

const main = new URL('../../main.js', import.meta.url).pathname
const cli = new URL('../../cli.js', import.meta.url).pathname
const limits = { startMs: 400_000, tryMs: 200, joinTries: 4 } as const

/** The agent does not start; the message carries its log. */
export class GuestHostError extends Error {
  override readonly name = 'GuestHostError'
  readonly code = 'GUEST_HOST'
}

export interface Status {
  readonly ready: boolean
  readonly datapath: { readonly kind: string; readonly why: string }
  readonly forwarding: {
    readonly forwarder: { readonly flows: number; readonly packets: number; readonly lost: number }
  }
}

/** A command's output; of one that fails, both streams. */
export function run(...[command = '', ...args]: readonly string[]): string {
  const { stdout, stderr, status } = spawnSync(command, args, { encoding: 'utf8' })
  return status === 0 ? stdout : `${stdout}${stderr}`
}

interface Joined {
  readonly link: string
  readonly gateway: string
}

/** What Docker gets. */
interface JoinAnswer {
  readonly InterfaceName: { readonly SrcName: string }
  readonly Gateway: string
  readonly Err: string
}

export class GuestHost {
  /** The network namespace; undefined for the guest's own. */
  readonly #namespace: string | undefined
  readonly #folder: string
  #agent: ChildProcess | undefined

  constructor(namespace?: string) {
    this.#namespace = namespace
    this.#folder = `/tmp/hosts/${namespace ?? 'guest'}`
    mkdirSync(this.#folder, { recursive: true })
    if (namespace === undefined) return
    run('ip', 'netns', 'add', namespace)
    run('ip', '-n', namespace, 'link', 'set', 'lo', 'up')
  }

  /** Starts the agent and waits until it can serve Docker. */
  async start(): Promise<void> {
    const log = openSync(`${this.#folder}/agent.log`, 'a')
    const env = {
      ...process.env,
      MIDONET_STATE_DIR: `${this.#folder}/state`,
      MIDONET_RUN_DIR: `${this.#folder}/run`,
      MIDONET_PLUGIN_SOCKET: this.#plugin,
      MIDONET_DOCKER_SOCKET: `${this.#folder}/docker.sock`,
      MIDONET_DATAPATH: 'auto',
    }
    const [command = '', ...args] = this.#inside(process.execPath, main)
    this.#agent = spawn(command, args, { env, stdio: ['ignore', log, log] })
    for (const end = Date.now() + limits.startMs; Date.now() < end; ) {
      await sleep(limits.tryMs)
      const now = await this.status().catch(() => undefined)
      if (now?.ready === true) return
    }
    throw new GuestHostError(readFileSync(`${this.#folder}/agent.log`, 'utf8').slice(-2000))
  }

  async stop(signal: NodeJS.Signals): Promise<void> {
    if (this.#agent === undefined) return
    const gone = once(this.#agent, 'exit')
    this.#agent.kill(signal)
    await gone
    this.#agent = undefined
  }

  async status(): Promise<Status> {
    const { body } = await send(`${this.#folder}/run/agent.sock`, 'GET', '/status')
    // The agent is of this version.
    return body as unknown as Status
  }

  /** `midonet` with these words. */
  midonet(...words: readonly string[]): string {
    const folder = `MIDONET_RUN_DIR=${this.#folder}/run`
    return run(...this.#inside('env', folder, process.execPath, cli, ...words)).trimEnd()
  }

  async network(id: string, subnet: string): Promise<void> {
    const options = { 'org.midonet.router': 'shop' }
    await post(this.#plugin, '/NetworkDriver.CreateNetwork', networkBody({ id, subnet, options }))
  }

  /** A container: a namespace with one end of the endpoint's link. */
  async container(name: string, network: string, seed: number, cidr: string): Promise<void> {
    const id = dockerId(seed)
    await post(this.#plugin, '/NetworkDriver.CreateEndpoint', endpointBody(network, id, cidr))
    const { link, gateway } = await this.#join(network, id)
    run('ip', 'netns', 'add', name)
    run(...this.#inside('ip', 'link', 'set', link, 'netns', name))
    run('ip', '-n', name, 'link', 'set', link, 'name', 'eth0')
    run('ip', '-n', name, 'addr', 'add', cidr, 'dev', 'eth0')
    run('ip', '-n', name, 'link', 'set', 'eth0', 'up')
    run('ip', '-n', name, 'route', 'add', 'default', 'via', gateway)
  }

  /** As Docker's user would, it tries again when a cold emulated machine is too slow. */
  async #join(network: string, id: string): Promise<Joined> {
    for (let tries = 1; ; tries++) {
      const { body } = await post(this.#plugin, '/NetworkDriver.Join', joinBody(network, id))
      const { InterfaceName, Gateway, Err } = body as Partial<JoinAnswer>
      if (InterfaceName !== undefined && Gateway !== undefined)
        return { link: InterfaceName.SrcName, gateway: Gateway }
      if (tries === limits.joinTries) throw new GuestHostError(`Join: ${Err}`)
    }
  }

  get #plugin(): string {
    return `${this.#folder}/midonet.sock`
  }

  #inside(...command: readonly string[]): readonly string[] {
    if (this.#namespace === undefined) return command
    return ['ip', 'netns', 'exec', this.#namespace, ...command]
  }
}

/** What ping says, sent from a container. */
export function ping(from: string, to: string, count = 3): string {
  return run('ip', 'netns', 'exec', from, 'busybox', 'ping', '-c', `${count}`, '-w', '20', to)
}
