/** IPv4 packets that are too long for a link: their length, and cutting them (RFC 791 section 3.2). */
import { buildFrame } from './build.ts'
import { decode, MalformedError, Reader, readU16, TruncatedError } from './bytes.ts'
import { checksum } from './checksum.ts'
import { ethernet } from './ethernet.ts'
import { etherTypeIpv4, etherTypeVlan, protoTcp } from './extract.ts'
import { ipv4 } from './ipv4.ts'

/** Bytes of a frame before what it carries, behind at most one tag. */
export function linkHeaderSize(frame: Uint8Array): number {
  return frame.length >= 18 && readU16(frame, 12) === etherTypeVlan ? 18 : 14
}

/**
 * Bytes of the longest IP packet that a frame will leave as. `segmentSize`, when it is not 0: what
 * each of the segments that it is still to be cut into carries above TCP or UDP.
 */
export function ipLength(frame: Uint8Array, segmentSize = 0): number {
  const start = linkHeaderSize(frame)
  const whole = Math.max(0, frame.length - start)
  if (segmentSize === 0 || frame.length < start + 20) return whole
  const isIpv4 = readU16(frame, start - 2) === etherTypeIpv4
  const header = isIpv4 ? ((frame[start] ?? 0) & 0xf) * 4 : 40
  const protocol = frame[start + (isIpv4 ? 9 : 6)]
  const transport = start + header
  const above = protocol === protoTcp ? ((frame[transport + 12] ?? 0x50) >>> 4) * 4 : 8
  return Math.min(whole, header + above + segmentSize)
}

/** Whether routers may cut it: IPv4 without DF. */
export function mayFragment(frame: Uint8Array): boolean {
  const start = linkHeaderSize(frame)
  if (frame.length < start + 20 || readU16(frame, start - 2) !== etherTypeIpv4) return false
  return (readU16(frame, start + 6) & 0x4000) === 0
}

/**
 * A frame with an IPv4 packet cut into such that none is longer than `mtu`; undefined when it cannot
 * be read. `checksumAt`: where in the frame the sender has left TCP's or UDP's checksum to be
 * completed, the sum of the pseudo header standing there; it is completed first.
 */
export function fragmentFrame(
  frame: Uint8Array,
  mtu: number,
  pending?: { readonly start: number; readonly offset: number },
): readonly Uint8Array[] | undefined {
  try {
    const whole = pending === undefined ? frame : completeChecksum(frame, pending)
    const reader = new Reader(whole)
    const header = ethernet.decode(reader)
    if (header.etherType !== etherTypeIpv4) return undefined
    const packet = decode(ipv4, whole.subarray(ethernet.size(header)))
    const frames: Uint8Array[] = []
    for (let at = 0; at < packet.payload.length; ) {
      // Only options that say so go into all fragments; the others stay with the first.
      const options = at === 0 ? packet.options : copiedOptions(packet.options)
      const room = (mtu - 20 - options.length) & ~7
      if (room <= 0) return undefined
      const isLast = at + room >= packet.payload.length
      frames.push(
        buildFrame(header, ipv4, {
          ...packet,
          options,
          moreFragments: packet.moreFragments || !isLast,
          fragmentOffset: packet.fragmentOffset + at,
          payload: packet.payload.subarray(at, at + room),
        }),
      )
      at += room
    }
    return frames
  } catch (error) {
    if (error instanceof TruncatedError || error instanceof MalformedError) return undefined
    throw error
  }
}

function completeChecksum(
  frame: Uint8Array,
  { start, offset }: { readonly start: number; readonly offset: number },
): Uint8Array {
  const whole = frame.slice()
  const at = start + offset
  if (at + 2 > whole.length) return whole
  const sum = checksum(whole, start) || 0xffff
  whole[at] = sum >>> 8
  whole[at + 1] = sum & 0xff
  return whole
}

/** The options with the copied bit, filled up to words: RFC 791 section 3.1. */
function copiedOptions(options: Uint8Array): Uint8Array {
  const kept: number[] = []
  for (let at = 0; at < options.length; ) {
    const type = options[at] ?? 0
    if (type === 0) break
    const size = type === 1 ? 1 : Math.max(2, options[at + 1] ?? 2)
    if ((type & 0x80) !== 0) kept.push(...options.subarray(at, at + size))
    at += size
  }
  while (kept.length % 4 !== 0) kept.push(0)
  return Uint8Array.from(kept)
}
