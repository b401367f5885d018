/**
 * A unix socket that only root can talk to, kept in place.
 *
 * The socket is bound inside a directory that nobody else can enter, made root-only there, and only
 * then moved to its place: there is no moment of wider access, and a stale socket is replaced
 * without a moment of absence. A socket at which somebody listens is left to them.
 */
import {
  chmodSync,
  linkSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  renameSync,
  rmSync,
  type Stats,
  unlinkSync,
} from 'node:fs'
import { createServer, type RequestListener, type Server } from 'node:http'
import { connect } from 'node:net'
import { dirname, join } from 'node:path'
import createDebug from 'debug'

const log = createDebug('midonet:driver')

export const limits = {
  headerSizeMax: 16 * 1024,
  headersMs: 5_000,
  /** For the whole request; the answer has its own deadline. */
  requestMs: 10_000,
  checkMs: 1_000,
  connectionsMax: 1024,
  probeMs: 2_000,
  closeMs: 2_000,
} as const

/** The socket cannot be had; the message says what to do. */
export class SocketError extends Error {
  override readonly name = 'SocketError'
  readonly code: 'IN_USE' | 'NOT_A_SOCKET' | 'FAILED'

  constructor(code: SocketError['code'], message: string, options?: ErrorOptions) {
    super(message, options)
    this.code = code
  }
}

export interface SocketServer {
  close(): Promise<void>
}

interface Bound {
  readonly server: Server
  readonly stats: Stats
}

/**
 * Listens at `path` until closed; a socket file that vanishes is made again and told to `report`.
 * @throws SocketError
 */
export async function listenOnSocket(
  path: string,
  handler: RequestListener,
  report: (what: string) => void = log,
): Promise<SocketServer> {
  let bound = await bind(path, handler)
  let busy = false
  const check = async () => {
    if (busy || inspect(path) !== undefined) return
    busy = true
    const old = bound
    try {
      bound = await bind(path, handler)
      void stop(old.server)
      report(`the socket ${path} had vanished; it is there again`)
    } catch (error) {
      log('%s cannot be made again: %s', path, error)
    } finally {
      busy = false
    }
  }
  const timer = setInterval(() => void check(), limits.checkMs)
  timer.unref()
  return {
    async close() {
      clearInterval(timer)
      if (isSame(inspect(path), bound.stats)) unlinkSync(path)
      await stop(bound.server)
    },
  }
}

async function bind(path: string, handler: RequestListener): Promise<Bound> {
  let staging: string | undefined
  const server = createServer(
    {
      maxHeaderSize: limits.headerSizeMax,
      headersTimeout: limits.headersMs,
      requestTimeout: limits.requestMs,
      connectionsCheckingInterval: limits.checkMs,
    },
    handler,
  )
  server.maxConnections = limits.connectionsMax
  try {
    mkdirSync(dirname(path), { recursive: true, mode: 0o755 })
    staging = mkdtempSync(join(dirname(path), '.midonet-'))
    const staged = join(staging, 's')
    await listen(server, staged)
    chmodSync(staged, 0o600)
    await place(staged, path)
    return { server, stats: lstatSync(path) }
  } catch (error) {
    server.close()
    if (error instanceof SocketError) throw error
    const reason = error instanceof Error ? error.message : String(error)
    throw new SocketError('FAILED', `cannot listen at ${path}: ${reason}`, { cause: error })
  } finally {
    if (staging !== undefined) rmSync(staging, { recursive: true, force: true })
  }
}

function listen(server: Server, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen({ path, backlog: limits.connectionsMax }, () => {
      server.off('error', reject)
      server.on('error', (error) => log('socket: %s', error))
      resolve()
    })
  })
}

/** Gives a bound socket its final name, unless somebody listens there. */
async function place(staged: string, path: string): Promise<void> {
  try {
    // Fails when the name exists, so that of two agents starting at once one sees the other.
    linkSync(staged, path)
    return
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'EEXIST')) throw error
  }
  if (inspect(path)?.isSocket() === false)
    throw new SocketError('NOT_A_SOCKET', `${path} is not a socket; remove it and start again`)
  if (await isAlive(path))
    throw new SocketError('IN_USE', `another agent listens at ${path}; stop it first`)
  renameSync(staged, path)
}

function isAlive(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = connect(path)
    const end = (alive: boolean) => {
      probe.destroy()
      resolve(alive)
    }
    probe.once('connect', () => end(true))
    // A full queue is somebody's, too.
    probe.once('error', (error) => end('code' in error && error.code === 'EAGAIN'))
    probe.setTimeout(limits.probeMs, () => end(true))
  })
}

function inspect(path: string): Stats | undefined {
  return lstatSync(path, { throwIfNoEntry: false })
}

function isSame(a: Stats | undefined, b: Stats): boolean {
  return a !== undefined && a.ino === b.ino && a.dev === b.dev
}

function stop(server: Server): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(() => server.closeAllConnections(), limits.closeMs)
    server.close(() => {
      clearTimeout(timer)
      resolve()
    })
    server.closeIdleConnections()
  })
}
