/** The agent's own API on a unix socket for root: status, traces, and reading the topology. */
import createDebug from 'debug'
import express, { type Express, type NextFunction, type Request, type Response } from 'express'
import { type Kind, kinds } from '../topology/model.ts'
import type { Store } from '../topology/store.ts'
import { within } from './context.ts'
import { DriverError } from './error.ts'
import { readRequest, requests } from './request.ts'

const log = createDebug('midonet:driver')

export const limits = { bodySizeMax: 1024 * 1024, answerMs: 14_000, readyMs: 5_000 } as const

export interface ApiSettings {
  readonly store: Promise<Store>
  readonly status: () => Promise<unknown>
  readonly trace: (port: string, packet: string) => Promise<unknown>
  /** Does a command of `midonet dpctl`. */
  readonly dpctl?:
    | ((command: Dpctl['command'], words: readonly string[]) => Promise<unknown>)
    | undefined
}

type Dpctl = ReturnType<typeof requests.dpctl.parse>

/** The express application for the agent's socket. */
export function createApi({ store, status, trace, dpctl }: ApiSettings): Express {
  const app = express()
  app.disable('x-powered-by')
  app.disable('etag')
  app.use(express.json({ type: () => true, limit: limits.bodySizeMax, inflate: false }))
  const opened = () => within(limits.readyMs, 'the store is not open yet; try again', store)
  const late = 'the agent did not answer in time; see its log'
  const answer = async (response: Response, work: Promise<unknown>) => {
    response.json(await within(limits.answerMs, late, work))
  }
  app.get('/status', (_, response) => answer(response, status()))
  app.post('/trace', (request, response) => {
    const { port, packet } = readRequest('trace', requests.trace, request.body)
    return answer(response, refusing(trace(port, packet)))
  })
  app.post('/dpctl', (request, response) => {
    const { command, words } = readRequest('dpctl', requests.dpctl, request.body)
    if (dpctl === undefined) throw new DriverError('NOT_FOUND', 'no datapath runs here')
    return answer(response, refusing(dpctl(command, words)))
  })
  app.get('/v1/:kind', async (request, response) => {
    const kind = readKind(request.params.kind)
    await answer(
      response,
      opened().then((reader) => reader.list(kind)),
    )
  })
  app.get('/v1/:kind/:id', async (request, response) => {
    const kind = readKind(request.params.kind)
    const value = (await opened()).get(kind, request.params.id)
    if (value === undefined) throw new DriverError('NOT_FOUND', `no ${kind} has this id`)
    response.json(value)
  })
  app.use((request) => {
    const what = `${request.method} ${request.path.slice(0, 80)}`
    throw new DriverError('NOT_FOUND', `no such resource: ${what}`)
  })
  app.use((error: unknown, _: Request, response: Response, next: NextFunction) => {
    log('api: %s', error)
    if (response.headersSent) return next(error)
    const message = error instanceof Error ? error.message : String(error)
    const code = error instanceof Error && 'code' in error ? String(error.code) : 'INTERNAL'
    response.status(statusOf(error)).json({ code, message })
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

function readKind(text: string): Kind {
  const kind = kinds.find((name) => name === text)
  if (kind !== undefined) return kind
  throw new DriverError('NOT_FOUND', `no kind ${text.slice(0, 40)}; there are ${kinds.join(', ')}`)
}

const statuses: Partial<Record<DriverError['code'], number>> = {
  INVALID_REQUEST: 400,
  NOT_FOUND: 404,
  TIMEOUT: 503,
}

function statusOf(error: unknown): number {
  if (error instanceof DriverError) return statuses[error.code] ?? 500
  const status = error instanceof Error && 'status' in error ? error.status : undefined
  return typeof status === 'number' && status >= 400 && status < 500 ? status : 500
}
