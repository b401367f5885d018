/** Calls of an agent's sockets that end in bounded time, whatever befalls the agent. */
import { request } from 'node:http'

export interface Called {
  /** Undefined when nobody knows what became of the call; `none` when it was not even begun. */
  readonly outcome: 'answered' | 'none' | undefined
  readonly status: number
  readonly text: string
}

export interface CallRequest {
  readonly body?: object
  readonly headers?: Readonly<Record<string, string>>
  readonly ms?: number
}

/** Calls, and says what came of it. Never rejects. */
export function call(
  socketPath: string,
  method: string,
  path: string,
  { body, headers = {}, ms = 4_000 }: CallRequest = {},
): Promise<Called> {
  return new Promise((resolve) => {
    const options = { socketPath, method, path, headers, agent: false }
    const outgoing = request({ ...options, signal: AbortSignal.timeout(ms) }, (incoming) => {
      const parts: Buffer[] = []
      incoming.on('data', (part: Buffer) => parts.push(part))
      incoming.on('error', () => resolve({ outcome: undefined, status: 0, text: '' }))
      incoming.on('end', () => {
        const text = Buffer.concat(parts).toString()
        resolve({ outcome: 'answered', status: incoming.statusCode ?? 0, text })
      })
    })
    outgoing.on('error', (error) => {
      const code = 'code' in error ? error.code : undefined
      const outcome = code === 'ENOENT' || code === 'ECONNREFUSED' ? 'none' : undefined
      resolve({ outcome, status: 0, text: '' })
    })
    outgoing.end(body === undefined ? undefined : JSON.stringify(body))
  })
}

/** All objects of an agent, by `kind/id`; undefined when it does not answer in time. */
export function objectsOf(
  socketPath: string,
  ms = 1_000,
): Promise<Map<string, string> | undefined> {
  return new Promise((resolve) => {
    const path = '/v1/watch?list=true'
    const signal = AbortSignal.timeout(ms)
    const outgoing = request({ socketPath, path, agent: false, signal }, (incoming) => {
      let text = ''
      incoming.setEncoding('utf8')
      incoming.on('error', () => resolve(undefined))
      incoming.on('data', (part: string) => {
        text += part
        if (!text.includes('event: listed\n')) return
        outgoing.destroy()
        resolve(parse(text.slice(0, text.indexOf('event: listed\n'))))
      })
    })
    outgoing.on('error', () => resolve(undefined))
    outgoing.end()
  })
}

function parse(text: string): Map<string, string> {
  const found = new Map<string, string>()
  for (const line of text.split('\n')) {
    if (!line.startsWith('data: ')) continue
    const { kind, id, value } = JSON.parse(line.slice('data: '.length))
    found.set(`${kind}/${id}`, canonical(value))
  }
  return found
}

/** The same text for the same value, whatever the order of its fields. */
export function canonical(value: unknown): string {
  return JSON.stringify(value, (_, part: unknown) =>
    typeof part === 'object' && part !== null && !Array.isArray(part)
      ? Object.fromEntries(Object.entries(part).sort(([a], [b]) => (a < b ? -1 : 1)))
      : part,
  )
}
