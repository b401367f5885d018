/** The mask of what a walk has read is the sum of it, and one list for all walks that read the same. */
import { randomInt } from 'node:crypto'
import test from 'ava'
import fc from 'fast-check'
import { createKey, type FlowKey, fields, joinPrefix } from '../../packet/flow-key.ts'
import { limits, Observation, tcpEnd } from '../../simulator/observation.ts'

const seed = Number(process.env.SEED ?? randomInt(2 ** 31))

type Reading = readonly [see: (one: Observation) => void, join: (mask: FlowKey) => void]

function bits(at: number, ones: number): (mask: FlowKey) => void {
  return (mask) => {
    mask[at] = (mask[at] ?? 0) | ones
  }
}

function all(...joins: readonly ((mask: FlowKey) => void)[]): (mask: FlowKey) => void {
  return (mask) => {
    for (const join of joins) join(mask)
  }
}

const anyReading: fc.Arbitrary<Reading> = fc.oneof(
  fc.constantFrom<Reading>(
    [(one) => one.seeEthDst(), all(bits(3, 0xffff), bits(4, 0xffff_ffff))],
    [(one) => one.seeEthSrc(), all(bits(5, 0xffff), bits(6, 0xffff_ffff))],
    [(one) => one.seeEthType(), all(bits(7, 0xffff), bits(8, 0xffff))],
    [(one) => one.seeVlan(), bits(7, 0xffff)],
    [(one) => one.seeProtocol(), bits(9, 0xff)],
    [(one) => one.seeTos(), bits(9, 0xff00)],
    [(one) => one.seeTtl(), bits(9, 0xff_0000)],
    [(one) => one.seeFragment(), bits(9, 0xff00_0000)],
    [(one) => one.seeTpSrc(), bits(18, 0xffff)],
    [(one) => one.seeTpDst(), bits(18, 0xffff_0000)],
    [(one) => one.seeTcpEnd(), bits(19, tcpEnd)],
    [(one) => one.seeTunnel(), all(bits(1, 0xffff_ffff), bits(2, 0xffff_ffff))],
    [(one) => one.see(fields.arpSha), all(bits(11, 0xffff), bits(12, 0xffff_ffff))],
  ),
  fc
    .nat(32)
    .map(
      (length): Reading => [(one) => one.seeIpSrc(length), (mask) => joinPrefix(mask, 10, length)],
    ),
  fc
    .nat(128)
    .map(
      (length): Reading => [
        (one) => one.seeIpv6Dst(length),
        (mask) => joinPrefix(mask, 14, length),
      ],
    ),
  fc
    .tuple(fc.integer({ min: 3, max: 19 }), fc.nat(0xffff))
    .map(([at, ones]): Reading => [(one) => one.seeBits(at, ones), bits(at, ones)]),
)

test(`a mask has what was read, and nothing else (SEED=${seed})`, (t) => {
  const one = new Observation()
  fc.assert(
    fc.property(fc.array(anyReading, { maxLength: 8 }), (readings) => {
      const expected = createKey()
      expected[0] = 0xffff_ffff
      one.clear()
      for (const [see, join] of readings) {
        see(one)
        join(expected)
        // To ask for it on the way must not make a difference.
        t.deepEqual(one.mask, expected)
      }
      const { mask } = one
      one.clear()
      for (const [see] of readings.toReversed()) see(one)
      if (readings.length > 0) t.deepEqual(one.mask, expected)
      one.clear()
      for (const [see] of readings) see(one)
      t.is(one.mask, mask, 'the same list')
    }),
    { seed, numRuns: 2000 },
  )
})

test('masks are bounded, and those given before stay as they were', (t) => {
  const one = new Observation()
  one.seeEthDst()
  const { mask } = one
  const before = mask.slice()
  for (let value = 1; value < limits.masks * 2; value++) {
    one.clear()
    one.seeBits(12, value)
    t.is(one.mask[12], value)
  }
  one.clear()
  one.seeEthDst()
  t.deepEqual(one.mask, before)
  t.deepEqual(mask, before)
})
