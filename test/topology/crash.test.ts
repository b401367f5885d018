import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import test, { type ExecutionContext } from 'ava'
import { openLevelDbStore } from '../../topology/leveldb.ts'
import { partCount } from './crash-writer.ts'

const rounds = 25
const seed = 20_261
const keptCount = 10
/** From the first acknowledged number on. */
const killWithinMs = 120
const startWithinMs = 20_000

/** Numbers from 0 to below 1 that are the same for the same seed (mulberry32). */
function dice(start: number): () => number {
  let state = start
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 0x1_0000_0000
  }
}

/** Lets a writer run until it is killed, `delayMs` after its first transaction; what it printed. */
async function writeAndDie(dir: string, first: number, delayMs: number): Promise<number> {
  const path = new URL('./crash-writer.js', import.meta.url).pathname
  const child: ChildProcess = fork(path, [dir, String(first)], {
    stdio: ['ignore', 'pipe', 2, 'ipc'],
  })
  let printed = ''
  child.stdout?.setEncoding('utf8').on('data', (text: string) => {
    printed += text
  })
  const closed = once(child, 'close')
  const started = child.stdout ? once(child.stdout, 'data') : closed
  await Promise.race([started, closed, sleep(startWithinMs, undefined, { ref: false })])
  await sleep(delayMs)
  child.kill('SIGKILL')
  await closed
  const whole = printed.slice(0, printed.lastIndexOf('\n'))
  return Math.max(0, ...whole.split('\n').map(Number))
}

/** The number of the last transaction in the store, all of whose traces must agree. */
async function checkWhole(t: ExecutionContext, dir: string): Promise<number> {
  const store = await openLevelDbStore(dir)
  try {
    const number = store.revision
    const hosts = store.list('host')
    t.is(hosts.length, partCount)
    t.deepEqual(new Set(hosts.map(({ name }) => name)), new Set([String(number)]))
    const kept = Array.from(
      { length: Math.min(number, keptCount) },
      (_, index) => `n${number - index}`,
    )
    t.deepEqual(
      store.list('bridge').map(({ id }) => id),
      kept.sort(),
    )
    return number
  } finally {
    await store.close()
  }
}

test('a writer killed at any moment loses nothing acknowledged, leaves nothing half', async (t) => {
  const dir = await mkdtemp(join(tmpdir(), 'midonet-crash-'))
  t.teardown(() => rm(dir, { recursive: true }))
  const roll = dice(seed)
  let last = 0
  for (let round = 0; round < rounds; round += 1) {
    const acknowledged = await writeAndDie(dir, last + 1, roll() * killWithinMs)
    t.true(acknowledged > last, `round ${round}, seed ${seed}: the writer got nothing done`)
    const found = await checkWhole(t, dir)
    t.true(found >= acknowledged, `round ${round}, seed ${seed}: ${acknowledged} is lost`)
    last = found
  }
  t.log(`${rounds} kills, ${last} transactions, seed ${seed}`)
})
