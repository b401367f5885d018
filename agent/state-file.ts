/**
 * What this agent knows of connections, in a file of the run directory, for the agent after it. The
 * file is made anew when forwarding starts, now and then beside it, a little at a time, and at the
 * end. It takes its place whole; a reboot, which ends all connections, takes it away.
 *
 *   "midonet flow state 1\n"   f64 ms of the monotonic clock   { u16 length   message } …
 */
import { closeSync, openSync, readFileSync, renameSync, rmSync, writeSync } from 'node:fs'
import createDebug from 'debug'
import type { Remembered } from '../simulator/state-memory.ts'

const log = createDebug('midonet:forwarding')

export const limits = {
  /** How old the file may be when the agent is killed. */
  intervalMs: 10_000,
  /** Pages written at once, and the pause after them. */
  pages: 16,
  pauseMs: 20,
} as const

const magic = Buffer.from('midonet flow state 1\n')
const headSize = magic.length + 8

/** A clock that agents of one host share. */
function monotonicMs(): number {
  return Number(process.hrtime.bigint()) / 1e6
}

/** Whose state is kept. */
export interface Knowing {
  readonly hasState: boolean
  statePages(): IterableIterator<Uint8Array>
}

/** What the agent before this one knew; undefined when there is nothing to be read. */
export function readStateFile(path: string): Remembered | undefined {
  let bytes: Buffer
  try {
    bytes = readFileSync(path)
  } catch (error) {
    if (!isMissing(error)) log('%s cannot be read: %s', path, error)
    return undefined
  }
  if (bytes.length < headSize || !bytes.subarray(0, magic.length).equals(magic)) return undefined
  const agoMs = monotonicMs() - bytes.readDoubleLE(magic.length)
  return Number.isFinite(agoMs) && agoMs >= 0 ? { pages: pagesIn(bytes), agoMs } : undefined
}

function* pagesIn(bytes: Buffer): IterableIterator<Uint8Array> {
  for (let at = headSize; at + 2 <= bytes.length; ) {
    const end = at + 2 + bytes.readUInt16LE(at)
    yield bytes.subarray(at + 2, end)
    at = end
  }
}

/** Keeps the file up to date; `tick` is cheap when nothing is due. Nothing of it throws. */
export class StateFile {
  readonly #path: string
  readonly #known: Knowing
  #fd: number | undefined
  #pages: Iterator<Uint8Array> | undefined
  /** At once: what an agent has just read off flows may soon be in none. */
  #nextMs = Number.NEGATIVE_INFINITY
  #isEmpty = false
  #problem = ''

  constructor(path: string, known: Knowing) {
    this.#path = path
    this.#known = known
  }

  /** When there is something to do next. */
  get nextMs(): number {
    return this.#nextMs
  }

  /** Writes the next pages when it is time. A file that cannot be written is told of once. */
  tick(nowMs: number): void {
    if (nowMs < this.#nextMs) return
    const isDone = this.#attempt(() => this.#goOn(limits.pages))
    this.#nextMs = nowMs + (isDone ? limits.intervalMs : limits.pauseMs)
  }

  /** Writes all that is known now. */
  close(): void {
    this.#abandon()
    this.#attempt(() => this.#goOn(Number.POSITIVE_INFINITY))
  }

  /** Returns whether the file is in its place. */
  #goOn(count: number): boolean {
    if (this.#fd === undefined) {
      // No connections, as in the file before.
      if (this.#isEmpty && !this.#known.hasState) return true
      this.#isEmpty = !this.#known.hasState
      this.#fd = openSync(`${this.#path}.new`, 'w', 0o600)
      this.#pages = this.#known.statePages()
      const head = Buffer.alloc(headSize)
      head.set(magic)
      head.writeDoubleLE(monotonicMs(), magic.length)
      writeSync(this.#fd, head)
    }
    for (let left = count; left > 0; left--) {
      const next = this.#pages?.next()
      if (next === undefined || next.done === true) return this.#finish(this.#fd)
      const page = Buffer.alloc(2 + next.value.length)
      page.writeUInt16LE(next.value.length)
      page.set(next.value, 2)
      writeSync(this.#fd, page)
    }
    return false
  }

  #finish(fd: number): true {
    this.#fd = undefined
    closeSync(fd)
    renameSync(`${this.#path}.new`, this.#path)
    this.#problem = ''
    return true
  }

  #attempt(write: () => boolean): boolean {
    try {
      return write()
    } catch (error) {
      this.#abandon()
      this.#isEmpty = false
      const problem = error instanceof Error ? error.message : String(error)
      if (problem !== this.#problem)
        console.error(
          `midonet: connections are not kept for the next agent: ${problem}; let root write there, and make room`,
        )
      this.#problem = problem
      return true
    }
  }

  #abandon(): void {
    if (this.#fd === undefined) return
    closeSync(this.#fd)
    this.#fd = undefined
    rmSync(`${this.#path}.new`, { force: true })
  }
}

function isMissing(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'ENOENT'
}
