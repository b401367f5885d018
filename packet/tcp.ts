/**
 * TCP's header, RFC 9293 section 3.1.
 *
 *  0                   1                   2                   3
 * +-------------------------------+-------------------------------+
 * |          source port          |       destination port        |
 * +-------------------------------+-------------------------------+
 * |                        sequence number                        |
 * +---------------------------------------------------------------+
 * |                     acknowledgment number                     |
 * +-------+-----------------------+-------------------------------+
 * | offset|  reserved and flags   |            window             |
 * +-------+-----------------------+-------------------------------+
 * |           checksum            |        urgent pointer         |
 * +-------------------------------+-------------------------------+
 * |           options, to a multiple of 4 bytes, up to 40         |
 * +---------------------------------------------------------------+
 */
import { type Codec, MalformedError, Reader, Writer } from './bytes.ts'
import { type Addresses, transportChecksum } from './checksum.ts'
import { protoTcp } from './extract.ts'

/** A TCP segment. */
export interface Tcp {
  readonly srcPort: number
  readonly dstPort: number
  readonly sequence: number
  readonly acknowledgment: number
  /** The 12 bits behind the data offset: reserved ones, then CWR ECE URG ACK PSH RST SYN FIN. */
  readonly flags: number
  readonly window: number
  readonly urgent: number
  /** As on the wire; up to 40 bytes, a multiple of 4. */
  readonly options: Uint8Array
  readonly payload: Uint8Array
}

export const tcpFin = 0x01
export const tcpSyn = 0x02
export const tcpRst = 0x04
export const tcpPsh = 0x08
export const tcpAck = 0x10

/** TCP between these addresses. The segment ends where the bytes given end. */
export function tcp(addresses: Addresses): Codec<Tcp> {
  return {
    name: 'tcp',

    size({ options, payload }) {
      return 20 + options.length + payload.length
    },

    decode(reader) {
      const bytes = reader.rest()
      const segment = new Reader(bytes)
      const srcPort = segment.u16()
      const dstPort = segment.u16()
      const sequence = segment.u32()
      const acknowledgment = segment.u32()
      const offsetAndFlags = segment.u16()
      const window = segment.u16()
      segment.u16()
      const urgent = segment.u16()
      const size = (offsetAndFlags >>> 12) * 4
      if (size < 20) throw new MalformedError(`tcp: header of ${size} bytes`)
      const options = segment.bytes(size - 20)
      if (transportChecksum(addresses, protoTcp, bytes) !== 0)
        throw new MalformedError('tcp: wrong checksum')
      const flags = offsetAndFlags & 0xfff
      const payload = segment.rest()
      return {
        srcPort,
        dstPort,
        sequence,
        acknowledgment,
        flags,
        window,
        urgent,
        options,
        payload,
      }
    },

    encode(writer, value) {
      const bytes = new Uint8Array(20 + value.options.length + value.payload.length)
      write(new Writer(bytes), value, 0)
      write(writer, value, transportChecksum(addresses, protoTcp, bytes))
    },
  }
}

function write(writer: Writer, value: Tcp, checksum: number): void {
  writer.u16(value.srcPort)
  writer.u16(value.dstPort)
  writer.u32(value.sequence)
  writer.u32(value.acknowledgment)
  writer.u16(((5 + value.options.length / 4) << 12) | value.flags)
  writer.u16(value.window)
  writer.u16(checksum)
  writer.u16(value.urgent)
  writer.bytes(value.options)
  writer.bytes(value.payload)
}
