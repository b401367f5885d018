import test from 'ava'
import fc from 'fast-check'
import {
  blockCovers,
  blockHas,
  blockOf,
  blocksOverlap,
  canonicalAddress,
  formatAddress,
  formatBlock,
  parseAddress,
  parseBlock,
} from '../../topology/block.ts'

test('a block is known by either family’s text', (t) => {
  t.deepEqual(parseBlock('10.1.0.7/24'), {
    bits: 32,
    value: 0x0a010007n,
    prefixLength: 24,
    first: 0x0a010000n,
    last: 0x0a0100ffn,
  })
  t.is(parseBlock('FD00:0::7/64')?.last, (0xfd00n << 112n) | 0xffff_ffff_ffff_ffffn)
  for (const text of ['', '10.1.0.0', '10.1.0.0/33', 'fd00::/129', 'fd00::/064', 'x/8', '/8']) {
    t.is(parseBlock(text), undefined, text)
  }
})

test('text that is no address stays as it is', (t) => {
  t.is(canonicalAddress('FD00:0:0:0::1'), 'fd00::1')
  t.is(canonicalAddress('10.1.0.1'), '10.1.0.1')
  t.is(canonicalAddress('02:00:00:00:00:0a'), '02:00:00:00:00:0a')
})

const bits = fc.constantFrom(32 as const, 128 as const)
const block = bits.chain((width) =>
  fc
    .tuple(fc.bigInt(0n, (1n << BigInt(width)) - 1n), fc.nat(width))
    .map(([value, prefixLength]) => blockOf(width, value, prefixLength)),
)

test('text and numbers of a block agree', (t) => {
  const agree = fc.property(block, (one) => {
    t.deepEqual(parseBlock(formatBlock(one)), { ...one, value: one.first })
    t.deepEqual(parseAddress(formatAddress(one)), { bits: one.bits, value: one.value })
    t.true(blockHas(one, one))
  })
  t.notThrows(() => fc.assert(agree))
})

test('blocks overlap when one covers the other, and only then', (t) => {
  const agree = fc.property(block, block, (a, b) => {
    t.is(blocksOverlap(a, b), blockCovers(a, b) || blockCovers(b, a))
  })
  t.notThrows(() => fc.assert(agree))
})
