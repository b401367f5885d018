/**
 * What translators must know of an ICMPv6 message and what the flow key does not say: the id of an
 * echo, and the packet that an error is about. As for IPv4 (icmp-quote.ts).
 */
import { equalWords6, type Words6 } from './address6.ts'
import { readU8, readU16, readU32, writeU16 } from './bytes.ts'
import { updateChecksum } from './checksum.ts'
import { walkExtensions } from './extension.ts'
import { etherTypeIpv6, etherTypeVlan, protoIcmpv6, protoTcp, protoUdp } from './extract.ts'

const echoRequest = 128
const echoReply = 129

/** An echo's id, in both of `ports`; of an error, source and destination of the packet quoted. */
export interface Icmpv6Quote {
  readonly kind: 'echo' | 'error'
  readonly protocol: number
  /** Of an echo, sent or quoted: whether it is the request. */
  readonly isRequest: boolean
  readonly src: Words6
  readonly dst: Words6
  /** Source port, and destination port in the high 16 bits. */
  readonly ports: number
}

const nobody: Words6 = [0, 0, 0, 0]

/** Undefined when the frame is no such message or ends too early. */
export function readIcmpv6Quote(frame: Uint8Array): Icmpv6Quote | undefined {
  const start = findIcmpv6(frame)
  if (start === undefined) return undefined
  const type = readU8(frame, start)
  if (type === echoRequest || type === echoReply) {
    const ports = twice(readU16(frame, start + 4))
    const isRequest = type === echoRequest
    return { kind: 'echo', protocol: protoIcmpv6, isRequest, src: nobody, dst: nobody, ports }
  }
  return type < 128 ? readQuoted(frame, start + 8) : undefined
}

function readQuoted(frame: Uint8Array, ip: number): Icmpv6Quote | undefined {
  if (frame.length < ip + 48) return undefined
  const { protocol, start } = walkExtensions(frame, ip + 40, readU8(frame, ip + 6))
  if (start === 0 || frame.length < start + 8) return undefined
  const addresses = { src: readWords(frame, ip + 8), dst: readWords(frame, ip + 24) }
  if (protocol === protoTcp || protocol === protoUdp) {
    const ports = (readU16(frame, start) | (readU16(frame, start + 2) << 16)) >>> 0
    return { kind: 'error', protocol, isRequest: false, ...addresses, ports }
  }
  const type = readU8(frame, start)
  if (protocol !== protoIcmpv6 || (type !== echoRequest && type !== echoReply)) return undefined
  const ports = twice(readU16(frame, start + 4))
  return { kind: 'error', protocol, isRequest: type === echoRequest, ...addresses, ports }
}

/** The frame with another quote, all checksums following as in RFC 1624. */
export function writeIcmpv6Quote(frame: Uint8Array, quote: Icmpv6Quote): Uint8Array {
  const start = findIcmpv6(frame)
  if (start === undefined) return frame
  const bytes = frame.slice()
  const outer = start + 2
  if (quote.kind === 'echo') {
    setWord(bytes, start + 4, quote.ports & 0xffff, outer)
    return bytes
  }
  const ip = start + 8
  const { protocol, start: l4 } = walkExtensions(bytes, ip + 40, readU8(bytes, ip + 6))
  const inner = innerChecksum(bytes, l4, protocol)
  for (const [at, words] of [
    [ip + 8, quote.src],
    [ip + 24, quote.dst],
  ] as const)
    if (!equalWords6(readWords(bytes, at), words))
      for (const [index, word] of words.entries()) {
        setWord(bytes, at + 4 * index, word >>> 16, outer, inner)
        setWord(bytes, at + 4 * index + 2, word & 0xffff, outer, inner)
      }
  if (protocol === protoIcmpv6) {
    setWord(bytes, l4 + 4, quote.ports & 0xffff, outer, inner)
    return bytes
  }
  setWord(bytes, l4, quote.ports & 0xffff, outer, inner)
  setWord(bytes, l4 + 2, quote.ports >>> 16, outer, inner)
  return bytes
}

/** Where the checksum of the packet quoted is, if the quote reaches so far and it has one. */
function innerChecksum(bytes: Uint8Array, l4: number, protocol: number): number | undefined {
  const at = l4 + (protocol === protoTcp ? 16 : protocol === protoUdp ? 6 : 2)
  if (at + 2 > bytes.length) return undefined
  return protocol === protoUdp && readU16(bytes, at) === 0 ? undefined : at
}

/** Writes a word; the inner checksum follows, and the outer one both. */
function setWord(
  bytes: Uint8Array,
  at: number,
  value: number,
  outer: number,
  inner?: number,
): void {
  const before = readU16(bytes, at)
  if (before === value) return
  writeU16(bytes, at, value)
  writeU16(bytes, outer, updateChecksum(readU16(bytes, outer), before, value))
  if (inner === undefined) return
  const old = readU16(bytes, inner)
  const updated = updateChecksum(old, before, value)
  writeU16(bytes, inner, updated)
  writeU16(bytes, outer, updateChecksum(readU16(bytes, outer), old, updated))
}

function readWords(frame: Uint8Array, at: number): Words6 {
  return [
    readU32(frame, at),
    readU32(frame, at + 4),
    readU32(frame, at + 8),
    readU32(frame, at + 12),
  ]
}

/** Where the ICMPv6 header of a packet that is no later fragment starts. */
function findIcmpv6(frame: Uint8Array): number | undefined {
  const ip = readU16(frame, 12) === etherTypeVlan ? 18 : 14
  if (frame.length < ip + 48 || readU16(frame, ip - 2) !== etherTypeIpv6) return undefined
  const { protocol, start } = walkExtensions(frame, ip + 40, readU8(frame, ip + 6))
  return protocol === protoIcmpv6 && start !== 0 && frame.length >= start + 8 ? start : undefined
}

function twice(id: number): number {
  return (id | (id << 16)) >>> 0
}
