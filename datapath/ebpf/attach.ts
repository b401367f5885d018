/**
 * How an interface runs a program: by tcx where the kernel has it and the interface is one that the
 * agent has made, else by a filter of `clsact`. An interface of the host's own keeps to filters: those
 * that somebody has set before ours stay in force, and one that moves to another network namespace
 * leaves a filter behind but would take a tcx program along.
 *
 * An interface begins with a filter and goes over to tcx when it has been there for a while. What is
 * there is replaced in its own way, so a packet never meets two, and never none.
 */
import { DatapathError } from '../datapath.ts'
import { isOwn } from '../lending.ts'
import { NetlinkError, type NetlinkSocket } from '../netlink.ts'
import { close } from '../syscall.ts'
import { type Direction, ensureClsact, findFilter, removeFilter, setFilter } from '../tc.ts'
import { describeProgramFd, openProgram } from './bpf.ts'
import { attachTcx, detachTcx, listTcx } from './tcx.ts'

/** A program in the kernel. */
export interface Loaded {
  readonly fd: number
  /** The kernel's number of it. */
  readonly id: number
}

export interface Attached {
  readonly programId: number
  readonly by: 'tcx' | 'filter'
}

/** So many characters of the datapath's name begin its programs' names, and so many tell them apart. */
const nameSize = 7

/** Names a program of a datapath within the kernel's 15 characters; `hash` says what it does. */
export function programName(datapath: string, hash: string): string {
  return `${datapath.slice(0, nameSize)}_${hash.slice(0, nameSize)}`
}

/** The program by which an interface is a port of the datapath `name`. */
export function findAttached(
  links: NetlinkSocket,
  index: number,
  name: string,
  direction: Direction = 'ingress',
): Attached | undefined {
  for (const programId of listTcx(index, direction) ?? [])
    if (isOfDatapath(programId, name)) return { programId, by: 'tcx' }
  const filter = findFilter(links, index, direction)
  return filter?.name === name ? { programId: filter.programId, by: 'filter' } : undefined
}

function isOfDatapath(programId: number, name: string): boolean {
  const fd = openProgram(programId)
  if (fd === undefined) return false
  const program = describeProgramFd(fd).name
  close(fd)
  return program.startsWith(programName(name, ''))
}

export interface Place {
  readonly index: number
  readonly interfaceName: string
  readonly direction: Direction
}

/**
 * Makes an interface run a program of the datapath `name`: in the way in which it runs one, else by a
 * filter, which the kernel takes at once. @throws DatapathError
 */
export function attach(links: NetlinkSocket, place: Place, name: string, program: Loaded): void {
  const { index, direction } = place
  const before = findAttached(links, index, name, direction)
  if (before?.by !== 'tcx') {
    attachFilter(links, index, direction, name, program.fd)
    return
  }
  const fd = openProgram(before.programId)
  // The kernel refuses to replace a program by itself.
  if (before.programId !== program.id) attachTcx(index, direction, program.fd, fd)
  if (fd !== undefined) close(fd)
  detachFilter(links, index, direction, name)
}

/**
 * Moves an interface's program from its filter to tcx where that can be; says whether it did. The
 * kernel waits meanwhile until no packet is under way, about 10 ms. While both are there tcx comes
 * first, and its program ends a packet's way. @throws DatapathError
 */
export function promote(
  links: NetlinkSocket,
  { index, interfaceName, direction }: Place,
  name: string,
  program: Loaded,
): boolean {
  const before = findAttached(links, index, name, direction)
  if (before?.by !== 'filter' || !isOwn(interfaceName) || !canFindTcx(index, program)) return false
  attachTcx(index, direction, program.fd)
  detachFilter(links, index, direction, name)
  return true
}

/** Takes the program of the datapath `name` away. None, or no interface, is no error. */
export function detach(links: NetlinkSocket, index: number, name: string): void {
  detachFilter(links, index, 'ingress', name)
  const before = findAttached(links, index, name)
  const fd = before === undefined ? undefined : openProgram(before.programId)
  if (fd === undefined) return
  detachTcx(index, 'ingress', fd)
  close(fd)
}

function detachFilter(
  links: NetlinkSocket,
  index: number,
  direction: Direction,
  name: string,
): void {
  if (findFilter(links, index, direction)?.name === name) removeFilter(links, index, direction)
}

/** Whether there is tcx, and the right to find a program again by its number: a filter needs none. */
function canFindTcx(index: number, { id }: Loaded): boolean {
  if (listTcx(index, 'ingress') === undefined) return false
  const fd = openProgram(id)
  if (fd !== undefined) close(fd)
  return fd !== undefined
}

function attachFilter(
  links: NetlinkSocket,
  index: number,
  direction: Direction,
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
