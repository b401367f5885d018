/** A client of the API for tests: headers both ways, and streams. */
import { type IncomingHttpHeaders, request } from 'node:http'

export interface RestAnswer {
  readonly status: number
  readonly headers: IncomingHttpHeaders
  readonly text: string
  /** Undefined when the body is not JSON. */
  readonly body: unknown
}

export interface RestRequest {
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: unknown
}

/** Asks the API on a unix socket. A string body is sent as it is. */
export function rest(
  socketPath: string,
  method: string,
  path: string,
  { headers = {}, body }: RestRequest = {},
): Promise<RestAnswer> {
  return new Promise((resolve, reject) => {
    const outgoing = request({ socketPath, method, path, headers, agent: false }, (incoming) => {
      const parts: Buffer[] = []
      incoming.on('data', (part: Buffer) => parts.push(part))
      incoming.on('error', reject)
      incoming.on('end', () => {
        const text = Buffer.concat(parts).toString()
        resolve({
          status: incoming.statusCode ?? 0,
          headers: incoming.headers,
          text,
          body: parse(text),
        })
      })
    })
    outgoing.on('error', reject)
    outgoing.end(body === undefined || typeof body === 'string' ? body : JSON.stringify(body))
  })
}

/** Events of a stream until `until` says so of the end of the text so far. */
export function events(
  socketPath: string,
  path: string,
  until: (text: string) => boolean,
): { readonly opened: Promise<void>; readonly text: Promise<string> } {
  let open = () => {}
  const opened = new Promise<void>((resolve) => {
    open = resolve
  })
  const text = new Promise<string>((resolve, reject) => {
    const outgoing = request({ socketPath, path, agent: false }, (incoming) => {
      const parts: string[] = []
      let tail = ''
      incoming.setEncoding('utf8')
      incoming.on('data', (part: string) => {
        parts.push(part)
        tail = `${tail}${part}`.slice(-1000)
        open()
        if (!until(tail)) return
        outgoing.destroy()
        resolve(parts.join(''))
      })
    })
    outgoing.on('error', reject)
    outgoing.end()
  })
  return { opened, text }
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
