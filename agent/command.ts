/** The `midonet` command but for `midonet cli`: starts the agent, or asks a running one. */
import assert from 'node:assert/strict'
import { request } from 'node:http'
import { Command } from 'commander'
import { dpctlCommands } from '../driver/request.ts'
import { formatHosts, type HostsKnown } from './host-list.ts'
import { describeSettings, readSettings } from './settings.ts'
import { formatStatus, type Status } from './status.ts'
import { version } from './version.ts'

const limits = { answerMs: 15_000, answerSizeMax: 64 * 1024 * 1024 } as const

/** The agent could not be asked, or refused; `exitCode` is the command's. */
class CommandError extends Error {
  override readonly name = 'CommandError'
  readonly code = 'COMMAND_FAILED'
}

interface TraceAnswer {
  readonly text: string
}

interface TraceOptions {
  readonly in?: string
  readonly packet?: string
  readonly list?: boolean
  readonly show?: string
  readonly json?: boolean
}

function askTrace({ in: port, packet, list, show }: TraceOptions): Promise<TraceAnswer> {
  const given = [list === true, show !== undefined, port !== undefined || packet !== undefined]
  const isWhole = port !== undefined && packet !== undefined
  if (given.filter(Boolean).length !== 1 || (given[2] === true && !isWhole))
    throw new CommandError('give --in and --packet, or --list, or --show REQUEST')
  const [method, path] =
    list === true
      ? (['GET', '/traces'] as const)
      : show !== undefined
        ? (['GET', `/traces/${encodeURIComponent(show)}`] as const)
        : (['POST', '/trace'] as const)
  const body = method === 'POST' ? { port, packet } : undefined
  return ask(method, path, body) as Promise<TraceAnswer>
}

/** Loads what runs an agent: much, and needed by one command only. */
export type LoadAgent = () => Promise<{
  readonly clean: () => Promise<void>
  readonly runAgent: () => Promise<void>
}>

let loadAgent: LoadAgent | undefined

const program = new Command('midonet')
  .description('Network virtualization for containers.')
  .version(version)
  .addHelpText('after', () => {
    const rows = describeSettings().map(
      ([name, meaning, value]) => `  ${name}\n      ${meaning} (${value})`,
    )
    return `\nSettings (environment, or /etc/midonet/midonet.json):\n${rows.join('\n')}`
  })

program
  .command('agent')
  .description('run the agent of this host in the foreground')
  .option('--clean', 'remove what the agent made in the kernel, then exit')
  .option('--datapath <kind>', 'what forwards packets: auto, ovs or ebpf (MIDONET_DATAPATH)')
  .action(async (options: { clean?: boolean; datapath?: string }) => {
    if (options.datapath !== undefined) process.env.MIDONET_DATAPATH = options.datapath
    assert(loadAgent, 'runCommand was called')
    const { clean, runAgent } = await loadAgent()
    await (options.clean === true ? clean() : runAgent())
  })

program
  .command('status')
  .description('what the agent of this host knows, does and has repaired')
  .option('--json', 'as JSON')
  .option('--ready', 'print nothing; exit 0 when the agent is ready for Docker')
  .action(async (options: { json?: boolean; ready?: boolean }) => {
    const status = (await ask('GET', '/status')) as Status
    if (options.ready === true) {
      if (!status.ready)
        throw new CommandError(`the agent is not ready: ${status.problems.join('; ')}`)
      return
    }
    console.log(options.json === true ? JSON.stringify(status, null, 2) : formatStatus(status))
  })

program
  .command('trace')
  .description('what the simulator does with a packet, and why')
  .option(
    '--in <port>',
    'port the packet comes in by: its id, the start of it, its interface, or its container',
  )
  .option(
    '--packet <packet>',
    "'icmp A -> B', 'tcp A:port -> B:port', a flow key in Open vSwitch's notation, or a frame in hex",
  )
  .option('--list', 'trace requests, and how many packets they still want')
  .option('--show <request>', 'what the packets of a trace request did: its id or name')
  .option('--json', 'as JSON')
  .action(async (options: TraceOptions) => {
    const answer = await askTrace(options)
    console.log(options.json === true ? JSON.stringify(answer, null, 2) : answer.text)
  })

program
  .command('dpctl')
  .description('the flows and ports of this host, in the notation of Open vSwitch')
  .argument('<command>', dpctlCommands.join(', '))
  .argument(
    '[words...]',
    'add-flow: FLOW ACTIONS; del-flow: FLOW; add-meter: METER; add-if: NAME[,type=vxlan]',
  )
  .action(async (command: string, words: string[]) => {
    const { text } = (await ask('POST', '/dpctl', { command, words })) as TraceAnswer
    if (text !== '') console.log(text)
  })

program
  .command('cli')
  .description('the topology in words: lists, makes and changes routers, bridges, ports, chains …')
  .helpOption(false)

