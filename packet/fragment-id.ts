/** What tells the fragments of one datagram from those of another; no flow key has it. */
import { readU8, readU16, readU32 } from './bytes.ts'
import { extensionsMax, isExtension, protoAuthentication, protoFragment } from './extension.ts'
import { etherTypeIpv4, etherTypeIpv6, etherTypeVlan } from './extract.ts'

/** The Identification of a fragment of either version of IP; undefined when it is none. */
export function fragmentIdOf(frame: Uint8Array): number | undefined {
  if (frame.length < 34) return undefined
  const start = readU16(frame, 12) === etherTypeVlan ? 18 : 14
  const etherType = readU16(frame, start - 2)
  if (etherType === etherTypeIpv6) return fragmentIdOf6(frame, start)
  if (etherType !== etherTypeIpv4 || frame.length < start + 20) return undefined
  // More fragments, or an offset.
  return (readU16(frame, start + 6) & 0x3fff) === 0 ? undefined : readU16(frame, start + 4)
}

function fragmentIdOf6(frame: Uint8Array, start: number): number | undefined {
  if (frame.length < start + 40) return undefined
  let protocol = readU8(frame, start + 6)
  let at = start + 40
  for (let count = 0; count < extensionsMax && isExtension(protocol); count++) {
    if (frame.length < at + 8) return undefined
    if (protocol === protoFragment) return readU32(frame, at + 4)
    const [next, size] = [readU8(frame, at), readU8(frame, at + 1)]
    at += protocol === protoAuthentication ? (size + 2) * 4 : (size + 1) * 8
    protocol = next
  }
  return undefined
}
