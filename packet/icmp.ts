/**
 * ICMP, RFC 792.
 *
 *  0                   1                   2                   3
 * +---------------+---------------+-------------------------------+
 * |     type      |     code      |           checksum            |
 * +---------------+---------------+-------------------------------+
 * |    echo: identifier, sequence;  errors: a parameter           |
 * +---------------------------------------------------------------+
 * |    echo: data;  errors: the packet in question, in part       |
 * +---------------------------------------------------------------+
 */
import { type Codec, MalformedError, Reader, Writer } from './bytes.ts'
import { checksum } from './checksum.ts'

/** An ICMP message. */
export type Icmp =
  | IcmpEcho
  | IcmpError
  /** Any other, kept as it is: `body` is all behind the checksum. */
  | {
      readonly kind: 'other'
      readonly type: number
      readonly code: number
      readonly body: Uint8Array
    }

export interface IcmpEcho {
  readonly kind: 'echoRequest' | 'echoReply'
  readonly id: number
  readonly sequence: number
  readonly data: Uint8Array
}

export interface IcmpError {
  readonly kind: 'error'
  readonly type: number
  readonly code: number
  /** By type: the next hop's MTU in the low 16 bits, a gateway, a pointer in the high 8. */
  readonly parameter: number
  /** The packet that caused the error from its IP header on, often cut: read it by `ipv4Header`. */
  readonly quote: Uint8Array
}

export const icmpEchoReply = 0
export const icmpUnreachable = 3
export const icmpRedirect = 5
export const icmpEchoRequest = 8
export const icmpTimeExceeded = 11

/** Codes of `icmpUnreachable`, RFC 792 and RFC 1812 section 5.2.7.1. */
export const unreachableNetwork = 0
export const unreachableHost = 1
export const unreachablePort = 3
export const fragmentationNeeded = 4
export const unreachableProhibited = 13

/** Unreachable, source quench, redirect, time exceeded, parameter problem. */
export function isIcmpErrorType(type: number): boolean {
  return type === 3 || type === 4 || type === 5 || type === 11 || type === 12
}

/** The message ends where the bytes given end, so the IP payload must be given exactly. */
export const icmp: Codec<Icmp> = {
  name: 'icmp',

  size(value) {
    if (value.kind === 'other') return 4 + value.body.length
    return 8 + (value.kind === 'error' ? value.quote : value.data).length
  },

  decode(reader) {
    const bytes = reader.rest()
    const message = new Reader(bytes)
    const type = message.u8()
    const code = message.u8()
    message.u16()
    if (checksum(bytes) !== 0) throw new MalformedError('icmp: wrong checksum')
    if (isIcmpErrorType(type))
      return { kind: 'error', type, code, parameter: message.u32(), quote: message.rest() }
    if (code !== 0 || (type !== icmpEchoRequest && type !== icmpEchoReply))
      return { kind: 'other', type, code, body: message.rest() }
    const kind = type === icmpEchoRequest ? 'echoRequest' : 'echoReply'
    return { kind, id: message.u16(), sequence: message.u16(), data: message.rest() }
  },

  encode(writer, value) {
    const bytes = new Uint8Array(icmp.size(value))
    writeMessage(new Writer(bytes), value, 0)
    writeMessage(writer, value, checksum(bytes))
  },
}

function writeMessage(writer: Writer, value: Icmp, sum: number): void {
  writer.u8(typeOf(value))
  writer.u8(value.kind === 'error' || value.kind === 'other' ? value.code : 0)
  writer.u16(sum)
  if (value.kind === 'other') {
    writer.bytes(value.body)
  } else if (value.kind === 'error') {
    writer.u32(value.parameter)
    writer.bytes(value.quote)
  } else {
    writer.u16(value.id)
    writer.u16(value.sequence)
    writer.bytes(value.data)
  }
}

function typeOf(value: Icmp): number {
  if (value.kind === 'error' || value.kind === 'other') return value.type
  return value.kind === 'echoRequest' ? icmpEchoRequest : icmpEchoReply
}
