/**
 * A wall clock of its own for an agent, which can be set while it runs: libfaketime takes the place of
 * the C library's. The clock that never goes back is left as it is, as on a host whose time is set.
 */
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { request } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** The Debian package it needs. */
export const wallClockPackage = 'libfaketime'

export class WallClock {
  readonly #dir = mkdtempSync(join(tmpdir(), 'midonet-clock-'))
  readonly #file = join(this.#dir, 'offset')

  constructor() {
    this.set(0)
  }

  /** What a process whose clock this is needs in its environment. */
  get settings(): Readonly<Record<string, string>> {
    return {
      ...preload(),
      FAKETIME_TIMESTAMP_FILE: this.#file,
      FAKETIME_CACHE_DURATION: '1',
      FAKETIME_DONT_FAKE_MONOTONIC: '1',
    }
  }

  /** Seconds that it is ahead of this machine's; within a second. */
  set(seconds: number): void {
    writeFileSync(this.#file, `${seconds < 0 ? '' : '+'}${seconds}\n`)
  }

  close(): void {
    rmSync(this.#dir, { recursive: true, force: true })
  }
}

/** For a command that is to believe that it is so many days ago; without libfaketime it does not. */
export function daysAgo(days: number): Readonly<Record<string, string>> {
  return { ...preload(), FAKETIME: `-${days}d` }
}

function preload(): Readonly<Record<string, string>> {
  const [triple = ''] = readdirSync('/usr/lib').filter((name) =>
    /^(x86_64|aarch64)-linux-gnu$/.test(name),
  )
  return { LD_PRELOAD: `/usr/lib/${triple}/faketime/libfaketimeMT.so.1` }
}

/** What an agent says of the time, in seconds ahead of this machine. */
export function secondsAhead(socketPath: string): Promise<number> {
  return new Promise((resolve, reject) => {
    request({ socketPath, path: '/v1/host', agent: false }, (answer) => {
      answer.resume()
      resolve((Date.parse(answer.headers.date ?? '') - Date.now()) / 1000)
    })
      .on('error', reject)
      .end()
  })
}
