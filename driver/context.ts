/** What the calls of both drivers work with, and the small tools they share. */
import type { Links } from '../datapath/link.ts'
import type { Revision, Store } from '../topology/store.ts'
import { DriverError } from './error.ts'

export interface DriverContext {
  readonly store: Store
  readonly links: Links
  readonly host: string
  readonly settled: (revision: Revision) => Promise<void>
  readonly recent: Recent
  /** One call at a time for one network or endpoint. */
  readonly turns: Turns
  /** Tells of a repair. */
  readonly report: (what: string) => void
}

export const limits = {
  /** The datapath and the gateway have taken a change by then, or the call is taken back. */
  settleMs: 12_000,
} as const

/** Answers a call; an undefined body means that none was sent. */
export type Call = (context: DriverContext, body: unknown) => Promise<object> | object

/**
 * When calls last touched an id. What was touched a moment ago may be half-way between Docker and
 * us, and is not judged yet. Ids never touched are as old as can be.
 */
export class Recent {
  readonly #touched = new Map<string, number>()
  readonly #now: () => number
  readonly #graceMs: number

  constructor(now: () => number, graceMs = 20_000) {
    this.#now = now
    this.#graceMs = graceMs
  }

  touch(id: string): void {
    const now = this.#now()
    this.#touched.delete(id)
    this.#touched.set(id, now)
    // Oldest first: what is over the grace goes, so the map holds a few seconds of calls.
    for (const [old, at] of this.#touched) {
      if (now - at < this.#graceMs) break
      this.#touched.delete(old)
    }
  }

  has(id: string): boolean {
    const at = this.#touched.get(id)
    return at !== undefined && this.#now() - at < this.#graceMs
  }
}

/** Runs work that has the same key one after another, in the order it came. */
export class Turns {
  readonly #last = new Map<string, Promise<unknown>>()

  async take<T>(key: string, work: () => Promise<T>): Promise<T> {
    const before = this.#last.get(key) ?? Promise.resolve()
    const mine = before.then(work, work)
    this.#last.set(key, mine)
    try {
      return await mine
    } finally {
      if (this.#last.get(key) === mine) this.#last.delete(key)
    }
  }
}

/** Waits at most `ms`. @throws DriverError code `TIMEOUT` with `message` */
export async function within<T>(ms: number, message: string, work: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new DriverError('TIMEOUT', message)), ms)
  })
  try {
    return await Promise.race([work, late])
  } finally {
    clearTimeout(timer)
  }
}

/** Waits until packets and the host see a revision. @throws DriverError code `TIMEOUT` */
export function settle({ settled }: DriverContext, revision: Revision): Promise<void> {
  const late = 'midonet: forwarding did not take the change in time; see midonet status'
  return within(limits.settleMs, late, settled(revision))
}
