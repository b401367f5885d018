/**
 * etcd's v3 API over gRPC: endpoints tried in turn, TLS, user and password.
 *
 * Passwords and tokens go into no message and no log.
 */
import { readFileSync } from 'node:fs'
import {
  ChannelCredentials,
  Client,
  type ClientDuplexStream,
  connectivityState,
  Metadata,
  type ServiceError,
  status,
} from '@grpc/grpc-js'
import debug from 'debug'
import { StoreError } from './error.ts'
import {
  type Comparison,
  decodeAuthenticate,
  decodeKeepAlive,
  decodeRange,
  decodeTxn,
  decodeWatch,
  encodeAuthenticate,
  encodeCompaction,
  encodeGrant,
  encodeKeepAlive,
  encodeProgress,
  encodeRange,
  encodeTxn,
  encodeWatch,
  type Operation,
  type RangeAnswer,
  type RangeQuery,
  type TxnAnswer,
  type WatchAnswer,
} from './etcd-message.ts'

const log = debug('midonet:etcd')

/** How to reach etcd. */
export interface EtcdAccess {
  readonly endpoints: readonly string[]
  /** Files in PEM. With a CA (or certificate) the connection is TLS. */
  readonly caFile?: string | undefined
  readonly certFile?: string | undefined
  readonly keyFile?: string | undefined
  readonly user?: string | undefined
  readonly password?: string | undefined
}

const limits = {
  /** Until an endpoint has taken a connection, and the first attempt; doubled with each round. */
  connectMs: 400,
  attemptMs: 600,
  /** The whole of a call. */
  callMs: 5_000,
  keepMs: 1_500,
  /** Tokens that a call tries: they end by time, and with the member's memory. */
  tokens: 2,
  reconnectMs: 100,
  reconnectMsMax: 250,
} as const

const channelOptions = {
  'grpc.max_receive_message_length': -1,
  'grpc.max_send_message_length': -1,
  'grpc.initial_reconnect_backoff_ms': limits.reconnectMs,
  'grpc.min_reconnect_backoff_ms': limits.reconnectMs,
  'grpc.max_reconnect_backoff_ms': limits.reconnectMsMax,
  'grpc.enable_retries': 0,
  // Two clients of the same endpoint must not share a connection that one of them closes.
  'grpc.use_local_subchannel_pool': 1,
} as const

/** What a watch tells; `ended` comes once, last. */
export interface WatchListener {
  answer(answer: WatchAnswer): void
  ended(error: StoreError): void
}

/** A running watch. */
export interface WatchHandle {
  /** Asks for a sign of life, which comes as an answer without events. */
  probe(): void
  close(): void
}

/** What the store asks of etcd. */
export type EtcdCalls = Pick<
  EtcdClient,
  'rotate' | 'range' | 'txn' | 'watch' | 'grantLease' | 'keepLease' | 'close'
>

export class EtcdClient {
  readonly #access: EtcdAccess
  readonly #credentials: ChannelCredentials
  readonly #clients: Client[]
  /** Under way, but for the streams. */
  readonly #calls = new Set<{ cancel(): void }>()
  #at = 0
  #isClosed = false
  #token: string | undefined

  /** @throws StoreError code `OPEN_FAILED` when a TLS file cannot be read */
  constructor(access: EtcdAccess) {
    this.#access = access
    this.#credentials = credentialsOf(access)
    this.#clients = access.endpoints.map((one) => this.#connect(one))
  }

  /** Goes on with the next endpoint. */
  rotate(): void {
    this.#at = (this.#at + 1) % this.#clients.length
  }

