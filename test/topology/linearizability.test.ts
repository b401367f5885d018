import test from 'ava'
import fc from 'fast-check'
import {
  checkHistory,
  comparedRegister,
  lease,
  type Operation,
  swapRegister,
} from './linearizability.ts'

type Swap = Operation<string, string>

/** `client input -> output` at a time span; no output when nobody knows. */
function swap(
  client: string,
  input: string,
  output: string | undefined,
  span: [number, number],
): Swap {
  return { client, input, output, calledMs: span[0], returnedMs: span[1] }
}

test('one after the other', (t) => {
  const history = [swap('a', '1', '', [0, 1]), swap('b', '2', '1', [2, 3])]
  t.is(checkHistory(swapRegister, history).kind, 'linearizable')
})

test('a stale read is found', (t) => {
  // b begins after a's write has ended, and does not see it.
  const history = [
    swap('a', '1', '', [0, 1]),
    swap('a', '2', '1', [2, 3]),
    swap('b', '3', '1', [4, 5]),
  ]
  t.is(checkHistory(swapRegister, history).kind, 'not')
})

test('calls at the same time may come in either order, but in one', (t) => {
  const both = [swap('a', '1', '2', [0, 9]), swap('b', '2', '', [0, 9])]
  t.is(checkHistory(swapRegister, both).kind, 'linearizable')
  const lost = [swap('a', '1', '', [0, 9]), swap('b', '2', '', [0, 9])]
  t.is(checkHistory(swapRegister, lost).kind, 'not')
})

test('what nobody knows the end of may have been done, late, or not at all', (t) => {
  const unknown = swap('a', '1', undefined, [0, Number.POSITIVE_INFINITY])
  const after = (output: string) => [unknown, swap('b', '2', output, [5, 6])]
  t.is(checkHistory(swapRegister, after('')).kind, 'linearizable')
  t.is(checkHistory(swapRegister, after('1')).kind, 'linearizable')
  t.is(checkHistory(swapRegister, [...after(''), swap('b', '3', '1', [7, 8])]).kind, 'linearizable')
  // Not before it was called.
  t.is(checkHistory(swapRegister, [swap('b', '2', '1', [-2, -1]), unknown]).kind, 'not')
})

test('an address that two have at once is found', (t) => {
  const take = (client: string, from: number, to: number) =>
    ({ client, input: 'take', output: true, calledMs: from, returnedMs: to }) as const
  const release = { client: 'a', input: 'release', output: true } as const
  t.is(checkHistory(lease, [take('a', 0, 1), take('b', 2, 3)]).kind, 'not')
  const between = { ...release, calledMs: 1, returnedMs: 2.5 }
  t.is(checkHistory(lease, [take('a', 0, 1), between, take('b', 2, 3)]).kind, 'linearizable')
})

test('a comparison with what is old is found, whether it succeeds or is refused', (t) => {
  const call = (from: string, to: string, output: boolean, at: number) => {
    const span = { calledMs: at, returnedMs: at + 1 }
    return { client: 'a', input: { from, to }, output, ...span } as const
  }
  const first = call('', '1', true, 0)
  const verdict = (second: ReturnType<typeof call>) =>
    checkHistory(comparedRegister, [first, second]).kind
  t.is(verdict(call('1', '2', true, 2)), 'linearizable')
  t.is(verdict(call('', '2', false, 2)), 'linearizable')
  t.is(verdict(call('', '2', true, 2)), 'not')
  t.is(verdict(call('1', '2', false, 2)), 'not')
})

test('an address that is refused although it is free is found', (t) => {
  const take = { client: 'a', input: 'take', calledMs: 0, returnedMs: 1 } as const
  t.is(checkHistory(lease, [{ ...take, output: false }]).kind, 'not')
  const second = { ...take, output: false, calledMs: 2, returnedMs: 3 } as const
  t.is(checkHistory(lease, [{ ...take, output: true }, second]).kind, 'linearizable')
})

interface Call {
  readonly client: number
  readonly gapMs: number
  readonly tookMs: number
  readonly atPart: number
  readonly isUnknown: boolean
}

/** Calls of some clients on a register that does each at one moment: its history, and its order. */
function play(calls: readonly Call[]): Swap[] {
  const free = new Map<number, number>()
  const planned = calls.map(({ client, gapMs, tookMs, atPart, isUnknown }, at) => {
    const calledMs = (free.get(client) ?? 0) + gapMs
    free.set(client, calledMs + tookMs + 1)
    return { at, client, calledMs, tookMs, isUnknown, doneMs: calledMs + (tookMs * atPart) / 100 }
  })
  let value = ''
  return [...planned]
    .sort((a, b) => a.doneMs - b.doneMs || a.at - b.at)
    .map(({ at, client, calledMs, tookMs, isUnknown }) => {
      const output = value
      value = `v${at}`
      const returnedMs = isUnknown ? Number.POSITIVE_INFINITY : calledMs + tookMs
      return swap(`c${client}`, value, isUnknown ? undefined : output, [calledMs, returnedMs])
    })
}

const calls = fc.array(
  fc.record({
    client: fc.nat(2),
    gapMs: fc.nat(5),
    tookMs: fc.nat(20),
    atPart: fc.nat(100),
    isUnknown: fc.nat(19).map((one) => one === 0),
  }),
  { minLength: 3, maxLength: 18 },
)

test('every history of a register that keeps its promise passes; one stale read does not', (t) => {
  fc.assert(
    fc.property(calls, fc.nat(), (given, which) => {
      const history = play(given)
      t.is(checkHistory(swapRegister, history).kind, 'linearizable')
      // The same with one call that was told what its client's call before had replaced.
      const known = history.filter(({ output }) => output !== undefined)
      const meant = known[which % Math.max(1, known.length)]
      const stale = known.find(({ output }) => output !== undefined && output !== meant?.output)
      if (meant === undefined || stale === undefined) return
      const planted = history.map((one) => (one === meant ? { ...one, output: stale.output } : one))
      // Two calls cannot both have replaced one value, of which there was one.
      t.is(checkHistory(swapRegister, planted).kind, 'not')
    }),
    { numRuns: 300 },
  )
})
