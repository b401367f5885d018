/**
 * Loads the programs, and attaches them where they run. The verifier takes its time, a second and
 * more on a busy machine: programs that an agent before has left are used again when they are the
 * same, and that of tunnels is loaded when there is one.
 */
import { createHash } from 'node:crypto'
import { DatapathError } from '../datapath.ts'
import { NetlinkError, type NetlinkSocket } from '../netlink.ts'
import { close, setLimit } from '../syscall.ts'
import { ensureClsact, setFilter } from '../tc.ts'
import type { Left } from './adopt.ts'
import type { Program } from './assembler.ts'
import { describeProgramFd, loadProgram, openProgram } from './bpf.ts'
import type { Maps } from './maps.ts'
import { executeProgram, portProgram } from './program.ts'

/** A program in the kernel. */
export interface Loaded {
  readonly fd: number
  /** The kernel's number of it. */
  readonly id: number
}

const resourceMemlock = 8 // asm-generic/resource.h: RLIMIT_MEMLOCK

/** Before 5.11 the kernel counts maps as locked memory. Where that may not be raised, maps say so. */
export function raiseMemoryLimit(): void {
  setLimit(resourceMemlock, Number.POSITIVE_INFINITY)
}

/** The programs of one datapath; each is there when it is asked for. */
export class Programs {
  readonly #maps: Maps['byName']
  /** Numbers of those that run already, with the same maps. */
  readonly #running: readonly number[]
  readonly #loaded = new Map<string, Loaded>()

  constructor({ byName }: Maps, left: Left['ports'] = []) {
    this.#maps = byName
    const isRunning = left.flatMap(({ isOurs, programId }) => (isOurs ? [programId] : []))
    this.#running = [...new Set(isRunning)]
  }

  /** @throws DatapathError with the verifier's words */
  get port(): Loaded {
    return this.#get('port', () => this.#loadPort('port', false))
  }

  /** The port program of tunnel vports. @throws DatapathError with the verifier's words */
  get tunnel(): Loaded {
    return this.#get('tun', () => this.#loadPort('tun', true))
  }

  /** @throws DatapathError with the verifier's words */
  get execute(): Loaded {
    return this.#get('exec', () => this.#load('exec', executeProgram()))
  }

  close(): void {
    for (const { fd } of this.#loaded.values()) close(fd)
    this.#loaded.clear()
  }

  #get(name: string, load: () => Loaded): Loaded {
    const known = this.#loaded.get(name)
    if (known !== undefined) return known
    const loaded = load()
    this.#loaded.set(name, loaded)
    return loaded
  }

  #loadPort(name: string, isTunnel: boolean): Loaded {
    try {
      return this.#load(name, portProgram({ coarseClock: true, isTunnel }))
    } catch (error) {
      // Kernels before 5.11 do not know the cheap clock.
      if (!(error instanceof DatapathError) || !/(unknown|invalid) func/.test(error.message))
        throw error
      return this.#load(name, portProgram({ coarseClock: false, isTunnel }))
    }
  }

  #load(kind: string, program: Program): Loaded {
    const name = nameOf(kind, program)
    for (const id of this.#running) {
      const fd = openProgram(id)
      if (fd === undefined) continue
      if (describeProgramFd(fd).name === name) return { fd, id }
      close(fd)
    }
    const fd = loadProgram(name, program, this.#maps)
    return { fd, id: describeProgramFd(fd).id }
  }
}

/** Tells what a program does, within the kernel's 15 characters. */
function nameOf(kind: string, { code, relocations }: Program): string {
  const hash = createHash('sha256').update(code).update(JSON.stringify(relocations))
  return `mn_${kind}_${hash.digest('hex')}`.slice(0, 15)
}

/** Makes an interface run the port program. @throws DatapathError */
export function attachPort(
  links: NetlinkSocket,
  index: number,
  name: string,
  program: number,
): void {
  attach(links, index, 'ingress', name, program)
}

/** Makes the interface that `execute` sends by run its program. @throws DatapathError */
export function attachExecute(
  links: NetlinkSocket,
  index: number,
  name: string,
  program: number,
): void {
  attach(links, index, 'egress', name, program)
}

function attach(
  links: NetlinkSocket,
  index: number,
  direction: 'ingress' | 'egress',
  name: string,
  program: number,
): void {
  try {
    ensureClsact(links, index)
    setFilter(links, index, direction, name, program)
  } catch (error) {
    if (!(error instanceof NetlinkError)) throw error
    const advice =
      error.code === 'ENOENT' || error.code === 'EOPNOTSUPP'
        ? ': the kernel lacks NET_SCH_INGRESS or NET_CLS_BPF; load sch_ingress and cls_bpf'
        : ''
    throw new DatapathError(error.code, `${error.message}${advice}`, { cause: error })
  }
}
