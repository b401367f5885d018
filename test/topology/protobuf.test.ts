/** Numbers and bytes on the wire, against a slow reading of the same. */
import test from 'ava'
import fc from 'fast-check'
import { MessageWriter, readFields } from '../../topology/protobuf.ts'

/** Around where a varint gets longer, and where numbers end. */
const number = fc.oneof(
  fc.bigInt(1n, (1n << 64n) - 1n),
  fc
    .tuple(fc.integer({ min: 1, max: 9 }), fc.integer({ min: -1, max: 1 }))
    .map(([bytes, by]) => (1n << BigInt(7 * bytes)) + BigInt(by)),
)

test('what is written is read again, whatever its size', (t) => {
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.integer({ min: 1, max: 5000 }), number)), (all) => {
      const writer = new MessageWriter()
      for (const [field, value] of all) writer.number(field, value).bytes(field + 1, `${value}`)
      const read = [...readFields(writer.finish())]
      t.deepEqual(
        read.map(({ number, value, bytes }) => [number, value || bytes.toString()]),
        all.flatMap(([field, value]) => [
          [field, value],
          [field + 1, `${value}`],
        ]),
      )
    }),
  )
})

test('a message that is cut is refused, wherever', (t) => {
  const whole = new MessageWriter()
    .number(3, (1n << 63n) + 5n)
    .bytes(300, 'abc')
    .finish()
  const ends = [0, 11, whole.length]
  for (let end = 0; end <= whole.length; end++) {
    const read = () => [...readFields(whole.subarray(0, end))]
    if (ends.includes(end)) t.notThrows(read)
    else t.throws(read, { code: 'PROTOCOL' }, `${end}`)
  }
  t.throws(() => [...readFields(Buffer.alloc(20, 0xff))], { code: 'PROTOCOL' })
})
