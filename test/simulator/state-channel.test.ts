/** The protocol between two hosts over a network that loses, repeats and reorders. */
import test from 'ava'
import fc from 'fast-check'
import {
  type ChannelCounters,
  createCounters,
  limits,
  type MessageName,
  StateChannel,
} from '../../simulator/state-channel.ts'
import type { StateRecord } from '../../simulator/state-message.ts'
import { LossyNetwork } from './lossy-network.ts'

class Host {
  readonly taken: number[] = []
  readonly names: MessageName[] = []
  readonly counters: ChannelCounters = createCounters()
  readonly channel: StateChannel
  isReady = true

  constructor(epoch: number, send: (bytes: Uint8Array) => void) {
    this.channel = new StateChannel({
      epoch,
      send,
      counters: this.counters,
      take: (record, name) => {
        if (!this.isReady) return false
        this.names.push(name)
        if (record.kind === 'done') this.taken.push(record.request)
        return true
      },
    })
  }
}

const done = (request: number): StateRecord => ({ kind: 'done', request })

function pair(network: LossyNetwork) {
  const a = new Host(1, (bytes) => network.send('b', bytes))
  const b = new Host(1, (bytes) => network.send('a', bytes))
  network.deliver('a', (bytes) => a.channel.receive(bytes, network.nowMs))
  network.deliver('b', (bytes) => b.channel.receive(bytes, network.nowMs))
  const run = (ms: number) => {
    for (let left = ms; left > 0; left -= 5) {
      network.run(5)
      for (const host of [a, b]) {
        host.channel.tick(network.nowMs)
      }
    }
  }
  return { a, b, run }
}

test('everything is taken once, whatever the network does, or it is said that it was not', (t) => {
  let behind = 0
  fc.assert(
    fc.property(fc.nat(), fc.integer({ min: 1, max: 400 }), (seed, count) => {
      const network = new LossyNetwork({ seed, loss: 0.2, repeat: 0.2, delayMs: 40 })
      const { a, b, run } = pair(network)
      for (let at = 0; at < count; at++) {
        a.channel.add(done(at))
        if (at % 7 === 0) a.channel.flush(network.nowMs)
        if (at % 31 === 0) run(5)
      }
      run(20_000)
      t.true(a.channel.isIdle)
      t.is(new Set(b.taken).size, b.taken.length)
      // All tries of one message are lost once in a long while.
      if (a.channel.takeBehind()) behind++
      else
        t.deepEqual(
          [...b.taken].sort((x, y) => x - y),
          Array.from({ length: count }, (_, at) => at),
        )
    }),
    { numRuns: 60 },
  )
  t.true(behind < 10)
})

test('a message is sent again until it is acknowledged, a bounded number of times', (t) => {
  const network = new LossyNetwork({ seed: 1, loss: 1, repeat: 0, delayMs: 0 })
  const { a, run } = pair(network)
  a.channel.add(done(1))
  a.channel.flush(0)
  run(30_000)
  t.is(a.counters.again, limits.retries)
  t.is(a.counters.givenUp, 1)
  t.true(a.channel.isIdle)
  t.true(a.channel.takeBehind())
})

test('what cannot be taken yet is offered again, and let go in the end', (t) => {
  const network = new LossyNetwork({ seed: 1, loss: 0, repeat: 0, delayMs: 0 })
  const { a, b, run } = pair(network)
  b.isReady = false
  a.channel.add(done(1))
  a.channel.flush(0)
  run(100)
  t.deepEqual(b.taken, [])
  b.isReady = true
  run(200)
  t.deepEqual(b.taken, [1])
  b.isReady = false
  a.channel.add(done(2))
  run(5_000)
  t.true(a.channel.isIdle)
  t.false(a.channel.takeBehind())
})

test('late messages of a run before are not taken for those of the next', (t) => {
  const sent: Uint8Array[] = []
  const old = new Host(5, (bytes) => sent.push(bytes))
  const next = new Host(6, (bytes) => sent.push(bytes))
  const b = new Host(9, () => undefined)
  for (const host of [old, next]) {
    for (const at of [1, 2]) {
      host.channel.add(done(host === old ? at : 10 + at))
      host.channel.flush(0)
    }
  }
  const [old1, old2, next1, next2] = sent
  for (const bytes of [old1, next1, old2, old1, next2, next1])
    if (bytes !== undefined) b.channel.receive(bytes, 0)
  t.deepEqual(b.taken, [1, 11, 12])
})

test('what is far below the highest number is taken for told', (t) => {
  const sent: Uint8Array[] = []
  const a = new Host(1, (bytes) => sent.push(bytes))
  const b = new Host(1, () => undefined)
  let first: Uint8Array | undefined
  for (let at = 0; at < limits.remembered + 10; at++) {
    a.channel.add(done(at))
    a.channel.flush(0)
    const [bytes] = sent.splice(0)
    if (at === 0) first = bytes
    else if (bytes !== undefined) b.channel.receive(bytes, 0)
    // Acknowledged, so that the window does not close.
    a.channel.receive(ackOf(at + 1), 0)
  }
  if (first !== undefined) b.channel.receive(first, 0)
  t.false(b.taken.includes(0))
  t.is(b.counters.repeated, 1)
})

function ackOf(number: number): Uint8Array {
  const bytes = new Uint8Array(12)
  const view = new DataView(bytes.buffer)
  bytes[0] = 1
  bytes[1] = 2
  view.setUint32(2, 1)
  view.setUint16(6, 1)
  view.setUint32(8, number)
  return bytes
}
