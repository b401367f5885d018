/**
 * IPv4, RFC 791.
 *
 *  0                   1                   2                   3
 * +-------+-------+---------------+-------------------------------+
 * |   4   |  IHL  |      TOS      |         total length          |
 * +-------+-------+---------------+-----+-------------------------+
 * |        identification         |0|D|M|     fragment offset     |
 * +---------------+---------------+-----+-------------------------+
 * |      TTL      |   protocol    |        header checksum        |
 * +---------------+---------------+-------------------------------+
 * |                            source                             |
 * +---------------------------------------------------------------+
 * |                          destination                          |
 * +---------------------------------------------------------------+
 * |            options, to a multiple of 4 bytes, up to 40        |
 * +---------------------------------------------------------------+
 */
import { type Codec, MalformedError, Reader, Writer } from './bytes.ts'
import { checksum } from './checksum.ts'

/** An IPv4 header without what follows from the payload and from itself. */
export interface Ipv4Fields {
  readonly tos: number
  readonly id: number
  readonly dontFragment: boolean
  readonly moreFragments: boolean
  /** In bytes, a multiple of 8. */
  readonly fragmentOffset: number
  readonly ttl: number
  readonly proto: number
  readonly src: number
  readonly dst: number
  /** As on the wire; up to 40 bytes, a multiple of 4. */
  readonly options: Uint8Array
}

/** A header on its own: its payload may be cut off, as in the quote of an ICMP error. */
export interface Ipv4Header extends Ipv4Fields {
  readonly payloadSize: number
}

/** A whole IPv4 packet. */
export interface Ipv4 extends Ipv4Fields {
  readonly payload: Uint8Array
}

export const ipv4Header: Codec<Ipv4Header> = {
  name: 'ipv4 header',

  size({ options }) {
    return 20 + options.length
  },

  decode(reader) {
    const first = reader.u8()
    const size = (first & 0xf) * 4
    if (first >>> 4 !== 4) throw new MalformedError(`ipv4: version ${first >>> 4}`)
    if (size < 20) throw new MalformedError(`ipv4: header of ${size} bytes`)
    const rest = reader.bytes(size - 1)
    const header = new Uint8Array(size)
    header[0] = first
    header.set(rest, 1)
    if (checksum(header) !== 0) throw new MalformedError('ipv4: wrong header checksum')
    return readHeader(new Reader(header), size, rest.subarray(19))
  },

  encode(writer, { payloadSize, ...value }) {
    const size = 20 + value.options.length
    const header = new Uint8Array(size)
    writeHeader(new Writer(header), value, size + payloadSize, 0)
    writeHeader(writer, value, size + payloadSize, checksum(header))
  },
}

/** Reads a header whose version, size and checksum are right. */
function readHeader(reader: Reader, size: number, options: Uint8Array): Ipv4Header {
  reader.u8()
  const tos = reader.u8()
  const totalSize = reader.u16()
  if (totalSize < size) throw new MalformedError(`ipv4: total length ${totalSize}`)
  const id = reader.u16()
  const fragment = reader.u16()
  const ttl = reader.u8()
  const proto = reader.u8()
  reader.u16()
  return {
    tos,
    id,
    dontFragment: (fragment & 0x4000) !== 0,
    moreFragments: (fragment & 0x2000) !== 0,
    fragmentOffset: (fragment & 0x1fff) * 8,
    ttl,
    proto,
    src: reader.u32(),
    dst: reader.u32(),
    options,
    payloadSize: totalSize - size,
  }
}

function writeHeader(writer: Writer, value: Ipv4Fields, totalSize: number, sum: number): void {
  const flags = (value.dontFragment ? 0x4000 : 0) | (value.moreFragments ? 0x2000 : 0)
  writer.u8(0x40 | ((20 + value.options.length) / 4))
  writer.u8(value.tos)
  writer.u16(totalSize)
  writer.u16(value.id)
  writer.u16(flags | (value.fragmentOffset / 8))
  writer.u8(value.ttl)
  writer.u8(value.proto)
  writer.u16(sum)
  writer.u32(value.src)
  writer.u32(value.dst)
  writer.bytes(value.options)
}

/** Padding behind the total length, as Ethernet adds to short frames, is left unread. */
export const ipv4: Codec<Ipv4> = {
  name: 'ipv4',

  size({ options, payload }) {
    return 20 + options.length + payload.length
  },

  decode(reader) {
    const { payloadSize, ...header } = ipv4Header.decode(reader)
    return { ...header, payload: reader.bytes(payloadSize) }
  },

  encode(writer, { payload, ...header }) {
    ipv4Header.encode(writer, { ...header, payloadSize: payload.length })
    writer.bytes(payload)
  },
}
