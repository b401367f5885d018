import test from 'ava'
import fc from 'fast-check'
import {
  createKey,
  equalKeys,
  type FieldName,
  fields,
  keyWords,
  maskKey,
  matches,
  readField,
  writeField,
} from '../../packet/flow-key.ts'
import { anyKey, anyMask } from './arbitrary.ts'

type Narrow = Exclude<FieldName, 'ipv6Src' | 'ipv6Dst'>

const isNarrow = (name: string): name is Narrow => name in fields && !name.startsWith('ipv6')
const names = Object.keys(fields).filter(isNarrow)

for (const name of names)
  test(`${name} is read as written, and nothing beside it changes`, (t) => {
    fc.assert(
      fc.property(anyKey, fc.nat(0xffff_ffff_ffff), (key, value) => {
        const size = 2 ** fields[name].bits
        const before = readField(key, name)
        const copy = Uint32Array.from(key)
        writeField(copy, name, value % size)
        t.is(readField(copy, name), value % size)
        writeField(copy, name, before)
        // Only a MAC address has words with bits that are no part of it.
        if (fields[name].bits !== 48) t.deepEqual(copy, key)
      }),
      { numRuns: 100 },
    )
  })

test('a key matches a flow when it equals it under the mask', (t) => {
  fc.assert(
    fc.property(anyKey, anyKey, anyMask, (packet, flow, mask) => {
      const [a, b] = [createKey(), createKey()]
      maskKey(packet, mask, a)
      maskKey(flow, mask, b)
      t.is(matches(packet, flow, mask), equalKeys(a, b))
      t.true(matches(packet, a, mask))
    }),
    { numRuns: 1000 },
  )
})

test('a key whose one bit under the mask differs does not match', (t) => {
  fc.assert(
    fc.property(anyKey, fc.nat(keyWords - 1), fc.nat(31), (key, word, bit) => {
      const other = Uint32Array.from(key)
      other[word] = (other[word] ?? 0) ^ (1 << bit)
      const mask = createKey()
      t.true(matches(other, key, mask))
      mask[word] = 1 << bit
      t.false(matches(other, key, mask))
      t.false(equalKeys(other, key))
    }),
    { numRuns: 1000 },
  )
})
