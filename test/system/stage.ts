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

/** A machine with a running agent and namespaces as stations. */
export class Stage {
  readonly machine: Machine
  readonly #datapath: string
  readonly dir = mkdtempSync(join(tmpdir(), 'midonet-stage-'))
  readonly #children: ChildProcess[] = []
  #agent: ChildProcess | undefined

  constructor(machine: Machine, datapath: string) {
    this.machine = machine
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
    const dir = this.dir
    const env = [
      `MIDONET_STATE_DIR=${dir}/state`,
      `MIDONET_RUN_DIR=${dir}/run`,
      `MIDONET_PLUGIN_SOCKET=${dir}/plugin.sock`,
      `MIDONET_DATAPATH=${this.#datapath}`,
    ]
    this.#agent = this.machine.spawn('env', ...env, process.execPath, main)
    this.#agent.stderr?.pipe(process.stderr)
    for (let tries = 0; tries < 300; tries++) {
      await sleep(100)
      const hosts = await this.ask('GET', '/v1/host').catch(() => undefined)
      if (Array.isArray(hosts) && hosts.length > 0) return
    }
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
