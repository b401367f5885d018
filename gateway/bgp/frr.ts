/**
 * FRR (zebra, bgpd, bfdd) in a network namespace: three daemons that go on without the agent and
 * are taken over by the next one. Their folder holds pid files, sockets and configuration:
 *
 *   zebra.pid zebra.vty … zserv.api   bgpd.conf (frr's)   applied.json (ours: what bgpd was told)
 *
 * zebra writes the best routes into the namespace's kernel, from where the agent reads them.
 */
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { dirname } from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import type { Run } from '../host.ts'
import {
  type RoutingDaemon,
  RoutingDaemonError,
  type Session,
  type SpeakerConfig,
} from './daemon.ts'
import { bfddFile, changesBetween, renderFile } from './frr-config.ts'
import { readSessions } from './frr-session.ts'
import { Vty } from './frr-vty.ts'

/** Where distributions put the daemons. */
const folders = ['/usr/lib/frr', '/usr/libexec/frr']
const names = ['zebra', 'bgpd', 'bfdd'] as const
/** Room for what the kernel tells zebra of routes, as Debian has it: a flood overruns less. */
const netlinkBytes = 90_000_000
type Name = (typeof names)[number]

/** Of `applied.json`: another form is not compared with, bgpd starts anew. */
const version = 1

export const limits = {
  /** How long a daemon has to open its socket, or to end. */
  startMs: 5_000,
  stopMs: 2_000,
} as const

export interface FrrSettings {
  /** The file of the network namespace. */
  readonly namespace: string
  /** What belongs to these daemons alone; frr's user must be able to go there. */
  readonly folder: string
  readonly run: Run
}

/** Where FRR is on this host; undefined when it is not installed. */
export function findFrr(): string | undefined {
  return folders.find((folder) => names.every((name) => existsSync(`${folder}/${name}`)))
}

/** FRR's daemons, run from where `findFrr` found them; nothing is started yet. */
export function openFrr(settings: FrrSettings): RoutingDaemon {
  return new Frr(settings)
}

class Frr implements RoutingDaemon {
  readonly #settings: FrrSettings
  #applied: SpeakerConfig | undefined
  /** What has happened since `supervise` was last asked. */
  #notes: string[] = []

  constructor(settings: FrrSettings) {
    this.#settings = settings
    this.#applied = this.#readApplied()
  }

  get process(): number | undefined {
    return this.#pid('zebra') ?? this.#pid('bgpd') ?? this.#pid('bfdd')
  }

