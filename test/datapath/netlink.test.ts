import test from 'ava'
import fc from 'fast-check'
import {
  formatAttribute,
  formatMessage,
  parseAttributes,
  parseError,
  parseMessages,
} from 'netlink/dist/structs.js'
import {
  decodeAck,
  decodeAttributes,
  decodeMessages,
  encodeMessage,
  findAttribute,
  PayloadWriter,
  payloadText,
  payloadU32,
} from '../../datapath/netlink.ts'
import { fromHex, hexOf } from '../packet/captures.ts'

const u16 = fc.integer({ min: 0, max: 0xffff })
const u32 = fc.integer({ min: 0, max: 0xffff_ffff })
const attribute = fc.record({
  type: fc.integer({ min: 0, max: 0x3fff }),
  payload: fc.uint8Array({ maxLength: 40 }),
})
const message = fc.record({
  type: u16,
  flags: u16,
  sequence: u32,
  payload: fc.uint8Array({ maxLength: 80 }),
})

/** Bytes of several things, each with zeros up to a multiple of four. */
function padded(parts: readonly Uint8Array[]): Buffer {
  return Buffer.concat(parts.flatMap((part) => [part, Buffer.alloc(-part.length & 3)]))
}

test('messages are written as the netlink package writes them', (t) => {
  fc.assert(
    fc.property(message, ({ type, flags, sequence, payload }) => {
      const out = new Uint8Array(200)
      const size = encodeMessage({ type, flags, sequence, payload }, out)
      const theirs = formatMessage({ type, flags, seq: sequence, port: 0, data: payload })
      return hexOf(padded([out.subarray(0, size)])) === hexOf(padded([Buffer.concat(theirs)]))
    }),
  )
  t.pass()
})

test('messages are read as the netlink package reads them', (t) => {
  fc.assert(
    fc.property(fc.array(message, { maxLength: 5 }), (messages) => {
      const bytes = padded(
        messages.map(({ type, flags, sequence, payload }) =>
          Buffer.concat(formatMessage({ type, flags, seq: sequence, port: 0, data: payload })),
        ),
      )
      const ours = decodeMessages(bytes)
      const theirs = parseMessages(bytes)
      t.deepEqual(
        ours.map(({ type, flags, sequence, payload }) => [type, flags, sequence, hexOf(payload)]),
        theirs.map(({ type, flags, seq, data }) => [type, flags, seq, hexOf(data)]),
      )
    }),
  )
})

test('attributes are written and read as the netlink package does, unknown ones too', (t) => {
  fc.assert(
    fc.property(fc.array(attribute, { maxLength: 6 }), (attributes) => {
      const writer = new PayloadWriter()
      for (const { type, payload } of attributes) writer.attribute(type, payload)
      const theirs = padded(
        attributes.map(({ type, payload }) =>
          Buffer.concat(formatAttribute({ type, data: payload })),
        ),
      )
      t.is(hexOf(writer.finish()), hexOf(theirs))
      const seen: [number, string][] = []
      parseAttributes(theirs, ({ type, data }) => seen.push([type, hexOf(data)]))
      t.deepEqual(
        decodeAttributes(theirs).map(({ type, payload }) => [type, hexOf(payload)]),
        seen,
      )
    }),
  )
})

test('a nested attribute carries its flag and its size', (t) => {
  const writer = new PayloadWriter()
  writer.nest(2, (inner) => inner.attributeU32(6, 7).attributeText(7, 'mn'))
  const theirs = Buffer.concat(
    formatAttribute({
      type: 2,
      nested: true,
      data: [
        ...formatAttribute({ type: 6, data: Uint8Array.of(7, 0, 0, 0) }),
        padded([Buffer.concat(formatAttribute({ type: 7, data: Buffer.from('mn\0') }))]),
      ],
    }),
  )
  t.is(hexOf(writer.finish()), hexOf(theirs))
  const [nested] = decodeAttributes(writer.finish())
  t.is(nested?.type, 2)
  const inner = decodeAttributes(nested?.payload ?? new Uint8Array(0))
  t.is(payloadU32(findAttribute(inner, 6)), 7)
  t.is(payloadText(findAttribute(inner, 7)), 'mn')
})

// As Linux 6.18 refused an MTU of 70000 for a veth: NLM_F_CAPPED and NLM_F_ACK_TLVS are set.
const refusal =
  '4800000002000003d2040000933f7edeeaffffff3000000010000500d204000000000000' +
  '240001006d74752067726561746572207468616e20646576696365206d6178696d756d00'

test('a refusal is told in the words of the kernel', (t) => {
  const bytes = fromHex(refusal)
  const [reply] = decodeMessages(bytes)
  const ack = decodeAck(reply ?? { type: 0, flags: 0, sequence: 0, payload: new Uint8Array(0) })
  t.deepEqual(ack, { errno: 22, reason: 'mtu greater than device maximum' })
  const [theirs] = parseMessages(Buffer.from(bytes))
  t.is(Math.abs(parseError(theirs?.data ?? Buffer.alloc(0), theirs?.flags ?? 0).errno), 22)
})

test('what is cut short is left out, and nothing throws', (t) => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 120 }), (bytes) => {
      for (const found of decodeMessages(bytes)) decodeAck(found)
      const size = decodeAttributes(bytes).reduce((sum, { payload }) => sum + payload.length, 0)
      return size <= bytes.length
    }),
  )
  t.deepEqual(decodeMessages(fromHex(refusal).slice(0, 40)), [])
})
