/**
 * IPv6 extension headers, RFC 8200 section 4, on the way to the transport header.
 *
 * Who decides by ports must not be deceived about where they are. So what is not followed to its
 * end is named by protocol numbers that no transport has, and filters let none of that pass which
 * says `protoUnreadable`.
 */
import { readU8, readU16 } from './bytes.ts'
import { fragFirst, fragLater, fragNone } from './flow-key.ts'

export const protoHopByHop = 0
export const protoRouting = 43
export const protoFragment = 44
export const protoAuthentication = 51
/** Nothing comes after it; also said where the headers end too early. */
export const protoNone = 59
export const protoDestination = 60
/** More headers than are followed, or a way that the sender chose. Reserved by IANA. */
export const protoUnreadable = 255

/** Extension headers of one packet that are followed. */
export const extensionsMax = 8

/** Where the transport header is, if it is to be read: `start` 0 says that it is not. */
export interface Transport {
  readonly protocol: number
  readonly frag: number
  readonly start: number
}

/** Whether the number is that of a header with another one behind. */
export function isExtension(protocol: number): boolean {
  switch (protocol) {
    case protoHopByHop:
    case protoRouting:
    case protoFragment:
    case protoAuthentication:
    case protoDestination:
      return true
    default:
      return false
  }
}

/** Follows the headers from `first`, the fixed header's next, at `start`. */
export function walkExtensions(frame: Uint8Array, start: number, first: number): Transport {
  let protocol = first
  let frag = fragNone
  let at = start
  for (let count = 0; isExtension(protocol); count++) {
    if (count === extensionsMax) return { protocol: protoUnreadable, frag, start: 0 }
    if (frame.length < at + 4) return { protocol: protoNone, frag, start: 0 }
    const [next, size] = [readU8(frame, at), readU8(frame, at + 1)]
    if (protocol === protoFragment) {
      if ((readU16(frame, at + 2) & 0xfff8) !== 0)
        return { protocol: protoFragment, frag: fragLater, start: 0 }
      frag = fragFirst
      at += 8
    } else if (protocol === protoRouting && readU8(frame, at + 3) !== 0) {
      return { protocol: protoUnreadable, frag, start: 0 }
    } else at += protocol === protoAuthentication ? (size + 2) * 4 : (size + 1) * 8
    protocol = next
  }
  return { protocol, frag, start: at }
}
