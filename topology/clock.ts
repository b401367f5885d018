/** Time as the etcd engine needs it, so that tests can let it pass as they like. */
import { setTimeout as delay } from 'node:timers/promises'

export interface Clock {
  /** Milliseconds that never go back; only differences matter. */
  now(): number
  /** Resolves after `ms`, or at once when the signal says so. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>
  /** Runs once after `ms`. Returns the way to stop it. */
  after(ms: number, run: () => void): () => void
  /** Runs each `ms`. Returns the way to stop it. */
  every(ms: number, run: () => void): () => void
}

export const realClock: Clock = {
  now: () => performance.now(),
  async sleep(ms, signal) {
    await delay(ms, undefined, { signal }).catch(() => {})
  },
  after(ms, run) {
    const timer = setTimeout(run, ms)
    return () => clearTimeout(timer)
  },
  every(ms, run) {
    const timer = setInterval(run, ms)
    return () => clearInterval(timer)
  },
}
