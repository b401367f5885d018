/**
 * Changes as they happen: server-sent events (WHATWG HTML section 9.2).
 *
 *   id: 17                                             the revision
 *   event: change
 *   data: {"kind":"port","id":"p1","value":{…}}        without value: deleted
 *
 * With `?list=true` all objects come first as changes of the current revision, then an event
 * `listed`. A reader who cannot follow is cut off rather than waited for, and may come again.
 */
import type { Request, Response } from 'express'
import { type Kind, kinds } from '../../topology/model.ts'
import type { Store } from '../../topology/store.ts'
import { DriverError } from '../error.ts'
import { readKind } from './operation.ts'

export const limits = {
  watchersMax: 64,
  /** Bytes of changes that may wait for a reader. */
  waitingSizeMax: 8 * 1024 * 1024,
  /** A comment is sent so often, so that dead connections are found. */
  beatMs: 15_000,
} as const

/** The streams of one API; they end with the store. */
export class Watchers {
  readonly #store: Promise<Store>
  #count = 0

  constructor(store: Promise<Store>) {
    this.#store = store
  }

  /** Answers a request with changes until its sender goes. @throws DriverError */
  async serve(request: Request, response: Response): Promise<void> {
    const { kind, list } = request.query
    const wanted = typeof kind === 'string' ? kind.split(',').map(readKind) : undefined
    if (this.#count >= limits.watchersMax)
      throw new DriverError('BUSY', `${limits.watchersMax} watch already; try again later`)
    this.#count++
    try {
      const store = await this.#store
      start(request, response)
      await stream(store, response, wanted && new Set(wanted), list === 'true')
    } finally {
      this.#count--
    }
  }
}

function start(request: Request, response: Response): void {
  // A stream is no request that takes too long.
  request.socket.setTimeout(0)
  response.writeHead(200, {
    'Content-Type': 'text/event-stream',
    'Cache-Control': 'no-store',
  })
  response.flushHeaders()
}

function stream(
  store: Store,
  response: Response,
  wanted: ReadonlySet<Kind> | undefined,
  list: boolean,
): Promise<void> {
  // What stands is sent whole, however much it is; a reader may be behind by that and a bit.
  let waitingSizeMax = Number.POSITIVE_INFINITY
  const send = (text: string) => {
    if (response.writableLength > waitingSizeMax) response.destroy()
    else response.write(text)
  }
  const tell = (revision: number, kind: Kind, id: string, value: unknown) => {
    if (wanted?.has(kind) === false) return
    send(`id: ${revision}\nevent: change\ndata: ${JSON.stringify({ kind, id, value })}\n\n`)
  }
  // One piece instead of one for each object.
  response.cork()
  if (list) {
    for (const kind of wanted ?? kinds)
      for (const value of store.list(kind)) tell(store.revision, kind, value.id, value)
    send(`id: ${store.revision}\nevent: listed\ndata: {}\n\n`)
  } else send(`id: ${store.revision}\nevent: ready\ndata: {}\n\n`)
  response.uncork()
  waitingSizeMax = limits.waitingSizeMax + response.writableLength
  const stop = store.watch(({ revision, changes }) => {
    for (const { kind, id, value } of changes) tell(revision, kind, id, value)
  })
  const beat = setInterval(() => send(':\n\n'), limits.beatMs)
  return new Promise((resolve) => {
    const end = () => {
      stop()
      clearInterval(beat)
      resolve()
    }
    // Its reader may have gone before the store was open.
    if (response.closed) end()
    else response.once('close', end)
  })
}
