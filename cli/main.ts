/**
 * `midonet cli`, also `midonet-cli`: the topology in the words of the original's command line.
 * Loads little: scripts call it often.
 */
import { readFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { createInterface } from 'node:readline'
import { parseArgs } from 'node:util'
import { Client, type ClientSettings } from './client.ts'
import { complete } from './complete.ts'
import { CliError } from './error.ts'
import { Session } from './session.ts'

const usage = `usage: midonet cli [options] [-e COMMAND]…

Without -e: commands from standard input, one a line; on a terminal with history and completion.

  -e, --eval COMMAND   runs a command (several in turn), or all words after the options
  -A, --no-aliases     prints ids instead of aliases such as router0:port2 (as with -e and scripts)
      --aliases        prints aliases also with -e and in scripts
      --json           prints JSON
      --server URL     an agent's https://HOST:PORT instead of the one on this host
      --token-file F   holds the token for --server
      --ca-file F      holds the authority of its certificate
  -h, --help           this text

Exit status: 0 done, 1 refused or not found, 2 typed wrong. A script ends at the first error.
`

const options = {
  eval: { type: 'string', short: 'e', multiple: true },
  'no-aliases': { type: 'boolean', short: 'A' },
  aliases: { type: 'boolean' },
  json: { type: 'boolean' },
  server: { type: 'string' },
  'token-file': { type: 'string' },
  'ca-file': { type: 'string' },
  help: { type: 'boolean', short: 'h' },
} as const

/** Runs the command line; resolves with the exit status. */
export async function runCli(args: readonly string[]): Promise<number> {
  try {
    const { values, positionals } = parseArgs({ args: [...args], options, allowPositionals: true })
    if (values.help === true) {
      process.stdout.write(usage)
      return 0
    }
    // `-e router list` without quotes: the words go on.
    const commands = [...(values.eval ?? [])]
    const last = commands.pop()
    if (last !== undefined) commands.push([last, ...positionals].join(' '))
    else if (positionals.length > 0) commands.push(positionals.join(' '))
    const isTerminal = process.stdin.isTTY === true && commands.length === 0
    const client = new Client(settingsOf(values))
    const session = new Session({
      client,
      json: values.json === true,
      aliases: values['no-aliases'] !== true && (values.aliases === true || isTerminal),
    })
    try {
      if (commands.length > 0) return await runAll(session, commands)
      return isTerminal ? await converse(session, client) : await runAll(session, readLines())
    } finally {
      client.close()
    }
  } catch (error) {
    return fail(error)
  }
}

function settingsOf(values: {
  readonly server?: string | undefined
  readonly 'token-file'?: string | undefined
  readonly 'ca-file'?: string | undefined
}): ClientSettings {
  return {
    socketPath: `${runDirectory()}/agent.sock`,
    server: values.server,
    tokenFile: values['token-file'],
    caFile: values['ca-file'],
  }
}

/** The agent's setting runDir, without loading all that checks settings. */
function runDirectory(): string {
  const fromEnvironment = process.env.MIDONET_RUN_DIR
  if (fromEnvironment !== undefined && fromEnvironment !== '') return fromEnvironment
  try {
    const { runDir } = JSON.parse(readFileSync('/etc/midonet/midonet.json', 'utf8'))
    if (typeof runDir === 'string') return runDir
  } catch {
    // No settings, or none that can be read: the default.
  }
  return '/run/midonet'
}

function readLines(): AsyncIterable<string> {
  return createInterface({ input: process.stdin })
}

async function runAll(
  session: Session,
  commands: Iterable<string> | AsyncIterable<string>,
): Promise<number> {
  for await (const command of commands) {
    try {
      const { lines, ended } = await session.run(command)
      await print(lines)
      if (ended) return 0
    } catch (error) {
      return fail(error)
    }
  }
  return 0
}

/** Waits for a slow reader; one that has gone ends the program quietly. */
function print(lines: readonly string[]): Promise<void> {
  if (lines.length === 0) return Promise.resolve()
  return new Promise((resolve) => {
    process.stdout.write(`${lines.join('\n')}\n`, () => resolve())
  })
}

const historyMax = 1000

async function converse(session: Session, client: Client): Promise<number> {
  const { loadHistory, saveHistory } = await import('./history.js')
  const file = `${homedir()}/.midonet_history`
  const terminal = createInterface({
    input: process.stdin,
    output: process.stdout,
    prompt: 'midonet> ',
    history: loadHistory(file, historyMax),
    historySize: historyMax,
    removeHistoryDuplicates: true,
    completer: (line: string, done: (error: null, result: [string[], string]) => void) => {
      complete(session, client, line).then(
        ([candidates, part]) => done(null, [[...candidates], part]),
        () => done(null, [[], line]),
      )
    },
  })
  terminal.on('history', (lines: string[]) => saveHistory(file, lines))
  terminal.on('SIGINT', () => {
    process.stdout.write('\n')
    // As a shell: what was typed is given up, the session goes on.
    terminal.write(null, { ctrl: true, name: 'e' })
    terminal.write(null, { ctrl: true, name: 'u' })
    terminal.prompt()
  })
  terminal.prompt()
  for await (const line of terminal) {
    try {
      const { lines, ended } = await session.run(line)
      await print(lines)
      if (ended) break
    } catch (error) {
      fail(error)
    }
    terminal.prompt()
  }
  terminal.close()
  return 0
}

function fail(error: unknown): number {
  if (error instanceof CliError) {
    process.stderr.write(`${error.message}\n`)
    return error.status
  }
  process.stderr.write(`${error instanceof Error ? error.message : error}\n`)
  return error instanceof TypeError && 'code' in error ? 2 : 1
}
