/**
 * ICMPv6, RFC 4443, with the messages of Neighbor Discovery, RFC 4861.
 *
 *  0                   1                   2                   3
 * +---------------+---------------+-------------------------------+
 * |     type      |     code      |           checksum            |
 * +---------------+---------------+-------------------------------+
 * |      by type: identifier and sequence, parameter, flags       |
 * +---------------------------------------------------------------+
 * |  by type: data, the packet in question, targets and options   |
 * +---------------------------------------------------------------+
 *
 * Options: type (8), length in units of 8 bytes (8), value.
 */
import { type Codec, MalformedError, Reader, Writer } from './bytes.ts'
import { type Addresses, transportChecksum } from './checksum.ts'
import { protoIcmpv6 } from './extract.ts'

/** A Neighbor Discovery option; `value` is 6 bytes, or 8 more than that any number of times. */
export interface NdOption {
  readonly type: number
  readonly value: Uint8Array
}

/** An ICMPv6 message. */
export type Icmpv6 =
  | {
      readonly kind: 'echoRequest' | 'echoReply'
      readonly id: number
      readonly sequence: number
      readonly data: Uint8Array
    }
  /** Types 1 to 4; `parameter` is the MTU or a pointer, `quote` the packet in question, in part. */
  | {
      readonly kind: 'error'
      readonly type: number
      readonly code: number
      readonly parameter: number
      readonly quote: Uint8Array
    }
  | { readonly kind: 'routerSolicitation'; readonly options: readonly NdOption[] }
  | RouterAdvertisement
  | {
      readonly kind: 'neighborSolicitation'
      readonly target: bigint
      readonly options: readonly NdOption[]
    }
  | {
      readonly kind: 'neighborAdvertisement'
      readonly fromRouter: boolean
      readonly solicited: boolean
      readonly override: boolean
      readonly target: bigint
      readonly options: readonly NdOption[]
    }
  | {
      readonly kind: 'redirect'
      readonly target: bigint
      readonly destination: bigint
      readonly options: readonly NdOption[]
    }
  /** Any other, kept as it is: `body` is all behind the checksum. */
  | {
      readonly kind: 'other'
      readonly type: number
      readonly code: number
      readonly body: Uint8Array
    }

export interface RouterAdvertisement {
  readonly kind: 'routerAdvertisement'
  readonly hopLimit: number
  /** Managed (0x80), other configuration (0x40), and later ones. */
  readonly flags: number
  readonly lifetimeSeconds: number
  readonly reachableMs: number
  readonly retransmitMs: number
  readonly options: readonly NdOption[]
}

export const ndSourceMac = 1
export const ndTargetMac = 2

const types = {
  echoRequest: 128,
  echoReply: 129,
  routerSolicitation: 133,
  routerAdvertisement: 134,
  neighborSolicitation: 135,
  neighborAdvertisement: 136,
  redirect: 137,
} as const

type Kind = keyof typeof types

const kinds: ReadonlyMap<number, Kind> = new Map<number, Kind>([
  [types.echoRequest, 'echoRequest'],
  [types.echoReply, 'echoReply'],
  [types.routerSolicitation, 'routerSolicitation'],
  [types.routerAdvertisement, 'routerAdvertisement'],
  [types.neighborSolicitation, 'neighborSolicitation'],
  [types.neighborAdvertisement, 'neighborAdvertisement'],
  [types.redirect, 'redirect'],
])

const flagFromRouter = 0x8000_0000
const flagSolicited = 0x4000_0000
const flagOverride = 0x2000_0000

/**
 * ICMPv6 between these addresses, which its checksum covers. The message ends where the bytes given
 * end. Reserved bits of known messages are ignored on receipt, as the RFCs ask.
 */
export function icmpv6(addresses: Addresses): Codec<Icmpv6> {
  return {
    name: 'icmpv6',
    size: sizeOf,

    decode(reader) {
      const bytes = reader.rest()
      const message = new Reader(bytes)
      const type = message.u8()
      const code = message.u8()
      message.u16()
      if (transportChecksum(addresses, protoIcmpv6, bytes) !== 0)
        throw new MalformedError('icmpv6: wrong checksum')
      return readMessage(type, code, message)
    },

    encode(writer, value) {
      const bytes = new Uint8Array(sizeOf(value))
      writeMessage(new Writer(bytes), value, 0)
      writeMessage(writer, value, transportChecksum(addresses, protoIcmpv6, bytes))
    },
  }
}

