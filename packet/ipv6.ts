/**
 * IPv6, RFC 8200 section 3: the fixed header; extension headers are part of the payload.
 *
 *  0                   1                   2                   3
 * +-------+---------------+---------------------------------------+
 * |   6   | traffic class |              flow label               |
 * +-------+---------------+-------+---------------+---------------+
 * |        payload length         |  next header  |   hop limit   |
 * +-------------------------------+---------------+---------------+
 * |                         source (128)                          |
 * +---------------------------------------------------------------+
 * |                       destination (128)                       |
 * +---------------------------------------------------------------+
 */
import { type Codec, MalformedError } from './bytes.ts'

/** An IPv6 packet; not a jumbogram (RFC 2675): a length field of 0 means an empty payload. */
export interface Ipv6 {
  readonly trafficClass: number
  readonly flowLabel: number
  readonly nextHeader: number
  readonly hopLimit: number
  readonly src: bigint
  readonly dst: bigint
  readonly payload: Uint8Array
}

export const ipv6: Codec<Ipv6> = {
  name: 'ipv6',

  size({ payload }) {
    return 40 + payload.length
  },

  decode(reader) {
    const first = reader.u32()
    if (first >>> 28 !== 6) throw new MalformedError(`ipv6: version ${first >>> 28}`)
    const payloadSize = reader.u16()
    return {
      trafficClass: (first >>> 20) & 0xff,
      flowLabel: first & 0xf_ffff,
      nextHeader: reader.u8(),
      hopLimit: reader.u8(),
      src: reader.u128(),
      dst: reader.u128(),
      payload: reader.bytes(payloadSize),
    }
  },

  encode(writer, value) {
    writer.u32(0x6000_0000 | (value.trafficClass << 20) | value.flowLabel)
    writer.u16(value.payload.length)
    writer.u8(value.nextHeader)
    writer.u8(value.hopLimit)
    writer.u128(value.src)
    writer.u128(value.dst)
    writer.bytes(value.payload)
  },
}
