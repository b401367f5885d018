/** The host's lease: kept alive while the process lives, taken again when it was lost. */
import { createHash } from 'node:crypto'
import debug from 'debug'
import type { EtcdCalls } from './etcd-client.ts'

const log = debug('midonet:etcd')

/** Facts of a host that is gone stay this long. */
export const leaseSeconds = 10

export class Lease {
  /** The same for each agent of a host, so that one started again goes on with it. */
  readonly id: bigint
  readonly #client: EtcdCalls
  readonly #timer: NodeJS.Timeout
  #granted: Promise<void> | undefined

  constructor(client: EtcdCalls, host: string) {
    this.#client = client
    this.id = createHash('sha256').update(host).digest().readBigUInt64BE() >> 1n
    this.#timer = setInterval(() => void this.#keep(), (leaseSeconds * 1000) / 4)
    this.#timer.unref()
  }

  /** Resolves when the lease stands. @throws StoreError */
  take(): Promise<void> {
    this.#granted ??= this.#client.grantLease(this.id, leaseSeconds).catch((error) => {
      this.#granted = undefined
      throw error
    })
    return this.#granted
  }

  /** It turned out to be gone. */
  lost(): void {
    this.#granted = undefined
  }

  close(): void {
    clearInterval(this.#timer)
  }

  async #keep(): Promise<void> {
    if (this.#granted === undefined) return
    try {
      if ((await this.#client.keepLease(this.id)) > 0) return
      log('the lease was lost; taking it again')
      this.lost()
      await this.take()
    } catch (error) {
      log('the lease could not be kept: %s', error instanceof Error ? error.message : error)
    }
  }
}
