/** The agent's own API on a unix socket for root: status, traces, and the topology. */
import createDebug from 'debug'
import express, { type Express, type NextFunction, type Request, type Response } from 'express'
import { InvalidObjectError, StoreError, TopologyError } from '../topology/error.ts'
import type { Revision, Store } from '../topology/store.ts'
import { exportText } from '../topology/transfer.ts'
import { within } from './context.ts'
import { DriverError } from './error.ts'
import { readRequest, requests } from './request.ts'
import { createObjectsRouter } from './rest/objects.ts'

const log = createDebug('midonet:driver')

export const limits = { bodySizeMax: 1024 * 1024, answerMs: 14_000 } as const

export interface ApiSettings {
  readonly store: Promise<Store>
  /** Resolves when datapath and gateway reflect a revision. */
  readonly settled?: (revision: Revision) => Promise<void>
  readonly status: () => Promise<unknown>
  readonly trace: (port: string, packet: string) => Promise<unknown>
  /** What trace requests have told: the one named, or how all stand. */
  readonly traces?: ((request: string | undefined) => Promise<unknown>) | undefined
  /** Does a command of `midonet dpctl`. */
  readonly dpctl?:
    | ((command: Dpctl['command'], words: readonly string[]) => Promise<unknown>)
    | undefined
  /** Docker's names of containers and networks, by endpoint's and network's id. */
  readonly names?: (() => ReadonlyMap<string, string>) | undefined
  /** Answers a call of CNI, in bounded time, refusals included. */
  readonly cni?: ((body: unknown) => Promise<unknown>) | undefined
}

type Dpctl = ReturnType<typeof requests.dpctl.parse>

/** The express application for the agent's socket. */
export function createApi(settings: ApiSettings): Express {
  const { store, settled, status, trace, traces, dpctl, cni, names } = settings
  const app = express()
  app.disable('x-powered-by')
  app.disable('etag')
  app.use(express.json({ type: () => true, limit: limits.bodySizeMax, inflate: false }))
  const late = 'the agent did not answer in time; see its log'
  const answer = async (response: Response, work: Promise<unknown>) => {
    response.json(await within(limits.answerMs, late, work))
  }
  app.get('/status', (_, response) => answer(response, status()))
  // All of one revision, secrets too, for `midonet store export` beside a running agent.
  app.get('/topology', (request, response) => {
    if (request.secure)
      throw new DriverError('FORBIDDEN', 'the whole topology holds secrets; ask on the host itself')
    return answer(
      response,
      store.then((opened) => ({ text: exportText(opened) })),
    )
  })
  app.post('/trace', (request, response) => {
    const { port, packet } = readRequest('trace', requests.trace, request.body)
    return answer(response, refusing(trace(port, packet)))
  })
  app.get(['/traces', '/traces/:id'], (request, response) => {
    if (traces === undefined) throw new DriverError('NOT_FOUND', 'no forwarding runs here')
    const id: unknown = request.params.id
    return answer(response, refusing(traces(typeof id === 'string' ? id : undefined)))
  })
  app.post('/dpctl', (request, response) => {
    const { command, words } = readRequest('dpctl', requests.dpctl, request.body)
    if (dpctl === undefined) throw new DriverError('NOT_FOUND', 'no datapath runs here')
    return answer(response, refusing(dpctl(command, words)))
  })
  app.get('/names', (_, response) => {
    response.json(Object.fromEntries(names?.() ?? []))
  })
  app.post('/cni', async (request, response) => {
    if (cni === undefined) throw new DriverError('NOT_FOUND', 'no containers are attached here')
    response.json(await cni(request.body))
  })
  app.use('/v1', createObjectsRouter({ store, settled }))
  app.use((request) => {
    const what = `${request.method} ${request.path.slice(0, 80)}`
    throw new DriverError('NOT_FOUND', `no such resource: ${what}`)
  })
  app.use((error: unknown, _: Request, response: Response, next: NextFunction) => {
    log('api: %s', error)
    if (response.headersSent) return next(error)
    const message = error instanceof Error ? error.message : String(error)
    const code = error instanceof Error && 'code' in error ? String(error.code) : 'INTERNAL'
    const field = error instanceof InvalidObjectError ? { field: error.field } : {}
    response.status(statusOf(error)).json({ code, message, ...field })
  })
  return app
}

/** Such work is refused for what was asked, not for a fault of ours. */
async function refusing(work: Promise<unknown>): Promise<unknown> {
  try {
    return await work
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error)
    throw new DriverError('INVALID_REQUEST', message, { cause: error })
  }
}

const statuses: Partial<Record<DriverError['code'], number>> = {
  INVALID_REQUEST: 400,
  UNAUTHORIZED: 401,
  FORBIDDEN: 403,
  NOT_FOUND: 404,
  CONFLICT: 409,
  PRECONDITION_FAILED: 412,
  TIMEOUT: 503,
  BUSY: 503,
}

function statusOf(error: unknown): number {
  if (error instanceof DriverError) return statuses[error.code] ?? 500
  if (error instanceof InvalidObjectError) return 400
  if (error instanceof TopologyError) return error.code === 'INVALID' ? 400 : 409
  if (error instanceof StoreError) return 503
  const status = error instanceof Error && 'status' in error ? error.status : undefined
  return typeof status === 'number' && status >= 400 && status < 500 ? status : 500
}
