import test from 'ava'
import fc from 'fast-check'
import { Reader } from '../../packet/bytes.ts'
import { composeFrame } from '../../packet/compose.ts'
import { ethernet } from '../../packet/ethernet.ts'
import { extractKey } from '../../packet/extract.ts'
import { createKey, equalKeys, readField } from '../../packet/flow-key.ts'
import { ipv4 } from '../../packet/ipv4.ts'
import { formatKey, parseKey } from '../../packet/text.ts'
import { mutated } from './arbitrary.ts'

test('a composed frame has the key it was composed from', (t) => {
  const key = createKey()
  const again = createKey()
  fc.assert(
    fc.property(mutated, (frame) => {
      if (!extractKey(frame, 5, key)) return
      extractKey(composeFrame(key), 5, again)
      t.true(equalKeys(key, again), `${formatKey(key)} became ${formatKey(again)}`)
    }),
    { numRuns: 3000 },
  )
  t.pass()
})

test('a key in text becomes a sound packet', (t) => {
  const { key } = parseKey(
    'eth(src=02:00:00:00:00:0a,dst=02:00:00:00:00:0b),eth_type(0x0800),ipv4(src=10.1.0.2,dst=10.2.0.2,proto=1,ttl=64),icmp(type=8,code=0)',
  )
  const reader = new Reader(composeFrame(key))
  t.is(ethernet.decode(reader).dst, readField(key, 'ethDst'))
  t.is(ipv4.decode(reader).dst, 0x0a02_0002)
})
