/**
 * A stage for tests with real sockets: an agent on some datapath, Linux network namespaces as
 * stations. The same on this machine and in a guest.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { send } from '../driver/agent.ts'

/** An object of the topology, as the API takes it. */
export interface Named {
  readonly id: string
  readonly [field: string]: unknown
}

/** How much longer things take in an emulated machine. */
export const slowness = process.env.MIDONET_VM === undefined ? 1 : 6

/** Where it all happens. */
export interface Machine {
  run(
    command: string,
    ...args: string[]
  ): Promise<{ readonly code: number; readonly stdout: string; readonly stderr: string }>
  spawn(command: string, ...args: string[]): ChildProcess
  close(): Promise<void>
}

/** The machine that this process is on, which is a guest's. */
export const guest: Machine = {
  async run(command, ...args) {
    const { status, stdout, stderr } = spawnSync(command, args, { encoding: 'utf8' })
    return { code: status ?? -1, stdout, stderr }
  },
  spawn: (command, ...args) => spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'] }),
  async close() {},
}

const main = new URL('../../main.js', import.meta.url).pathname
const cli = new URL('../../cli.js', import.meta.url).pathname

const saidMax = 1 << 16

/** A machine with a running agent and namespaces as stations. */
export class Stage {
  readonly machine: Machine
  readonly #datapath: string
  readonly #settings: Readonly<Record<string, string>>
  readonly dir = mkdtempSync(join(tmpdir(), 'midonet-stage-'))
  readonly #children: ChildProcess[] = []
  #agent: ChildProcess | undefined
  /** What the agents here have said in their logs. */
  said = ''

  /** `settings` are more of the agent's, such as `{ MIDONET_STORE: … }`. */
  constructor(machine: Machine, datapath: string, settings: Readonly<Record<string, string>> = {}) {
    this.machine = machine
    this.#settings = settings
    this.#datapath = datapath
  }

  /** Starts what ends with the stage. */
  spawn(command: string, ...args: string[]): ChildProcess {
    const child = this.machine.spawn(command, ...args)
    this.#children.push(child)
    return child
  }

  async sh(script: string): Promise<string> {
    const { code, stdout, stderr } = await this.machine.run('sh', '-c', script)
    return code === 0 ? stdout : `${stdout}${stderr} (status ${code})`
  }

  in(station: string, script: string): Promise<string> {
    return this.sh(`ip netns exec ${station} sh -c '${script}'`)
  }

  async startAgent(): Promise<void> {
    this.#agent = this.machine.spawn('env', ...this.#environment(), process.execPath, main)
    this.#agent.stderr?.pipe(process.stderr)
    this.#agent.stderr?.on('data', (text) => {
      this.said = `${this.said}${text}`.slice(-saidMax)
    })
    for (let tries = 0; tries < 300 * slowness; tries++) {
      await sleep(100)
      const status = Object(await this.ask('GET', '/status').catch(() => undefined))
      if (status.forwarding?.forwarder !== undefined) return
    }
    throw new Error(`the agent does not forward:\n${this.said}`)
  }

  /** Removes what agents have made; none may run. */
  async clean(): Promise<string> {
    const words = [...this.#environment(), process.execPath, main, '--clean']
    const { code, stdout, stderr } = await this.machine.run('env', ...words)
    return code === 0 ? stdout : `${stdout}${stderr} (status ${code})`
  }

  #environment(): readonly string[] {
    const { dir } = this
    return [
      `MIDONET_STATE_DIR=${dir}/state`,
      `MIDONET_RUN_DIR=${dir}/run`,
      `MIDONET_PLUGIN_SOCKET=${dir}/plugin.sock`,
      `MIDONET_DATAPATH=${this.#datapath}`,
      ...Object.entries(this.#settings).map(([name, value]) => `${name}=${value}`),
    ]
  }

  async stopAgent(signal: 'TERM' | 'KILL'): Promise<void> {
    await this.sh(
      `kill -${signal} $(cat ${this.dir}/run/agent.pid); rm -f ${this.dir}/run/agent.pid`,
    )
    await sleep(300)
  }

  async ask(method: string, path: string, body?: unknown): Promise<unknown> {
    const answer = await send(
      `${this.dir}/run/agent.sock`,
      method,
      path,
      body === undefined ? undefined : JSON.stringify(body),
    )
    return answer.body
  }

  put(kind: string, value: Named): Promise<unknown> {
    return this.ask('PUT', `/v1/${kind}/${value.id}`, value)
  }

  cli(...words: string[]): Promise<string> {
    return this.sh(`MIDONET_RUN_DIR=${this.dir}/run ${process.execPath} ${cli} ${words.join(' ')}`)
  }

  async close(): Promise<void> {
    for (const child of this.#children) child.kill()
    await this.stopAgent('TERM')
    await this.machine.close()
    rmSync(this.dir, { recursive: true, force: true })
  }
}
