/** Frames that a virtual device sends itself: ARP, answers to echo requests, ICMP errors. */
import { broadcastMac, isGroupMac } from './address.ts'
import { type Arp, arp, arpReply, arpRequest } from './arp.ts'
import {
  type Codec,
  decode,
  encode,
  MalformedError,
  Reader,
  TruncatedError,
  Writer,
} from './bytes.ts'
import { type Ethernet, ethernet } from './ethernet.ts'
import { etherTypeArp, etherTypeIpv4, protoIcmp } from './extract.ts'
import { icmp, isIcmpErrorType } from './icmp.ts'
import { type Ipv4, ipv4, ipv4Header } from './ipv4.ts'

/** Asks who has `tpa`, by broadcast. */
export function buildArpRequest(from: { sha: number; spa: number; tpa: number }): Uint8Array {
  return buildArp(broadcastMac, { op: arpRequest, ...from, tha: 0 })
}

/** Says that `spa` is at `sha`, to the one who asked. */
export function buildArpReply(reply: Omit<Arp, 'op'>): Uint8Array {
  return buildArp(reply.tha, { op: arpReply, ...reply })
}

function buildArp(dst: number, message: Arp): Uint8Array {
  const header = { dst, src: message.sha, vlan: undefined, etherType: etherTypeArp }
  return buildFrame(header, arp, message)
}

/** A frame with this header and payload. */
export function buildFrame<T>(header: Ethernet, codec: Codec<T>, payload: T): Uint8Array {
  const frame = new Uint8Array(ethernet.size(header) + codec.size(payload))
  const writer = new Writer(frame)
  ethernet.encode(writer, header)
  codec.encode(writer, payload)
  return frame
}

const ttl = 64

/**
 * The answer to an echo request, from the one it was sent to; undefined when `frame` is no whole,
 * unfragmented echo request over IPv4. IP options are not answered.
 */
export function buildEchoReply(frame: Uint8Array): Uint8Array | undefined {
  const request = readIpv4(frame)
  if (request === undefined || request.packet.proto !== protoIcmp) return undefined
  const { header, packet } = request
  if (packet.moreFragments || packet.fragmentOffset !== 0) return undefined
  const message = attempt(() => decode(icmp, packet.payload))
  if (message?.kind !== 'echoRequest') return undefined
  const reply = {
    ...packet,
    src: packet.dst,
    dst: packet.src,
    dontFragment: false,
    ttl,
    options: new Uint8Array(0),
    payload: encode(icmp, { ...message, kind: 'echoReply' }),
  }
  return buildFrame({ ...header, dst: header.src, src: header.dst }, ipv4, reply)
}

/** What to say about a packet, and who says it. */
export interface IcmpErrorRequest {
  readonly type: number
  readonly code: number
  /** As in `IcmpError`: the MTU, the gateway, the pointer. */
  readonly parameter?: number
  readonly srcMac: number
  /** The address of the port that the packet came in by. */
  readonly srcIp: number
}

/** RFC 1812 section 4.3.2.3: as much as fits, the whole error being at most 576 bytes. */
const errorSizeMax = 576

/** Precedence 6, internetwork control: RFC 1812 section 4.3.2.5. */
const errorTos = 0xc0

/**
 * An ICMP error about the packet in `frame`, to its sender; undefined when RFC 1812 section 4.3.2.7
 * forbids one: about another error, a later fragment, a frame to a group, or a packet whose source
 * or destination is not one host, and when the header is damaged. Whether the destination is the
 * broadcast of a network is for the caller to know.
 */
export function buildIcmpError(
  frame: Uint8Array,
  { type, code, parameter = 0, srcMac, srcIp }: IcmpErrorRequest,
): Uint8Array | undefined {
  const cause = readQuote(frame)
  if (cause === undefined) return undefined
  const quote = cause.bytes.subarray(0, errorSizeMax - 28)
  const error: Ipv4 = {
    tos: errorTos,
    id: 0,
    dontFragment: false,
    moreFragments: false,
    fragmentOffset: 0,
    ttl,
    proto: protoIcmp,
    src: srcIp,
    dst: cause.src,
    options: new Uint8Array(0),
    payload: encode(icmp, { kind: 'error', type, code, parameter, quote }),
  }
  return buildFrame({ ...cause.header, dst: cause.header.src, src: srcMac }, ipv4, error)
}

/** The packet to quote, unless no error may be sent about it. */
function readQuote(
  frame: Uint8Array,
): { header: Ethernet; src: number; bytes: Uint8Array } | undefined {
  return attempt(() => {
    const reader = new Reader(frame)
    const header = ethernet.decode(reader)
    if (header.etherType !== etherTypeIpv4 || isGroupMac(header.dst)) return undefined
    const bytes = reader.rest()
    const packet = new Reader(bytes)
    const { src, dst, proto, fragmentOffset, payloadSize } = ipv4Header.decode(packet)
    if (fragmentOffset !== 0 || !isOneHost(src) || !isUnicast(dst)) return undefined
    const size = bytes.length - packet.left
    if (proto === protoIcmp && (packet.left === 0 || isIcmpErrorType(packet.u8()))) return undefined
    return { header, src, bytes: bytes.subarray(0, Math.min(bytes.length, size + payloadSize)) }
  })
}

/** Not multicast, class E or limited broadcast. */
function isUnicast(address: number): boolean {
  return address >>> 28 < 0xe
}

/** Nor of network 0 or loopback. */
function isOneHost(address: number): boolean {
  return isUnicast(address) && address >>> 24 !== 0 && address >>> 24 !== 127
}

function readIpv4(frame: Uint8Array): { header: Ethernet; packet: Ipv4 } | undefined {
  return attempt(() => {
    const reader = new Reader(frame)
    const header = ethernet.decode(reader)
    return header.etherType === etherTypeIpv4 ? { header, packet: ipv4.decode(reader) } : undefined
  })
}

/** What `read` reads; undefined when the bytes are not what they should be. */
export function attempt<T>(read: () => T): T | undefined {
  try {
    return read()
  } catch (error) {
    if (error instanceof TruncatedError || error instanceof MalformedError) return undefined
    throw error
  }
}
