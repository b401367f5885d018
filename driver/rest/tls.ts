/** The API over TCP: only with TLS, and only for who has a token. Off unless it is asked for. */
import { readFileSync } from 'node:fs'
import { createServer, type Server } from 'node:https'
import type { AddressInfo } from 'node:net'
import createDebug from 'debug'
import express, { type Express } from 'express'
import { DriverError } from '../error.ts'
import { limits as socketLimits } from '../socket.ts'
import { readTokens, requireToken } from './token.ts'

const log = createDebug('midonet:driver')

export interface TlsSettings {
  /** `host:port`, with an IPv6 address in brackets; port 0 takes a free one. */
  readonly listen: string
  /** PEM files, and the file of tokens (token.ts). Read again when asked (`reload`). */
  readonly certificate: string
  readonly key: string
  readonly tokens: string
}

export interface TlsServer {
  readonly port: number
  /** Reads certificate, key and tokens again; what is wrong with them is thrown, and nothing changes. */
  reload(): void
  close(): Promise<void>
}

/** @throws DriverError code `INVALID_OPTION` that says which file or setting is wrong */
export async function listenOnTls(settings: TlsSettings, api: Express): Promise<TlsServer> {
  const { host, port } = readListen(settings.listen)
  let tokens = readTokens(settings.tokens)
  const app = express()
  app.disable('x-powered-by')
  // The api's own handler of errors comes after: a refusal looks like any other.
  app.use(requireToken(() => tokens))
  app.use(api)
  app.use(refusal)
  const server = createServer({ ...readPair(settings), ...bounds }, app)
  server.maxConnections = socketLimits.connectionsMax
  server.on('tlsClientError', (error) => log('tls: %s', error.message))
  await listen(server, host, port)
  const address = server.address() as AddressInfo
  return {
    port: address.port,
    reload() {
      const next = readTokens(settings.tokens)
      server.setSecureContext({ ...readPair(settings), minVersion: bounds.minVersion })
      tokens = next
    },
    close: () => close(server),
  }
}

const bounds = {
  minVersion: 'TLSv1.2',
  handshakeTimeout: 10_000,
  maxHeaderSize: socketLimits.headerSizeMax,
  headersTimeout: socketLimits.headersMs,
  requestTimeout: socketLimits.requestMs,
} as const

const refusal: express.ErrorRequestHandler = (error, _, response, next) => {
  if (response.headersSent || !(error instanceof DriverError)) return next(error)
  const status = error.code === 'UNAUTHORIZED' ? 401 : 403
  response.status(status).json({ code: error.code, message: error.message })
}

function readListen(text: string): { readonly host: string; readonly port: number } {
  const found = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]]+)):(\d{1,5})$/.exec(text)
  const port = Number(found?.[3])
  const host = found?.[1] ?? found?.[2]
  if (host !== undefined && port <= 65535) return { host, port }
  throw invalid(`apiListen must be host:port such as 0.0.0.0:8443 or [::]:8443, not ${text}`)
}

function readPair({ certificate, key }: TlsSettings): {
  readonly cert: Buffer
  readonly key: Buffer
} {
  return { cert: read('apiCertificate', certificate), key: read('apiKey', key) }
}

function read(setting: string, path: string): Buffer {
  try {
    return readFileSync(path)
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error)
    throw invalid(`${setting}: ${reason}`)
  }
}

function listen(server: Server, host: string, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (error) => reject(invalid(`apiListen: ${error.message}`)))
    server.listen({ host, port }, () => {
      server.removeAllListeners('error')
      server.on('error', (error) => log('tls: %s', error))
      resolve()
    })
  })
}

function close(server: Server): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(() => server.closeAllConnections(), socketLimits.closeMs)
    server.close(() => {
      clearTimeout(timer)
      resolve()
    })
    server.closeIdleConnections()
  })
}

function invalid(message: string): DriverError {
  return new DriverError('INVALID_OPTION', message)
}
