/**
 * What translators must know of an ICMP message over IPv4 and what the flow key does not say: the
 * id of an echo, and the packet that an error is about.
 *
 * Both stand for the connection the message belongs to, so a translation changes them together with
 * the header; there is no action for that, and the agent does it on the bytes.
 */
import { readU8, readU16, readU32, writeU16 } from './bytes.ts'
import { updateChecksum } from './checksum.ts'
import { etherTypeIpv4, etherTypeVlan, protoIcmp, protoTcp, protoUdp } from './extract.ts'
import { icmpEchoReply, icmpEchoRequest, isIcmpErrorType } from './icmp.ts'

/** An echo's id, in both of `ports`; of an error, source and destination of the packet quoted. */
export interface IcmpQuote {
  readonly kind: 'echo' | 'error'
  readonly protocol: number
  /** Of an echo, sent or quoted: whether it is the request. */
  readonly isRequest: boolean
  src: number
  dst: number
  /** Source port, and destination port in the high 16 bits. */
  ports: number
}

/** Undefined when the frame is no such message or ends too early. */
export function readIcmpQuote(frame: Uint8Array): IcmpQuote | undefined {
  const start = findIcmp(frame)
  if (start === undefined) return undefined
  const type = readU8(frame, start)
  if (type === icmpEchoRequest || type === icmpEchoReply) {
    const id = readU16(frame, start + 4)
    const isRequest = type === icmpEchoRequest
    return { kind: 'echo', protocol: protoIcmp, isRequest, src: 0, dst: 0, ports: twice(id) }
  }
  return isIcmpErrorType(type) ? readQuoted(frame, start + 8) : undefined
}

function readQuoted(frame: Uint8Array, ip: number): IcmpQuote | undefined {
  if (frame.length < ip + 28 || (readU16(frame, ip + 6) & 0x1fff) !== 0) return undefined
  const headerSize = (readU8(frame, ip) & 0xf) * 4
  const l4 = ip + headerSize
  if (headerSize < 20 || frame.length < l4 + 8) return undefined
  const protocol = readU8(frame, ip + 9)
  const address = { src: readU32(frame, ip + 12), dst: readU32(frame, ip + 16) }
  if (protocol === protoTcp || protocol === protoUdp) {
    const ports = (readU16(frame, l4) | (readU16(frame, l4 + 2) << 16)) >>> 0
    return { kind: 'error', protocol, isRequest: false, ...address, ports }
  }
  const isRequest = readU8(frame, l4) === icmpEchoRequest
  if (protocol !== protoIcmp) return undefined
  if (!isRequest && readU8(frame, l4) !== icmpEchoReply) return undefined
  return { kind: 'error', protocol, isRequest, ...address, ports: twice(readU16(frame, l4 + 4)) }
}

/** The frame with another quote, all checksums following as in RFC 1624. */
export function writeIcmpQuote(frame: Uint8Array, quote: IcmpQuote): Uint8Array {
  const start = findIcmp(frame)
  if (start === undefined) return frame
  const bytes = frame.slice()
  const outer = start + 2
  if (quote.kind === 'echo') {
    setWord(bytes, start + 4, quote.ports & 0xffff, [outer])
    return bytes
  }
  const ip = start + 8
  const l4 = ip + (readU8(bytes, ip) & 0xf) * 4
  const inner = innerChecksum(bytes, l4, quote.protocol)
  const overAddresses = [ip + 10, quote.protocol === protoIcmp ? undefined : inner, outer]
  setWord(bytes, ip + 12, quote.src >>> 16, overAddresses, outer)
  setWord(bytes, ip + 14, quote.src & 0xffff, overAddresses, outer)
  setWord(bytes, ip + 16, quote.dst >>> 16, overAddresses, outer)
  setWord(bytes, ip + 18, quote.dst & 0xffff, overAddresses, outer)
  if (quote.protocol === protoIcmp) {
    setWord(bytes, l4 + 4, quote.ports & 0xffff, [inner, outer], outer)
    return bytes
  }
  setWord(bytes, l4, quote.ports & 0xffff, [inner, outer], outer)
  setWord(bytes, l4 + 2, quote.ports >>> 16, [inner, outer], outer)
  return bytes
}

/** Where the checksum of the packet quoted is, if the quote reaches so far and it has one. */
function innerChecksum(bytes: Uint8Array, l4: number, protocol: number): number | undefined {
  const at = l4 + (protocol === protoTcp ? 16 : protocol === protoUdp ? 6 : 2)
  if (at + 2 > bytes.length) return undefined
  return protocol === protoUdp && readU16(bytes, at) === 0 ? undefined : at
}

/** Writes a word and what follows it; `outer` also covers the other checksums. */
function setWord(
  bytes: Uint8Array,
  at: number,
  value: number,
  checksums: readonly (number | undefined)[],
  outer?: number,
): void {
  const before = readU16(bytes, at)
  if (before === value) return
  writeU16(bytes, at, value)
  for (const place of checksums) {
    if (place === undefined) continue
    const old = readU16(bytes, place)
    const updated = updateChecksum(old, before, value)
    writeU16(bytes, place, updated)
    if (outer === undefined || place === outer) continue
    writeU16(bytes, outer, updateChecksum(readU16(bytes, outer), old, updated))
  }
}

/** Where the ICMP header of a packet that is no later fragment starts. */
function findIcmp(frame: Uint8Array): number | undefined {
  const ip = readU16(frame, 12) === etherTypeVlan ? 18 : 14
  if (frame.length < ip + 28 || readU16(frame, ip - 2) !== etherTypeIpv4) return undefined
  if (readU8(frame, ip + 9) !== protoIcmp || (readU16(frame, ip + 6) & 0x1fff) !== 0)
    return undefined
  const start = ip + (readU8(frame, ip) & 0xf) * 4
  return start >= ip + 20 && frame.length >= start + 8 ? start : undefined
}

function twice(id: number): number {
  return (id | (id << 16)) >>> 0
}