program
  .command('ctl')
  .description('binds an interface of this host to a port of the topology')
  .option('--bind-port <port...>', 'PORT INTERFACE: the port (its id) and what becomes it')
  .option('--unbind-port <port>', 'gives the interface of the port back')
  .action(async (options: { bindPort?: string[]; unbindPort?: string }) => {
    const { bindPort, unbindPort } = options
    if ((bindPort === undefined) === (unbindPort === undefined))
      throw new CommandError('ctl needs --bind-port PORT INTERFACE, or --unbind-port PORT')
    const operation = unbindPort === undefined ? await binding(bindPort) : unbinding(unbindPort)
    await ask('POST', '/v1/transaction', { operations: [operation] })
  })

const host = program.command('host').description('the hosts that share the topology')

host
  .command('list')
  .description('each host: whether its agent runs, how many ports it has, its tunnel zones')
  .action(async () => console.log(formatHosts(await askHosts())))

const store = program.command('store').description('a topology to a file, or to another store')

store
  .command('export')
  .description('write the topology of the store to a file')
  .argument('<file>', 'a new file, for its owner only')
  .action(async (file: string) => {
    const { exportTopology, writeTopology } = await import('./transfer.js')
    const settings = readSettings(process.env)
    writeTopology(file, await exportTopology(settings, topologyOf(settings.store)))
  })

store
  .command('import')
  .description('write the topology of a file or a store into an empty store')
  .argument('<source>', 'a file of `store export`, leveldb:DIR or etcd://…')
  .requiredOption('--to <url>', 'the store: etcd://h1:2379,h2:2379,h3:2379 or leveldb:DIR')
  .action(async (source: string, { to }: { to: string }) => {
    const { importTopology } = await import('./transfer.js')
    const settings = readSettings(process.env)
    const count = await importTopology(settings, source, to, topologyOf(source))
    console.log(`${count} objects; set MIDONET_STORE=${to} and start the agent again`)
  })

/** Objects as the agent of this host gives them, of the same version. */
async function askHosts(): Promise<HostsKnown> {
  const list = (kind: string) => ask('GET', `/v1/${kind}`)
  const [hosts, zones, members, bindings, alive] = await Promise.all(
    ['host', 'tunnelZone', 'zoneMember', 'binding', 'hostAlive'].map(list),
  )
  const known = { hosts, zones, members, bindings } as Omit<HostsKnown, 'alive'>
  const running = alive as readonly { readonly id: string }[]
  return { ...known, alive: new Set(running.map(({ id }) => id)) }
}

/** From the agent that has the store open, if it is that one. */
function topologyOf(url: string): () => Promise<string> {
  return async () => {
    const status = (await ask('GET', '/status')) as Status
    if (status.store.url !== url)
      throw new CommandError(`another process has ${url} open; stop it first`)
    return ((await ask('GET', '/topology')) as TraceAnswer).text
  }
}

async function binding(words: readonly string[] = []): Promise<object> {
  const [port, name, ...rest] = words
  if (port === undefined || name === undefined || rest.length > 0)
    throw new CommandError('ctl --bind-port needs PORT and INTERFACE')
  const { host } = (await ask('GET', '/status')) as Status
  const value = { id: port, host: host.id, interface: name }
  return { op: 'create', kind: 'binding', id: port, value }
}

function unbinding(port: string): object {
  return { op: 'delete', kind: 'binding', id: port }
}

/** Asks the agent of this host. The answer's shape is the agent's own, of the same version. */
function ask(method: 'GET' | 'POST', path: string, body?: unknown): Promise<unknown> {
  const socketPath = `${readSettings(process.env).runDir}/agent.sock`
  return new Promise((resolve, reject) => {
    const outgoing = request(
      { socketPath, path, method, headers: { 'content-type': 'application/json' } },
      (answer) => {
        const parts: Buffer[] = []
        let size = 0
        answer.on('data', (part: Buffer) => {
          size += part.length
          if (size > limits.answerSizeMax) outgoing.destroy()
          else parts.push(part)
        })
        answer.on('end', () => {
          try {
            const value = JSON.parse(Buffer.concat(parts).toString())
            if (answer.statusCode === 200) resolve(value)
            else
              reject(new CommandError(value.message ?? `the agent answered ${answer.statusCode}`))
          } catch (error) {
            reject(new CommandError('the agent answered what is not JSON', { cause: error }))
          }
        })
      },
    )
    outgoing.setTimeout(limits.answerMs, () =>
      outgoing.destroy(new CommandError('the agent does not answer')),
    )
    outgoing.on('error', (error) => reject(unreachable(socketPath, error)))
    outgoing.end(body === undefined ? undefined : JSON.stringify(body))
  })
}

function unreachable(socketPath: string, error: Error): Error {
  const code = 'code' in error ? error.code : undefined
  if (code === 'ENOENT' || code === 'ECONNREFUSED')
    return new CommandError(
      `no agent runs here (nothing listens at ${socketPath}); start one: midonet agent`,
    )
  if (code === 'EACCES') return new CommandError(`${socketPath} is for root only; try sudo`)
  return error
}

/** Runs the command of `process.argv`; resolves with the exit status. */
export async function runCommand(agent: LoadAgent): Promise<number> {
  loadAgent = agent
  try {
    await program.parseAsync()
    return 0
  } catch (error) {
    console.error(`midonet: ${error instanceof Error ? error.message : error}`)
    return 1
  }
}
