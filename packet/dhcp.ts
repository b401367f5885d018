/**
 * DHCP for IPv4 over Ethernet, RFC 2131 section 2, options by RFC 2132.
 *
 *  0                   1                   2                   3
 * +---------------+---------------+---------------+---------------+
 * |      op       |   htype: 1    |    hlen: 6    |     hops      |
 * +---------------+---------------+---------------+---------------+
 * |                              xid                              |
 * +-------------------------------+-------------------------------+
 * |             secs              |             flags             |
 * +-------------------------------+-------------------------------+
 * |    ciaddr, yiaddr, siaddr, giaddr: 32 each                    |
 * |    chaddr: 16 bytes, sname: 64, file: 128                     |
 * +---------------------------------------------------------------+
 * |    magic cookie: 0x63825363                                   |
 * |    options: code (8), length (8), value; ends with 255        |
 * +---------------------------------------------------------------+
 */
import { type Codec, MalformedError, type Reader, type Writer } from './bytes.ts'

/** An option's value is up to 65535 bytes: one over 255 travels in parts (RFC 3396). */
export interface DhcpOption {
  readonly code: number
  readonly value: Uint8Array
}

/** A DHCP message; field names of the RFC in brackets. */
export interface Dhcp {
  readonly op: 'request' | 'reply'
  readonly hops: number
  readonly transaction: number
  readonly seconds: number
  /** 0x8000: the client wants the answer as a broadcast. */
  readonly flags: number
  /** [ciaddr] */
  readonly clientAddress: number
  /** [yiaddr] */
  readonly yourAddress: number
  /** [siaddr] */
  readonly serverAddress: number
  /** [giaddr] */
  readonly relayAddress: number
  /** [chaddr] */
  readonly mac: number
  /** [sname] Up to 64 bytes, zeros behind it cut; may hold options when option 52 says so. */
  readonly serverName: Uint8Array
  /** [file] Up to 128 bytes, likewise. */
  readonly bootFile: Uint8Array
  /** Each code once, in the order met; pad and end are not among them. */
  readonly options: readonly DhcpOption[]
}

const cookie = 0x6382_5363
const pad = 0
const end = 255

export const dhcp: Codec<Dhcp> = {
  name: 'dhcp',

  size({ options }) {
    return 241 + options.reduce((size, { value }) => size + sizeOfOption(value), 0)
  },

  decode(reader) {
    const op = reader.u8()
    if (op !== 1 && op !== 2) throw new MalformedError(`dhcp: op ${op}`)
    if (reader.u16() !== 0x0106) throw new MalformedError('dhcp: not over Ethernet')
    return {
      op: op === 1 ? 'request' : 'reply',
      hops: reader.u8(),
      transaction: reader.u32(),
      seconds: reader.u16(),
      flags: reader.u16(),
      clientAddress: reader.u32(),
      yourAddress: reader.u32(),
      serverAddress: reader.u32(),
      relayAddress: reader.u32(),
      mac: readMac(reader),
      serverName: trimZeros(reader.bytes(64)),
      bootFile: trimZeros(reader.bytes(128)),
      options: readOptions(reader),
    }
  },

  encode(writer, value) {
    writer.u8(value.op === 'request' ? 1 : 2)
    writer.u16(0x0106)
    writer.u8(value.hops)
    writer.u32(value.transaction)
    writer.u16(value.seconds)
    writer.u16(value.flags)
    writer.u32(value.clientAddress)
    writer.u32(value.yourAddress)
    writer.u32(value.serverAddress)
    writer.u32(value.relayAddress)
    writer.u48(value.mac)
    writer.zeros(10)
    writePadded(writer, value.serverName, 64)
    writePadded(writer, value.bootFile, 128)
    writer.u32(cookie)
    for (const option of value.options) writeOption(writer, option)
    writer.u8(end)
  },
}

/** The MAC address in its field of 16 bytes; what follows it means nothing. */
function readMac(reader: Reader): number {
  const mac = reader.u48()
  reader.bytes(10)
  return mac
}

/** Reads up to the end option. Parts of one code are joined, as RFC 3396 asks. */
function readOptions(reader: Reader): readonly DhcpOption[] {
  if (reader.u32() !== cookie) throw new MalformedError('dhcp: no magic cookie')
  const parts = new Map<number, Uint8Array[]>()
  for (let code = reader.u8(); code !== end; code = reader.u8()) {
    if (code === pad) continue
    const part = reader.bytes(reader.u8())
    const known = parts.get(code)
    if (known === undefined) parts.set(code, [part])
    else known.push(part)
  }
  return [...parts].map(([code, values]) => ({ code, value: join(values) }))
}

function join(parts: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((size, part) => size + part.length, 0))
  let at = 0
  for (const part of parts) {
    whole.set(part, at)
    at += part.length
  }
  return whole
}

function sizeOfOption(value: Uint8Array): number {
  return value.length + 2 * Math.max(1, Math.ceil(value.length / 255))
}

function writeOption(writer: Writer, { code, value }: DhcpOption): void {
  let at = 0
  do {
    const part = value.subarray(at, at + 255)
    writer.u8(code)
    writer.u8(part.length)
    writer.bytes(part)
    at += 255
  } while (at < value.length)
}

function writePadded(writer: Writer, value: Uint8Array, size: number): void {
  const part = value.subarray(0, size)
  writer.bytes(part)
  writer.zeros(size - part.length)
}

function trimZeros(bytes: Uint8Array): Uint8Array {
  let size = bytes.length
  while (size > 0 && bytes[size - 1] === 0) size--
  return bytes.subarray(0, size)
}
