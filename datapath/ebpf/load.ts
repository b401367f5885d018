/**
 * Loads the programs. The verifier takes its time, a second and more on a busy machine: programs that
 * an agent before has left are used again when they are the same, and that of tunnels is loaded when
 * there is one.
 */
import { createHash } from 'node:crypto'
import { DatapathError } from '../datapath.ts'
import { close, setLimit } from '../syscall.ts'
import type { Left } from './adopt.ts'
import type { Program } from './assembler.ts'
import { type Loaded, programName } from './attach.ts'
import { describeProgramFd, loadProgram, openProgram } from './bpf.ts'
import type { Maps } from './maps.ts'
import { executeProgram, portProgram } from './program.ts'

const resourceMemlock = 8 // asm-generic/resource.h: RLIMIT_MEMLOCK

/** Before 5.11 the kernel counts maps as locked memory. Where that may not be raised, maps say so. */
export function raiseMemoryLimit(): void {
  setLimit(resourceMemlock, Number.POSITIVE_INFINITY)
}

/** The programs of one datapath; each is there when it is asked for. */
export class Programs {
  readonly #name: string
  readonly #maps: Maps['byName']
  /** Numbers of those that run already, with the same maps. */
  readonly #running: readonly number[]
  readonly #loaded = new Map<string, Loaded>()

  /** `name` is the datapath's. */
  constructor(name: string, { byName }: Maps, left: Left['ports'] = []) {
    this.#name = name
    this.#maps = byName
    const isRunning = left.flatMap(({ isOurs, programId }) => (isOurs ? [programId] : []))
    this.#running = [...new Set(isRunning)]
  }

  /** @throws DatapathError with the verifier's words */
  get port(): Loaded {
    return this.#get('port', () => this.#loadPort(false))
  }

  /** The port program of tunnel vports. @throws DatapathError with the verifier's words */
  get tunnel(): Loaded {
    return this.#get('tun', () => this.#loadPort(true))
  }

  /** @throws DatapathError with the verifier's words */
  get execute(): Loaded {
    return this.#get('exec', () => this.#load(executeProgram()))
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

  #loadPort(isTunnel: boolean): Loaded {
    try {
      return this.#load(portProgram({ coarseClock: true, isTunnel }))
    } catch (error) {
      // Kernels before 5.11 do not know the cheap clock.
      if (!(error instanceof DatapathError) || !/(unknown|invalid) func/.test(error.message))
        throw error
      return this.#load(portProgram({ coarseClock: false, isTunnel }))
    }
  }

  #load(program: Program): Loaded {
    const name = programName(this.#name, hashOf(program))
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

/** Tells what a program does. */
function hashOf({ code, relocations }: Program): string {
  return createHash('sha256').update(code).update(JSON.stringify(relocations)).digest('hex')
}
