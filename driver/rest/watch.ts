/**
 * Changes as they happen: server-sent events (WHATWG HTML section 9.2).
 *
 *   id: 17                                             the revision
 *   event: change
 *   data: {"kind":"port","id":"p1","value":{…}}        without value: deleted
 *
 * With `?list=true` all objects come first as changes of the current revision, then an event
 * `listed`. With `?applied=true` a change is told once this host's datapath reflects it. A reader
 * who cannot follow is cut off rather than waited for, and may come again.
 */
import type { Request, Response } from 'express'
import { type Kind, kinds, type ObjectOf } from '../../topology/model.ts'
import type { ChangeBatch, Revision, Store } from '../../topology/store.ts'
import { DriverError } from '../error.ts'
import { readKind } from './operation.ts'
import { tellable } from './secret.ts'

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
  readonly #settled: ((revision: Revision) => Promise<void>) | undefined
  #count = 0

  constructor(store: Promise<Store>, settled?: (revision: Revision) => Promise<void>) {
    this.#store = store
    this.#settled = settled
  }

  /** Answers a request with changes until its sender goes. @throws DriverError */
  async serve(request: Request, response: Response): Promise<void> {
    const { kind, list, applied } = request.query
    const wanted = typeof kind === 'string' ? kind.split(',').map(readKind) : undefined
    if (this.#count >= limits.watchersMax)
      throw new DriverError('BUSY', `${limits.watchersMax} watch already; try again later`)
    this.#count++
    try {
      const store = await this.#store
      start(request, response)
      const settled = applied === 'true' ? this.#settled : undefined
      await stream(store, response, {
        wanted: wanted && new Set(wanted),
        list: list === 'true',
        settled,
      })
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

interface Wish {
  readonly wanted: ReadonlySet<Kind> | undefined
  readonly list: boolean
  /** Changes are told when this resolves. */
  readonly settled: ((revision: Revision) => Promise<void>) | undefined
}

function stream(store: Store, response: Response, { wanted, list, settled }: Wish): Promise<void> {
  // What stands is sent whole, however much it is; a reader may be behind by that and a bit.
  let waitingSizeMax = Number.POSITIVE_INFINITY
  const send = (text: string) => {
    if (response.writableLength > waitingSizeMax) response.destroy()
    else response.write(text)
  }
  const tell = (revision: number, kind: Kind, id: string, object: ObjectOf<Kind> | undefined) => {
    if (wanted?.has(kind) === false) return
    const value = object && tellable(kind, object)
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
  const tellBatch = ({ revision, changes }: ChangeBatch) => {
    for (const { kind, id, value } of changes) tell(revision, kind, id, value)
  }
  let last = Promise.resolve()
  const stop = store.watch((batch) => {
    if (settled === undefined) return tellBatch(batch)
    // A datapath that does not take it in time is cut off from its readers, as they are when slow.
    const isApplied = settled(batch.revision).then(
      () => true,
      () => false,
    )
    last = last.then(async () => {
      if (await isApplied) tellBatch(batch)
      else response.destroy()
      // Now, not after what else this moment brings, such as the answer to who made the change.
      response.socket?.uncork()
    })
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
