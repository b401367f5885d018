/**
 * Docker's plugin protocol: POST /<call> with a JSON body, answered with JSON.
 *
 * An error is `{"Err": …}` for network calls and `{"Error": …}` for IPAM calls; both keys are sent
 * always. Refusals answer 200 (Docker then shows our sentence alone), bad bodies 400. After a lost
 * connection Docker sends a call again, but with an empty body: that is a 400 as well, never a call
 * with nothing in it.
 */
import createDebug from 'debug'
import express, { type Express, type NextFunction, type Request, type Response } from 'express'
import { type Call, type DriverContext, within } from './context.ts'
import { DriverError } from './error.ts'

const log = createDebug('midonet:driver')

export const limits = {
  bodySizeMax: 1024 * 1024,
  /** A call is answered by then, whatever happens. */
  answerMs: 20_000,
  /** A call waits this long for the store to be open. */
  readyMs: 5_000,
  callsMax: 1024,
} as const

export interface PluginCalls {
  /** Answered at once, without a store. */
  readonly plain: Readonly<Record<string, () => object>>
  /** By name, such as `NetworkDriver.Join`. */
  readonly calls: Readonly<Record<string, Call>>
  /** Calls whose error would harm: answered `{}` without a body, or when something goes wrong. */
  readonly lenient: Readonly<Record<string, Call>>
}

/** Other bounds than `limits`, for tests. */
export type PluginLimits = Partial<Record<keyof typeof limits, number>>

const contentType = 'application/vnd.docker.plugins.v1.1+json'

/** The express application for the plugin's socket. */
export function createPluginApp(
  { plain, calls, lenient }: PluginCalls,
  ready: Promise<DriverContext>,
  bounds: PluginLimits = {},
): Express {
  const { answerMs, readyMs, callsMax, bodySizeMax } = { ...limits, ...bounds }
  const app = express()
  app.disable('x-powered-by')
  app.disable('etag')
  app.use((_, response, next) => {
    // No connection is kept: Docker's next call then finds a new agent with its body unspent.
    response.set('Connection', 'close')
    next()
  })
  app.use(express.raw({ type: () => true, limit: bodySizeMax, inflate: false }))
  let running = 0
  app.post('/:call', async (request, response) => {
    const name = request.params.call ?? ''
    const answer = Object.hasOwn(plain, name) ? plain[name]?.() : undefined
    if (answer !== undefined) return send(response, 200, answer)
    const isLenient = Object.hasOwn(lenient, name)
    const table = isLenient ? lenient : calls
    const work = Object.hasOwn(table, name) ? table[name] : undefined
    if (work === undefined) return refuse(response, 404, `midonet: no method ${name.slice(0, 80)}`)
    running++
    try {
      if (running > callsMax)
        throw new DriverError('BUSY', 'midonet: too many calls at once; try again')
      const body = isLenient ? tryBody(request.body) : parseBody(name, request.body)
      const started = withContext(ready, readyMs, (context) => work(context, body))
      const late = `midonet: ${name} took longer than ${answerMs / 1000} s; try again`
      send(response, 200, await within(answerMs, late, started))
    } catch (error) {
      log('%s: %s', name, error)
      if (isLenient) send(response, 200, {})
      else refuse(response, statusOf(error), messageOf(error))
    } finally {
      running--
    }
  })
  app.use((request, response) => {
    refuse(response, 404, `midonet: no method ${request.method} ${request.path.slice(0, 80)}`)
  })
  app.use((error: unknown, _: Request, response: Response, next: NextFunction) => {
    if (response.headersSent) next(error)
    else refuse(response, httpStatus(error), `midonet: ${messageOf(error)}`)
  })
  return app
}

async function withContext(
  ready: Promise<DriverContext>,
  readyMs: number,
  work: (context: DriverContext) => Promise<object> | object,
): Promise<object> {
  const starting = 'midonet is starting: its store is not open yet; try again in a moment'
  return work(await within(readyMs, starting, ready))
}

/** @throws DriverError code `INVALID_REQUEST` for an empty body and for what is not JSON */
function parseBody(call: string, body: unknown): unknown {
  if (!Buffer.isBuffer(body) || body.length === 0)
    throw new DriverError(
      'INVALID_REQUEST',
      `midonet: ${call} came without a body (the connection to the agent was lost); try again`,
    )
  try {
    return JSON.parse(body.toString())
  } catch (error) {
    throw new DriverError('INVALID_REQUEST', `midonet: ${call}: the body is not JSON`, {
      cause: error,
    })
  }
}

function tryBody(body: unknown): unknown {
  try {
    return parseBody('', body)
  } catch {
    return undefined
  }
}

function statusOf(error: unknown): number {
  return error instanceof DriverError && error.code === 'INVALID_REQUEST' ? 400 : 200
}

/** Of errors of the body parser: 413 for a body over the limit, and so on. */
function httpStatus(error: unknown): number {
  const status = error instanceof Error && 'status' in error ? error.status : undefined
  return typeof status === 'number' && status >= 400 && status < 500 ? status : 500
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}

function refuse(response: Response, status: number, message: string): void {
  send(response, status, { Err: message, Error: message })
}

function send(response: Response, status: number, answer: object): void {
  response.status(status).set('Content-Type', contentType).end(JSON.stringify(answer))
}