function sizeOf(value: Icmpv6): number {
  switch (value.kind) {
    case 'echoRequest':
    case 'echoReply':
      return 8 + value.data.length
    case 'error':
      return 8 + value.quote.length
    case 'other':
      return 4 + value.body.length
    case 'routerSolicitation':
      return 8 + sizeOfOptions(value.options)
    case 'routerAdvertisement':
      return 16 + sizeOfOptions(value.options)
    case 'neighborSolicitation':
    case 'neighborAdvertisement':
      return 24 + sizeOfOptions(value.options)
    case 'redirect':
      return 40 + sizeOfOptions(value.options)
  }
}

function sizeOfOptions(options: readonly NdOption[]): number {
  return options.reduce((size, { value }) => size + 2 + value.length, 0)
}

function readMessage(type: number, code: number, message: Reader): Icmpv6 {
  const kind = code === 0 ? kinds.get(type) : undefined
  if (type >= 1 && type <= 4)
    return { kind: 'error', type, code, parameter: message.u32(), quote: message.rest() }
  if (kind === undefined) return { kind: 'other', type, code, body: message.rest() }
  switch (kind) {
    case 'echoRequest':
    case 'echoReply':
      return { kind, id: message.u16(), sequence: message.u16(), data: message.rest() }
    case 'routerSolicitation':
      message.u32()
      return { kind, options: readOptions(message) }
    case 'routerAdvertisement':
      return readAdvertisement(message)
    case 'neighborSolicitation':
      message.u32()
      return { kind, target: message.u128(), options: readOptions(message) }
    case 'neighborAdvertisement': {
      const flags = message.u32()
      const fromRouter = (flags & flagFromRouter) !== 0
      const solicited = (flags & flagSolicited) !== 0
      const override = (flags & flagOverride) !== 0
      const target = message.u128()
      return { kind, fromRouter, solicited, override, target, options: readOptions(message) }
    }
    case 'redirect':
      message.u32()
      return {
        kind,
        target: message.u128(),
        destination: message.u128(),
        options: readOptions(message),
      }
  }
}

function readAdvertisement(message: Reader): RouterAdvertisement {
  return {
    kind: 'routerAdvertisement',
    hopLimit: message.u8(),
    flags: message.u8(),
    lifetimeSeconds: message.u16(),
    reachableMs: message.u32(),
    retransmitMs: message.u32(),
    options: readOptions(message),
  }
}

function readOptions(message: Reader): readonly NdOption[] {
  const options: NdOption[] = []
  while (message.left > 0) {
    const type = message.u8()
    const size = message.u8() * 8
    // RFC 4861 section 4.6: a packet with such an option is discarded.
    if (size === 0) throw new MalformedError('icmpv6: option of length 0')
    options.push({ type, value: message.bytes(size - 2) })
  }
  return options
}

function writeMessage(writer: Writer, value: Icmpv6, sum: number): void {
  const known = value.kind !== 'error' && value.kind !== 'other'
  writer.u8(known ? types[value.kind] : value.type)
  writer.u8(known ? 0 : value.code)
  writer.u16(sum)
  writeBody(writer, value)
  if ('options' in value) writeOptions(writer, value.options)
}

function writeBody(writer: Writer, value: Icmpv6): void {
  switch (value.kind) {
    case 'echoRequest':
    case 'echoReply':
      writer.u16(value.id)
      writer.u16(value.sequence)
      writer.bytes(value.data)
      break
    case 'error':
      writer.u32(value.parameter)
      writer.bytes(value.quote)
      break
    case 'other':
      writer.bytes(value.body)
      break
    case 'routerSolicitation':
      writer.u32(0)
      break
    case 'routerAdvertisement':
      writer.u8(value.hopLimit)
      writer.u8(value.flags)
      writer.u16(value.lifetimeSeconds)
      writer.u32(value.reachableMs)
      writer.u32(value.retransmitMs)
      break
    case 'neighborSolicitation':
      writer.u32(0)
      writer.u128(value.target)
      break
    case 'neighborAdvertisement':
      writer.u32(
        (value.fromRouter ? flagFromRouter : 0) |
          (value.solicited ? flagSolicited : 0) |
          (value.override ? flagOverride : 0),
      )
      writer.u128(value.target)
      break
    case 'redirect':
      writer.u32(0)
      writer.u128(value.target)
      writer.u128(value.destination)
  }
}

function writeOptions(writer: Writer, options: readonly NdOption[]): void {
  for (const { type, value: bytes } of options) {
    writer.u8(type)
    writer.u8((2 + bytes.length) / 8)
    writer.bytes(bytes)
  }
}
