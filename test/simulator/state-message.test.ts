import test from 'ava'
import fc from 'fast-check'
import { decode, encode } from '../../packet/bytes.ts'
import {
  type EntryRecord,
  limits,
  type StateAddress,
  type StateMessage,
  type StateRecord,
  stateMessage,
  takeFitting,
} from '../../simulator/state-message.ts'
import { check, decodeAnything } from '../packet/check.ts'

const snat: EntryRecord = {
  kind: 'entry',
  zoneKind: 'router',
  zone: 'r0',
  keyKind: 1,
  protocol: 6,
  flags: 3,
  version: 2,
  ageMs: 500,
  ingress: 'p1',
  egress: 'up',
  there: { src: [0x0a000001], dst: [0xc0a80001], ports: 0x0050_c000 },
  back: { src: [0xc0a80001], dst: [0xcb007101], ports: 0xc001_0050 },
}

test('an entry of IPv4', (t) => {
  check(
    t,
    stateMessage,
    { kind: 'tell', epoch: 7, number: 9, records: [snat] },
    ['0101', '00000007', '00000009', '03', '027230', '027031', '027570', '01']
      .concat(['01', '02', '00', '01', '06', '03', '00000002', '000001f4', '01', '02'])
      .concat(['0a000001', 'c0a80001', '0050c000', 'c0a80001', 'cb007101', 'c0010050'])
      .join(''),
  )
})

test('requests, their end, and acknowledgements', (t) => {
  check(
    t,
    stateMessage,
    {
      kind: 'tell',
      epoch: 1,
      number: 2,
      records: [
        { kind: 'fetch', request: 3, port: 'p' },
        { kind: 'done', request: 4 },
      ],
    },
    '0101' + '00000001' + '00000002' + '01' + '0170' + '02' + '030000000300' + '0400000004',
  )
  check(
    t,
    stateMessage,
    { kind: 'ack', epoch: 1, numbers: [5, 6] },
    '0102000000010002' + '0000000500000006',
  )
})

const word = fc.integer({ min: 0, max: 0xffff_ffff })
const byte = fc.integer({ min: 0, max: 0xff })
const name = fc.stringMatching(/^[0-9A-Za-z][0-9A-Za-z._:-]{0,190}$/)
const tuples = (address: fc.Arbitrary<StateAddress>) => {
  const tuple = fc.record({ src: address, dst: address, ports: word })
  return fc.record({ there: tuple, back: tuple })
}
const entry = fc
  .tuple(
    fc.record({
      kind: fc.constant('entry' as const),
      zoneKind: fc.constantFrom('port' as const, 'bridge' as const, 'router' as const),
      zone: name,
      keyKind: fc.constantFrom(0, 1, 3, 5),
      protocol: byte,
      flags: fc.integer({ min: 0, max: 15 }),
      version: word,
      ageMs: word,
      ingress: fc.oneof(name, fc.constant('')),
      egress: fc.oneof(name, fc.constant('')),
    }),
    fc.oneof(tuples(fc.tuple(word)), tuples(fc.tuple(word, word, word, word))),
  )
  .map(([facts, both]): EntryRecord => ({ ...facts, ...both }))
const record: fc.Arbitrary<StateRecord> = fc.oneof(
  entry,
  fc.record({
    kind: fc.constant('stick' as const),
    vip: name,
    member: name,
    client: word,
    ageMs: word,
  }),
  fc.record({ kind: fc.constant('fetch' as const), request: word, port: name }),
  fc.record({ kind: fc.constant('done' as const), request: word }),
)

test('records come out of messages as they went in, and no message is too long', (t) => {
  fc.assert(
    fc.property(fc.array(record, { minLength: 1, maxLength: 60 }), word, (records, epoch) => {
      const left = [...records]
      const arrived: StateRecord[] = []
      while (left.length > 0) {
        const message = { kind: 'tell', epoch, number: 1, records: takeFitting(left) } as const
        const bytes = encode(stateMessage, message)
        t.true(bytes.length <= limits.size, `${bytes.length} bytes`)
        const read = decode(stateMessage, bytes)
        if (read.kind === 'tell') arrived.push(...read.records)
      }
      t.deepEqual(arrived, records)
    }),
    { numRuns: 300 },
  )
})

test('any bytes are taken, and what was read is written alike', (t) => {
  const whole = fc.array(record, { minLength: 1, maxLength: 4 }).map((records): Uint8Array => {
    const message: StateMessage = { kind: 'tell', epoch: 1, number: 1, records }
    return encode(stateMessage, message)
  })
  const changed = fc
    .tuple(whole, fc.array(fc.tuple(fc.nat(), byte), { maxLength: 4 }), fc.nat())
    .map(([bytes, changes, cut]) => {
      for (const [at, value] of changes) bytes[at % bytes.length] = value
      return cut % 3 === 0 ? bytes.subarray(0, cut % bytes.length) : bytes
    })
  fc.assert(
    fc.property(fc.oneof(fc.uint8Array({ maxLength: 300 }), changed), (bytes) => {
      const value = decodeAnything(stateMessage, bytes)
      if (value !== undefined) t.deepEqual(decode(stateMessage, encode(stateMessage, value)), value)
    }),
    { numRuns: 3000 },
  )
  t.pass()
})