  async apply(config: SpeakerConfig): Promise<void> {
    const applied = this.#applied
    const runs = names.every((name) => this.#pid(name) !== undefined)
    if (runs && applied !== undefined) {
      if (isDeepStrictEqual(applied, config)) return
      if (await this.#change(applied, config)) return
    }
    this.#write(config)
    await this.#restart(runs)
    this.#applied = config
  }

  async supervise(): Promise<readonly string[]> {
    const dead = names.filter((name) => this.#pid(name) === undefined)
    if (dead.length > 0 && this.#applied !== undefined) {
      this.#notes.push(`${dead.join(', ')} had ended and was started again`)
      // bgpd tells a new zebra nothing of what the old one knew.
      await this.#restart(!dead.includes('zebra'))
    }
    return this.#notes.splice(0)
  }

  async sessions(): Promise<readonly Session[]> {
    const [summary, bfd] = await Promise.all([
      this.#ask('bgpd', 'show bgp ipv4 unicast summary json'),
      this.#ask('bfdd', 'show bfd peers json'),
    ])
    return readSessions(summary, bfd)
  }

  async stop(): Promise<void> {
    for (const name of names.toReversed()) await this.#end(name)
    rmSync(this.#settings.folder, { recursive: true, force: true })
    this.#applied = undefined
  }

  /** Whether the running daemon could be brought there. */
  async #change(have: SpeakerConfig, want: SpeakerConfig): Promise<boolean> {
    const commands = changesBetween(have, want)
    if (commands === undefined) return false
    // Before the daemon hears of it: an agent that ends here leaves a file that says too much, and
    // the next one starts the daemon from it.
    this.#applied = undefined
    this.#write(want, have)
    try {
      const vty = await Vty.open(this.#path('bgpd.vty'))
      try {
        await vty.askAll(['enable', ...commands])
      } finally {
        vty.close()
      }
    } catch (error) {
      if (!(error instanceof RoutingDaemonError)) throw error
      this.#notes.push(`bgpd is started anew: ${error.message}`)
      return false
    }
    this.#writeApplied(want)
    this.#applied = want
    return true
  }

  async #ask(name: Name, command: string): Promise<string> {
    const vty = await Vty.open(this.#path(`${name}.vty`))
    try {
      await vty.ask('enable')
      return await vty.ask(command)
    } finally {
      vty.close()
    }
  }

  /** Starts what does not run; `keeps` leaves zebra and bfdd alone where they run. */
  async #restart(keeps: boolean): Promise<void> {
    const { namespace, folder, run } = this.#settings
    const binaries = findFrr()
    if (binaries === undefined)
      throw new RoutingDaemonError(
        'NOT_INSTALLED',
        'BGP needs FRR, which is not installed; install it: apt-get install frr',
      )
    this.#checkWay()
    for (const name of names.toReversed()) {
      if (keeps && name !== 'bgpd' && this.#pid(name) !== undefined) continue
      await this.#end(name)
    }
    for (const name of names) {
      if (this.#pid(name) !== undefined) continue
      const { code, stderr } = await run('nsenter', [
        `--net=${namespace}`,
        `${binaries}/${name}`,
        ...['-d', '-u', 'frr', '-g', 'frr', '-P', '0', '--log', 'syslog', '--log-level', 'errors'],
        ...['-f', this.#path(`${name}.conf`), '-i', this.#path(`${name}.pid`)],
        ...['-z', this.#path('zserv.api'), '--vty_socket', folder],
        ...(name === 'bfdd' ? ['--bfdctl', this.#path('bfdd.sock')] : []),
        ...(name === 'zebra' ? ['-s', `${netlinkBytes}`] : []),
      ])
      if (code !== 0)
        throw new RoutingDaemonError('NOT_STARTED', `${name} does not start: ${lastLine(stderr)}`)
    }
  }

  /** FRR's daemons drop their privileges, and then still open files here. @throws RoutingDaemonError */
  #checkWay(): void {
    const closed = closedFolder(dirname(this.#settings.folder), frrUser())
    if (closed === undefined) return
    const help = `let others in (chmod o+x ${closed}), or set MIDONET_RUN_DIR to another folder`
    throw new RoutingDaemonError('NOT_STARTED', `FRR's user frr cannot enter ${closed}; ${help}`)
  }

  #write(config: SpeakerConfig, applied?: SpeakerConfig): void {
    const { folder } = this.#settings
    const { uid, gid } = frrUser()
    // frr's user goes through what is above it.
    mkdirSync(dirname(folder), { recursive: true, mode: 0o711 })
    mkdirSync(folder, { recursive: true, mode: 0o750 })
    chownSync(folder, uid, gid)
    const files = {
      'zebra.conf': 'no zebra nexthop kernel enable\n',
      'bfdd.conf': bfddFile,
      'bgpd.conf': renderFile(config),
    }
    for (const [file, text] of Object.entries(files)) {
      const path = this.#path(file)
      writeFileSync(`${path}.new`, text, { mode: 0o600 })
      chmodSync(`${path}.new`, 0o600)
      chownSync(`${path}.new`, uid, gid)
      renameSync(`${path}.new`, path)
    }
    if (applied === undefined) this.#writeApplied(config)
    else rmSync(this.#path('applied.json'), { force: true })
  }

  #writeApplied(config: SpeakerConfig): void {
    const path = this.#path('applied.json')
    writeFileSync(`${path}.new`, JSON.stringify({ version, config }), { mode: 0o600 })
    renameSync(`${path}.new`, path)
  }

  /** Ours, and whole, or nothing. */
  #readApplied(): SpeakerConfig | undefined {
    try {
      const read = JSON.parse(readFileSync(this.#path('applied.json'), 'utf8'))
      if (read.version !== version) return undefined
      // Written by this very version's #writeApplied, and renamed when it was whole.
      const config: SpeakerConfig = {
        ...read.config,
        peers: read.config.peers.map((peer: object) => ({ password: undefined, ...peer })),
      }
      return config
    } catch {
      return undefined
    }
  }

  #path(file: string): string {
    return `${this.#settings.folder}/${file}`
  }

  /** Of a daemon that runs and is ours. */
  #pid(name: Name): number | undefined {
    try {
      const file = this.#path(`${name}.pid`)
      const pid = Number(readFileSync(file, 'utf8'))
      const words = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0')
      return words.includes(file) ? pid : undefined
    } catch {
      return undefined
    }
  }

  async #end(name: Name): Promise<void> {
    const pid = this.#pid(name)
    if (pid === undefined) return
    process.kill(pid, 'SIGTERM')
    const until = performance.now() + limits.stopMs
    while (this.#pid(name) === pid) {
      if (performance.now() > until) process.kill(pid, 'SIGKILL')
      await new Promise((resolve) => setTimeout(resolve, 10))
    }
  }
}

function frrUser(): { readonly uid: number; readonly gid: number } {
  const line = readFileSync('/etc/passwd', 'utf8')
    .split('\n')
    .find((one) => one.startsWith('frr:'))
  const [, , uid, gid] = line?.split(':').map(Number) ?? []
  if (uid !== undefined && gid !== undefined) return { uid, gid }
  const message = 'there is no user frr; install FRR anew: apt-get install --reinstall frr'
  throw new RoutingDaemonError('NOT_INSTALLED', message)
}

/** The first folder on the way to `path` that a user may not go through. */
export function closedFolder(
  path: string,
  user: { readonly uid: number; readonly gid: number },
): string | undefined {
  const above = dirname(path) === path ? undefined : closedFolder(dirname(path), user)
  if (above !== undefined) return above
  const { mode, uid, gid } = statSync(path)
  const bit = uid === user.uid ? 0o100 : gid === user.gid ? 0o010 : 0o001
  return (mode & bit) === 0 ? path : undefined
}

function lastLine(text: string): string {
  return text.trim().split('\n').at(-1)?.slice(0, 200) ?? ''
}