  async range(query: RangeQuery): Promise<RangeAnswer> {
    return decodeRange(await this.#call('/etcdserverpb.KV/Range', encodeRange(query)))
  }

  /** A call that was answered by an error may have been done nevertheless. */
  async txn(compare: readonly Comparison[], then: readonly Operation[]): Promise<TxnAnswer> {
    return decodeTxn(await this.#call('/etcdserverpb.KV/Txn', encodeTxn(compare, then)))
  }

  async compact(revision: number): Promise<void> {
    await this.#call('/etcdserverpb.KV/Compact', encodeCompaction(revision))
  }

  /** Takes the lease `id`; one that stands is no error. */
  async grantLease(id: bigint, seconds: number): Promise<void> {
    try {
      await this.#call('/etcdserverpb.Lease/LeaseGrant', encodeGrant(seconds, id))
    } catch (error) {
      if (!(error instanceof StoreError) || error.code !== 'FAILED_PRECONDITION') throw error
    }
  }

  /** Seconds that the lease lives on; 0 when it is gone. */
  async keepLease(id: bigint): Promise<number> {
    const metadata = await this.#metadata()
    const token = this.#token
    return new Promise((resolve, reject) => {
      const stream = this.#duplex('/etcdserverpb.Lease/LeaseKeepAlive', metadata, limits.keepMs)
      stream.on('data', (message: Buffer) => {
        resolve(decodeKeepAlive(message))
        stream.cancel()
      })
      stream.on('error', (error: ServiceError) => {
        if (error.code === status.UNAUTHENTICATED) this.#forget(token)
        reject(this.#storeError(error))
      })
      stream.write(encodeKeepAlive(id))
    })
  }

  /** Watches all keys from `key` up to `end`, beginning with revision `start`. */
  async watch(
    key: string,
    end: string,
    start: number,
    listener: WatchListener,
  ): Promise<WatchHandle> {
    await this.#connected(limits.keepMs)
    const metadata = await this.#metadata()
    // A member without a leader ends the watch instead of staying silent.
    metadata.set('hasleader', 'true')
    const stream = this.#duplex('/etcdserverpb.Watch/Watch', metadata)
    let over = false
    const finish = (error: StoreError) => {
      if (over) return
      over = true
      listener.ended(error)
    }
    stream.on('data', (message: Buffer) => {
      if (!over) listener.answer(decodeWatch(message))
    })
    stream.on('error', (error: ServiceError) => finish(this.#storeError(error)))
    stream.on('end', () => finish(unreachable('the watch was ended by etcd')))
    stream.write(encodeWatch(key, end, start))
    return {
      probe: () => {
        if (!over) stream.write(encodeProgress())
      },
      close: () => {
        over = true
        stream.cancel()
      },
    }
  }

  /** Ends what is under way, too. */
  close(): void {
    this.#isClosed = true
    for (const call of this.#calls) call.cancel()
    for (const client of this.#clients) client.close()
  }

  async #call(path: string, request: Buffer): Promise<Buffer> {
    const deadline = performance.now() + limits.callMs
    let last: StoreError | undefined
    let refusals = 0
    for (let attempt = 0; performance.now() < deadline; attempt++) {
      if (attempt >= 2 * this.#clients.length || this.#isClosed) break
      const factor = 2 ** Math.floor(attempt / this.#clients.length)
      let token: string | undefined
      try {
        await this.#connected(limits.connectMs * factor)
        const metadata = await this.#metadata()
        token = this.#token
        return await this.#unary(path, request, metadata, limits.attemptMs * factor)
      } catch (error) {
        if (!(error instanceof StoreError)) throw error
        last = error
        if (error.code === 'UNAUTHENTICATED' && token !== undefined && refusals++ < limits.tokens)
          this.#forget(token)
        else if (error.code === 'UNREACHABLE') this.rotate()
        else throw error
      }
    }
    throw last ?? unreachable('no endpoint answered')
  }

  #unary(path: string, request: Buffer, metadata: Metadata, ms: number): Promise<Buffer> {
    const client = this.#client
    return new Promise((resolve, reject) => {
      const call = client.makeUnaryRequest(
        path,
        same,
        same,
        request,
        metadata,
        { deadline: Date.now() + ms },
        (error, answer) => {
          this.#calls.delete(call)
          if (error?.code === status.DEADLINE_EXCEEDED) this.#renew(client)
          if (error !== null) reject(this.#storeError(error))
          else resolve(answer ?? Buffer.alloc(0))
        },
      )
      this.#calls.add(call)
    })
  }

  #duplex(path: string, metadata: Metadata, ms?: number): ClientDuplexStream<Buffer, Buffer> {
    const options = ms === undefined ? {} : { deadline: Date.now() + ms }
    return this.#client.makeBidiStreamRequest(path, same, same, metadata, options)
  }

  async #metadata(): Promise<Metadata> {
    const { user, password } = this.#access
    const metadata = new Metadata()
    if (user === undefined) return metadata
    if (this.#token === undefined) {
      const request = encodeAuthenticate(user, password ?? '')
      const path = '/etcdserverpb.Auth/Authenticate'
      const answer = await this.#unary(path, request, new Metadata(), limits.keepMs)
      this.#token = decodeAuthenticate(answer)
    }
    metadata.set('token', this.#token)
    return metadata
  }

  /** Another call may have taken a new one already. */
  #forget(token: string | undefined): void {
    if (this.#token === token) this.#token = undefined
  }

  #connect(endpoint: string): Client {
    return new Client(endpoint, this.#credentials, channelOptions)
  }

  /**
   * Waits for a connection of the endpoint at hand; one that refuses says so in the call itself.
   * @throws StoreError code `UNREACHABLE`
   */
  async #connected(ms: number): Promise<void> {
    const client = this.#client
    const channel = client.getChannel()
    const end = Date.now() + ms
    for (;;) {
      const state = channel.getConnectivityState(true)
      if (state !== connectivityState.IDLE && state !== connectivityState.CONNECTING) return
      const isLate = await new Promise<boolean>((resolve) => {
        channel.watchConnectivityState(state, end, (error) => resolve(error !== undefined))
      })
      if (!isLate) continue
      this.#renew(client)
      throw unreachable(`${this.#access.endpoints[this.#at]}: it takes no connection`)
    }
  }

  /**
   * A new connection instead of one whose packets get no answer: after a partition TCP tries again
   * only after a pause as long as the partition itself.
   */
  #renew(client: Client): void {
    const at = this.#clients.indexOf(client)
    const endpoint = this.#access.endpoints[at]
    if (endpoint === undefined || this.#isClosed) return
    this.#clients[at] = this.#connect(endpoint)
    client.close()
  }

  get #client(): Client {
    const client = this.#clients[this.#at]
    if (client === undefined) throw unreachable('no endpoint is named')
    return client
  }

  #storeError({ code, details }: ServiceError): StoreError {
    const where = this.#access.endpoints[this.#at]
    log('%s: %s %s', where, status[code], details)
    switch (code) {
      case status.UNAVAILABLE:
      case status.DEADLINE_EXCEEDED:
      case status.CANCELLED:
      case status.RESOURCE_EXHAUSTED:
      case status.INTERNAL:
      case status.UNKNOWN:
        return unreachable(`${where}: ${details}`)
      case status.UNAUTHENTICATED:
      case status.PERMISSION_DENIED:
        return new StoreError(
          status[code] ?? 'UNAUTHENTICATED',
          `etcd at ${where} refuses the user: ${details}; look at storeUser and storePassword`,
        )
      case status.OUT_OF_RANGE:
        return new StoreError('COMPACTED', `etcd at ${where}: ${details}`)
      default:
        if (/user name is empty|authentication failed|invalid user/.test(details))
          return new StoreError(
            'PERMISSION_DENIED',
            `etcd at ${where} wants user and password: ${details}; set storeUser, storePassword`,
          )
        return new StoreError(status[code] ?? 'REFUSED', `etcd at ${where}: ${details}`)
    }
  }
}

/** The error of everything that fails because etcd does not answer. */
export function unreachable(why: string): StoreError {
  const message = `the store cannot be reached (${why}); forwarding goes on, changes must wait`
  return new StoreError('UNREACHABLE', message)
}

function same(bytes: Buffer): Buffer {
  return bytes
}

function credentialsOf({ caFile, certFile, keyFile }: EtcdAccess): ChannelCredentials {
  if (caFile === undefined && certFile === undefined) return ChannelCredentials.createInsecure()
  const read = (file: string | undefined) => (file === undefined ? null : readPem(file))
  return ChannelCredentials.createSsl(read(caFile), read(keyFile), read(certFile))
}

function readPem(file: string): Buffer {
  try {
    return readFileSync(file)
  } catch (cause) {
    throw new StoreError('OPEN_FAILED', `${file} cannot be read; name a PEM file`, { cause })
  }
}
