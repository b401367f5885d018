/** Frames of scripts changed where a flow key says nothing: Identification, length, quotes. */
import { parseIp } from '../../packet/address.ts'
import { readU16, writeU16, writeU32 } from '../../packet/bytes.ts'
import { checksum } from '../../packet/checksum.ts'

/** An untagged fragment of a certain datagram. */
export function withFragmentId(frame: Uint8Array, id: number): Uint8Array {
  const isIpv6 = readU16(frame, 12) === 0x86dd
  writeU16(frame, isIpv6 ? 60 : 18, id)
  if (isIpv6) return frame
  writeU16(frame, 24, 0)
  writeU16(frame, 24, checksum(frame.subarray(14, 34)))
  return frame
}

/** An IPv4 packet, tagged or not, made longer. */
export function resize(frame: Uint8Array, size: number, dontFragment: boolean): Uint8Array {
  const start = readU16(frame, 12) === 0x8100 ? 18 : 14
  const longer = new Uint8Array(start + size)
  longer.set(frame.subarray(0, longer.length))
  writeU16(longer, start + 2, size)
  if (longer[start + 9] === 17) writeU16(longer, start + 24, size - 20)
  if (dontFragment) writeU16(longer, start + 6, 0x4000)
  writeU16(longer, start + 10, 0)
  writeU16(longer, start + 10, checksum(longer.subarray(start, start + 20)))
  return longer
}

/** Puts a packet's headers into an untagged ICMP error. */
export function writeQuoted(frame: Uint8Array, about: string, protocol: number): void {
  const [src = '', dst = ''] = about.split('>')
  const [from = '', srcPort = ''] = src.split(':')
  const [to = '', dstPort = ''] = dst.split(':')
  writeU16(frame, 42, 0x4500)
  writeU16(frame, 44, 28)
  frame[50] = 64
  frame[51] = protocol
  writeU32(frame, 54, parseIp(from) ?? 0)
  writeU32(frame, 58, parseIp(to) ?? 0)
  writeU16(frame, 52, checksum(frame.subarray(42, 62)))
  if (protocol === 1) frame[62] = 8
  writeU16(frame, protocol === 1 ? 66 : 62, Number(srcPort))
  if (protocol !== 1) writeU16(frame, 64, Number(dstPort))
}
