/** A session of the command line with an agent, and scripts of commands with what they print. */
import { readFileSync } from 'node:fs'
import type { ExecutionContext } from 'ava'
import { Client } from '../../cli/client.ts'
import { CliError } from '../../cli/error.ts'
import { Session } from '../../cli/session.ts'
import type { Store } from '../../topology/store.ts'
import { startAgent } from '../driver/agent.ts'

export interface Typist {
  readonly session: Session
  /** What a line prints, joined; an error's text after `error: `. */
  run(line: string): Promise<string>
}

export interface Bench extends Typist {
  readonly store: Store
  readonly client: Client
}

export async function open(t: ExecutionContext, aliases = true): Promise<Bench> {
  const { apiSocketPath: socketPath, store } = await startAgent(t)
  const client = new Client({ socketPath })
  t.teardown(() => client.close())
  return { store, client, ...openSession(client, aliases) }
}

/** A session with an agent that runs. */
export function openSession(client: Client, aliases = true): Typist {
  const session = new Session({ client, aliases, json: false })
  const run = async (line: string) => {
    try {
      return (await session.run(line)).lines.join('\n')
    } catch (error) {
      if (error instanceof CliError) return `error ${error.status}: ${error.message}`
      throw error
    }
  }
  return { session, run }
}

/** A file of commands beside this one. */
export function readScript(name: string): string {
  const file = new URL(`../../../test/cli/${name}.txt`, import.meta.url)
  return readFileSync(file, 'utf8').replaceAll(/^#.*\n/gm, '')
}

/** Lines of `> command` and what it prints. */
export async function check(t: ExecutionContext, bench: Typist, script: string): Promise<void> {
  const blocks = script
    .trim()
    .split(/^\s*> /m)
    .slice(1)
  for (const block of blocks) {
    const [command = '', ...expected] = block.split('\n').map((line) => line.trim())
    const printed = plain(await bench.run(command))
    t.is(printed, expected.filter(Boolean).join('\n'), command)
  }
}

/** Without what is another on each host and in each run. */
function plain(printed: string): string {
  return printed
    .replaceAll(/mac 02(:[0-9a-f]{2}){5}/g, 'mac M')
    .replaceAll(/^(host host\d+) name \S+ alive \S+.*$/gm, '$1 name H alive A')
}
