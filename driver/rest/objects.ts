/**
 * The topology over HTTP: every kind of object is a collection.
 *
 *   GET    /v1/KIND?FIELD=VALUE&limit=&after=   a page; the next one is in the header Link
 *   POST   /v1/KIND                             makes one; 201, Location
 *   GET    /v1/KIND/ID                          with its ETag
 *   PUT    /v1/KIND/ID                          replaces or makes it (If-Match, If-None-Match)
 *   PATCH  /v1/KIND/ID                          changes fields (JSON Merge Patch, RFC 7396)
 *   DELETE /v1/KIND/ID?cascade=true             with its parts
 *   GET    /v1/KIND/ID/KIND2                    the objects of KIND2 that name this one
 *   POST   /v1/transaction                      several changes, all or nothing
 *   GET    /v1/watch?kind=A,B&list=true         changes as they happen (server-sent events);
 *                                               applied=true: once the datapath reflects them
 *   GET    /v1/openapi.json                     all this for machines
 */
import { randomUUID } from 'node:crypto'
import { type Request, type Response, Router } from 'express'
import { referencesOf } from '../../topology/mark.ts'
import { type Kind, kinds, type ObjectOf } from '../../topology/model.ts'
import type { Entry } from '../../topology/objects.ts'
import type { Revision, Store } from '../../topology/store.ts'
import { within } from '../context.ts'
import { DriverError } from '../error.ts'
import { readRequest } from '../request.ts'
import { etagOf, names, type Precondition } from './etag.ts'
import { describeApi } from './openapi.ts'
import {
  applyOperation,
  type Done,
  type Operation,
  readKind,
  readOperations,
  transactionSchema,
} from './operation.ts'
import { pageOf, readListQuery } from './query.ts'
import { tellable, tellableAll } from './secret.ts'
import { Watchers } from './watch.ts'

export const limits = { readyMs: 5_000, commitMs: 12_000 } as const

interface Settings {
  readonly store: Promise<Store>
  /** Resolves when datapath and gateway reflect a revision. */
  readonly settled?: ((revision: Revision) => Promise<void>) | undefined
}

/** What `/v1` of the API answers. */
export function createObjectsRouter({ store, settled }: Settings): Router {
  const router = Router({ caseSensitive: true, strict: true })
  const opened = () => within(limits.readyMs, 'the store is not open yet; try again', store)
  const commit = async (operations: readonly Operation[]) => {
    const work = (await opened()).transact((draft) =>
      operations.map((operation) => applyOperation(draft, operation)),
    )
    const late = 'the store took too long; read again whether the change was made'
    const { value, revision } = await within(limits.commitMs, late, work)
    // The change stands; a datapath that is late will follow.
    await within(limits.commitMs, late, settled?.(revision) ?? Promise.resolve()).catch(() => {})
    return { done: value, revision }
  }
  const watchers = new Watchers(store, settled)

  router.get('/', (_, response) => {
    response.json({ kinds })
  })
  router.get('/openapi.json', (_, response) => {
    response.json(describeApi())
  })
  router.get('/watch', (request, response) => watchers.serve(request, response))
  router.post('/transaction', async (request, response) => {
    const body = readRequest('transaction', transactionSchema, request.body)
    const { done, revision } = await commit(readOperations(body))
    response.json({
      revision,
      results: done.map(({ kind, id, value }) => ({ kind, id, ...(value && { value }) })),
    })
  })
  router.get('/:kind', async (request, response) => {
    const kind = readKind(request.params.kind)
    sendPage(request, response, tellableAll(kind, (await opened()).list(kind)))
  })
  router.post('/:kind', async (request, response) => {
    const value = readBody(request)
    const inside = Object.getOwnPropertyDescriptor(value, 'id')?.value
    const id = typeof inside === 'string' ? inside : randomUUID()
    const operation = operationOf('create', readKind(request.params.kind), id, request)
    sendDone(response, (await commit([{ ...operation, value }])).done[0])
  })
  router.get('/:kind/:id', async (request, response) => {
    const value = find(await opened(), readKind(request.params.kind), request.params.id)
    response.set('ETag', etagOf(value))
    if (names(request.headers['if-none-match'] ?? '', value)) response.status(304).end()
    else response.json(value)
  })
  router.get('/:kind/:id/:part', async (request, response) => {
    const [kind, part] = [readKind(request.params.kind), readKind(request.params.part)]
    const reader = await opened()
    find(reader, kind, request.params.id)
    sendPage(request, response, usersOf(reader, kind, request.params.id, part))
  })
  for (const op of ['put', 'patch'] as const)
    router[op]('/:kind/:id', async (request, response) => {
      const { kind, id } = request.params
      const operation = operationOf(op, readKind(kind), id, request)
      const value = readBody(request)
      sendDone(response, (await commit([{ ...operation, value }])).done[0])
    })
  router.delete('/:kind/:id', async (request, response) => {
    const { kind, id } = request.params
    const operation = operationOf('delete', readKind(kind), id, request)
    await commit([{ ...operation, cascade: request.query.cascade === 'true' }])
    response.status(204).end()
  })
  return router
}

function operationOf(op: Operation['op'], kind: Kind, id: string, request: Request): Operation {
  const precondition: Precondition = {
    ifMatch: request.headers['if-match'],
    ifNoneMatch: request.headers['if-none-match'],
  }
  return { op, kind, id, precondition }
}

function readBody({ body }: Request): object {
  if (typeof body === 'object' && body !== null && !Array.isArray(body)) return body
  throw new DriverError('INVALID_REQUEST', 'the body must be a JSON object')
}

function find(store: Store, kind: Kind, id: string): ObjectOf<Kind> {
  const value = store.get(kind, id)
  if (value !== undefined) return tellable(kind, value)
  throw new DriverError('NOT_FOUND', `no ${kind} has the id ${id.slice(0, 192)}`)
}

/** The objects of `part` that name object `id` of `kind`. */
function usersOf(store: Store, kind: Kind, id: string, part: Kind): readonly ObjectOf<Kind>[] {
  return tellableAll(part, store.list(part)).filter((value) => {
    // Kind and value come from the same list; the type system cannot see it.
    const entry = { kind: part, id: value.id, value } as Entry
    return referencesOf(entry).some((reference) => reference.kind === kind && reference.id === id)
  })
}

function sendPage(request: Request, response: Response, list: readonly ObjectOf<Kind>[]): void {
  const query = readListQuery(request.query)
  const { items, next } = pageOf(list, query)
  if (next !== undefined) {
    const url = new URL(request.originalUrl, 'http://agent')
    url.searchParams.set('after', next)
    response.set('Link', `<${url.pathname}${url.search}>; rel="next"`)
  }
  response.json(items)
}

function sendDone(response: Response, done: Done | undefined): void {
  if (done?.value === undefined) throw new DriverError('NOT_FOUND', 'the object is gone')
  response.set('ETag', etagOf(done.value))
  if (done.created) response.status(201).location(`/v1/${done.kind}/${encodeURIComponent(done.id)}`)
  response.json(done.value)
}
