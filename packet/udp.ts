/**
 * UDP, RFC 768.
 *
 *  0                   1                   2                   3
 * +-------------------------------+-------------------------------+
 * |          source port          |       destination port        |
 * +-------------------------------+-------------------------------+
 * |            length             |           checksum            |
 * +-------------------------------+-------------------------------+
 */
import { type Codec, MalformedError, Reader, Writer } from './bytes.ts'
import { type Addresses, transportChecksum } from './checksum.ts'
import { protoUdp } from './extract.ts'

/** A UDP datagram. */
export interface Udp {
  readonly srcPort: number
  readonly dstPort: number
  /** False when sent without one, which IPv4 allows. */
  readonly hasChecksum: boolean
  readonly payload: Uint8Array
}

/** UDP between these addresses, for its checksum. Bytes behind its length are left unread. */
export function udp(addresses: Addresses): Codec<Udp> {
  return {
    name: 'udp',

    size({ payload }) {
      return 8 + payload.length
    },

    decode(reader) {
      const header = reader.bytes(8)
      const fields = new Reader(header)
      const srcPort = fields.u16()
      const dstPort = fields.u16()
      const size = fields.u16()
      if (size < 8) throw new MalformedError(`udp: length ${size}`)
      const payload = reader.bytes(size - 8)
      const hasChecksum = fields.u16() !== 0
      const datagram = new Uint8Array(size)
      datagram.set(header)
      datagram.set(payload, 8)
      if (!hasChecksum && typeof addresses.src === 'bigint')
        throw new MalformedError('udp: no checksum over IPv6')
      if (hasChecksum && transportChecksum(addresses, protoUdp, datagram) !== 0)
        throw new MalformedError('udp: wrong checksum')
      return { srcPort, dstPort, hasChecksum, payload }
    },

    encode(writer, value) {
      const bytes = new Uint8Array(8 + value.payload.length)
      write(new Writer(bytes), value, 0)
      // 0 would say that there is none; 0xffff is the same number in ones' complement.
      const checksum = transportChecksum(addresses, protoUdp, bytes) || 0xffff
      write(writer, value, value.hasChecksum ? checksum : 0)
    },
  }
}

function write(writer: Writer, { srcPort, dstPort, payload }: Udp, checksum: number): void {
  writer.u16(srcPort)
  writer.u16(dstPort)
  writer.u16(8 + payload.length)
  writer.u16(checksum)
  writer.bytes(payload)
}
