import test from 'ava'
import fc from 'fast-check'
import { writeU16 } from '../../packet/bytes.ts'
import { checksum, updateChecksum } from '../../packet/checksum.ts'
import { fromHex } from './captures.ts'

test('the example of RFC 1071 section 3', (t) => {
  t.is(checksum(fromHex('0001f203f4f5f6f7')), ~0xddf2 & 0xffff)
})

test('an odd byte counts as if a zero followed', (t) => {
  t.is(checksum(fromHex('0102ab')), checksum(fromHex('0102ab00')))
})

test('64 KiB of ones do not overflow', (t) => {
  t.is(checksum(new Uint8Array(65_536).fill(0xff)), 0)
})

test('the example of RFC 1624 section 4', (t) => {
  t.is(updateChecksum(0xdd2f, 0x5555, 0x3285), 0x0000)
})

test('an update is the same as summing anew', (t) => {
  const word = fc.integer({ min: 0, max: 0xffff })
  fc.assert(
    fc.property(
      fc.uint8Array({ minLength: 2, maxLength: 40 }),
      fc.nat(19),
      word,
      (bytes, at, to) => {
        const start = (2 * at) % (bytes.length & ~1)
        const before = ((bytes[start] ?? 0) << 8) | (bytes[start + 1] ?? 0)
        const sum = checksum(bytes)
        writeU16(bytes, start, to)
        // 0 and 0xffff are the same number in ones' complement; which one comes out may differ.
        t.is(updateChecksum(sum, before, to) % 0xffff, checksum(bytes) % 0xffff)
      },
    ),
    { numRuns: 2000 },
  )
})
