/** Loads the programs, and attaches them where they run. */
import { DatapathError } from '../datapath.ts'
import { NetlinkError, type NetlinkSocket } from '../netlink.ts'
import { setLimit } from '../syscall.ts'
import { ensureClsact, setFilter } from '../tc.ts'
import { describeProgramFd, loadProgram } from './bpf.ts'
import type { Maps } from './maps.ts'
import { executeProgram, portProgram } from './program.ts'

/** Descriptors of the loaded programs. */
export interface Programs {
  readonly port: number
  readonly execute: number
  /** Names the instructions of the port program: the same for the same ones. */
  readonly portTag: string
}

const resourceMemlock = 8 // asm-generic/resource.h: RLIMIT_MEMLOCK

/** Before 5.11 the kernel counts maps as locked memory. Where that may not be raised, maps say so. */
export function raiseMemoryLimit(): void {
  setLimit(resourceMemlock, Number.POSITIVE_INFINITY)
}

/** @throws DatapathError with the verifier's words */
export function loadPrograms({ byName }: Maps): Programs {
  const port = loadPortProgram(byName)
  const execute = loadProgram('midonet_execute', executeProgram(), byName)
  return { port, execute, portTag: describeProgramFd(port).tag }
}

function loadPortProgram(maps: Maps['byName']): number {
  try {
    return loadProgram('midonet_port', portProgram({ coarseClock: true }), maps)
  } catch (error) {
    // Kernels before 5.11 do not know the cheap clock.
    if (!(error instanceof DatapathError) || !/(unknown|invalid) func/.test(error.message))
      throw error
    return loadProgram('midonet_port', portProgram({ coarseClock: false }), maps)
  }
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
