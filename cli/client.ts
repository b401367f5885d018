/** Talks to an agent's API: over its socket on this host, or over TLS with a token. */
import { readFileSync } from 'node:fs'
import { Agent, type ClientRequest, type IncomingMessage, request } from 'node:http'
import { CliError } from './error.ts'

/** An object of the topology as JSON has it. */
export interface Item {
  readonly id: string
  readonly [field: string]: unknown
}

/** One change of a transaction; a merge patch (RFC 7396) with `patch`. */
export interface Change {
  readonly op: 'create' | 'put' | 'patch' | 'delete'
  readonly kind: string
  readonly id?: string
  readonly value?: Readonly<Record<string, unknown>>
  readonly cascade?: boolean
}

export interface ClientSettings {
  readonly socketPath: string
  /** `https://host:port` instead of the socket. */
  readonly server?: string | undefined
  /** The file that holds the token, and the authority that signed the server's certificate. */
  readonly tokenFile?: string | undefined
  readonly caFile?: string | undefined
}

const limits = { answerMs: 30_000, answerSizeMax: 256 * 1024 * 1024, pageSize: 10_000 } as const

/** Asks one agent; one connection for all that is asked in turn. */
export class Client {
  readonly #settings: ClientSettings
  readonly #agent = new Agent({ keepAlive: true, maxSockets: 4 })

  constructor(settings: ClientSettings) {
    this.#settings = settings
  }

  /** All objects of a kind whose fields have these texts. @throws CliError */
  async list(kind: string, filters: Readonly<Record<string, string>> = {}): Promise<Item[]> {
    const query = new URLSearchParams({ ...filters, limit: String(limits.pageSize) })
    const items: Item[] = []
    let path: string | undefined = `/v1/${kind}?${query}`
    while (path !== undefined) {
      const { value, next } = await this.#ask('GET', path)
      items.push(...(value as Item[]))
      path = next
    }
    return items
  }

  /** Undefined when there is none. */
  async find(kind: string, id: string): Promise<Item | undefined> {
    const [item] = await this.list(kind, { id })
    return item
  }

  /** Does all of it or nothing; what each object is afterwards. @throws CliError with the reason */
  async transact(operations: readonly Change[]): Promise<readonly (Item | undefined)[]> {
    const { value } = await this.#ask('POST', '/v1/transaction', { operations })
    return (value as { results: { value?: Item }[] }).results.map((result) => result.value)
  }

  /** Docker's names, by the ids of ports, bridges and routers; none when nobody knows them. */
  async names(): Promise<Readonly<Record<string, string>>> {
    try {
      return (await this.call('GET', '/names')) as Readonly<Record<string, string>>
    } catch (error) {
      if (error instanceof CliError) return {}
      throw error
    }
  }

  /** Other parts of the API, such as `/trace`. */
  async call(method: 'GET' | 'POST', path: string, body?: unknown): Promise<unknown> {
    return (await this.#ask(method, path, body)).value
  }

  close(): void {
    this.#agent.destroy()
  }

  async #ask(method: string, path: string, body?: unknown, isAgain = false): Promise<Answer> {
    const sent = await this.#open(method, path)
    const text = body === undefined ? undefined : JSON.stringify(body)
    return new Promise((resolve, reject) => {
      sent.on('response', (incoming: IncomingMessage) => {
        receive(incoming).then(resolve, reject)
      })
      sent.setTimeout(limits.answerMs, () =>
        sent.destroy(new CliError('UNREACHABLE', 'the agent does not answer')),
      )
      sent.on('error', (error) => {
        // A connection that the agent closed because it was idle has brought nothing there.
        const isIdle = sent.reusedSocket && 'code' in error && error.code === 'ECONNRESET'
        if (isIdle && !isAgain) resolve(this.#ask(method, path, body, true))
        else reject(unreachable(this.#settings, error))
      })
      sent.end(text)
    })
  }

  async #open(method: string, path: string): Promise<ClientRequest> {
    const { server, socketPath, tokenFile, caFile } = this.#settings
    const headers = { 'content-type': 'application/json' }
    if (server === undefined)
      return request({ socketPath, path, method, headers, agent: this.#agent })
    const url = new URL(path, server)
    if (url.protocol !== 'https:')
      throw new CliError('UNREACHABLE', `${server}: must be https://HOST:PORT`)
    // Needed by few, and slow to load.
    const https = await import('node:https')
    const token = tokenFile === undefined ? '' : readSecret(tokenFile)
    const ca = caFile === undefined ? {} : { ca: readFileSync(caFile) }
    return https.request(url, {
      ...ca,
      method,
      headers: { ...headers, ...(token !== '' && { authorization: `Bearer ${token}` }) },
    })
  }
}

interface Answer {
  readonly value: unknown
  readonly next: string | undefined
}

/** The last word of the first line: a line of the agent's own file of tokens will do. */
function readSecret(path: string): string {
  return readFileSync(path, 'utf8').split('\n', 1)[0]?.trim().split(/\s+/).at(-1) ?? ''
}

async function receive(incoming: IncomingMessage): Promise<Answer> {
  const parts: Buffer[] = []
  let size = 0
  for await (const part of incoming) {
    size += part.length
    if (size > limits.answerSizeMax) throw new CliError('UNREACHABLE', 'the answer is too long')
    parts.push(part)
  }
  const text = Buffer.concat(parts).toString()
  const value = parse(text)
  if ((incoming.statusCode ?? 500) < 300)
    return { value, next: /<([^>]+)>; rel="next"/.exec(String(incoming.headers.link))?.[1] }
  const { message, code } = Object(value) as { message?: string; code?: string }
  throw new CliError('REFUSED', message ?? `the agent answered ${incoming.statusCode}`, {
    cause: code,
  })
}

function parse(text: string): unknown {
  try {
    return text === '' ? undefined : JSON.parse(text)
  } catch (error) {
    throw new CliError('UNREACHABLE', 'the agent answered what is not JSON', { cause: error })
  }
}

function unreachable({ socketPath, server }: ClientSettings, error: Error): Error {
  if (error instanceof CliError) return error
  const code = 'code' in error ? error.code : undefined
  const what =
    server !== undefined
      ? `${server}: ${error.message}`
      : code === 'ENOENT' || code === 'ECONNREFUSED'
        ? `no agent runs here (nothing listens at ${socketPath}); start one: midonet agent`
        : code === 'EACCES'
          ? `${socketPath} is for root only; try sudo`
          : error.message
  return new CliError('UNREACHABLE', what, { cause: error })
}
