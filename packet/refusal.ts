/** What is sent back in the name of the one a packet was sent to, when it does not get there. */
import { attempt, buildFrame, buildIcmpError } from './build.ts'
import { buildIcmpv6Error } from './build6.ts'
import { encode, Reader } from './bytes.ts'
import type { Addresses } from './checksum.ts'
import { type Ethernet, ethernet } from './ethernet.ts'
import { walkExtensions } from './extension.ts'
import { etherTypeIpv4, etherTypeIpv6, protoTcp } from './extract.ts'
import { fragLater } from './flow-key.ts'
import { icmpUnreachable, unreachableProhibited } from './icmp.ts'
import { ipv4, ipv4Header } from './ipv4.ts'
import { ipv6 } from './ipv6.ts'
import { tcp, tcpAck, tcpFin, tcpRst, tcpSyn } from './tcp.ts'

const ttl = 64
/** ICMPv6 types and codes, RFC 4443 sections 3.1 and 3.2. */
const prohibited6 = { type: 1, code: 1 } as const
const tooBig6 = { type: 2, code: 0 } as const
/** ICMP's, RFC 792 and RFC 1191. */
const prohibited = { type: icmpUnreachable, code: unreachableProhibited } as const
const tooBig = { type: icmpUnreachable, code: 4 } as const
/** What every link of IPv6 carries: no sender goes below. */
const mtu6Min = 1280

/**
 * A reset of a TCP segment as RFC 9293 section 3.10.7.1 asks of a closed port, else an ICMP error
 * that says "prohibited"; undefined when the packet is one that must not be answered.
 */
export function buildRefusal(frame: Uint8Array): Uint8Array | undefined {
  const found = attempt(() => readPacket(frame))
  if (found === undefined) return undefined
  return found.isTcp ? buildReset(found) : buildError(frame, found, prohibited, prohibited6)
}

/**
 * An ICMP error that says that the packet is larger than `mtu`; undefined when the packet is one that
 * must not be answered.
 */
export function buildTooBig(frame: Uint8Array, mtu: number): Uint8Array | undefined {
  const found = attempt(() => readPacket(frame))
  if (found === undefined) return undefined
  const parameter6 = Math.max(mtu, mtu6Min)
  return buildError(
    frame,
    found,
    { ...tooBig, parameter: mtu },
    { ...tooBig6, parameter: parameter6 },
  )
}

/** An IP packet, and what it carries. */
interface Packet {
  readonly header: Ethernet
  readonly addresses: Addresses
  readonly isTcp: boolean
  /** Of a TCP packet that is no later fragment: the segment as far as it is there. */
  readonly segment: Uint8Array | undefined
  /** Bytes that the segment has by the IP header. */
  readonly segmentSize: number
}

function readPacket(frame: Uint8Array): Packet | undefined {
  const reader = new Reader(frame)
  const header = ethernet.decode(reader)
  if (header.etherType === etherTypeIpv4) {
    const { src, dst, proto, fragmentOffset, payloadSize } = ipv4Header.decode(reader)
    const segment = fragmentOffset === 0 ? reader.rest() : undefined
    const isTcp = proto === protoTcp
    return { header, addresses: { src, dst }, isTcp, segment, segmentSize: payloadSize }
  }
  if (header.etherType !== etherTypeIpv6) return undefined
  const { src, dst, nextHeader, payload } = ipv6.decode(reader)
  const { protocol, frag, start } = walkExtensions(payload, 0, nextHeader)
  const isWhole = frag !== fragLater && (start !== 0 || protocol === nextHeader)
  const segment = isWhole ? payload.subarray(start) : undefined
  return {
    header,
    addresses: { src, dst },
    isTcp: protocol === protoTcp,
    segment,
    segmentSize: segment?.length ?? 0,
  }
}

interface IcmpError {
  readonly type: number
  readonly code: number
  readonly parameter?: number
}

function buildError(
  frame: Uint8Array,
  { header, addresses }: Packet,
  error: IcmpError,
  error6: IcmpError,
): Uint8Array | undefined {
  const { dst } = addresses
  const srcMac = header.dst
  return typeof dst === 'bigint'
    ? buildIcmpv6Error(frame, { ...error6, srcMac, src: dst })
    : buildIcmpError(frame, { ...error, srcMac, srcIp: dst })
}

function buildReset({ header, addresses, segment, segmentSize }: Packet): Uint8Array | undefined {
  if (segment === undefined || segment.length < 20) return undefined
  const reader = new Reader(segment)
  const srcPort = reader.u16()
  const dstPort = reader.u16()
  const sequence = reader.u32()
  const acknowledgment = reader.u32()
  const offsetAndFlags = reader.u16()
  const flags = offsetAndFlags & 0xfff
  if ((flags & tcpRst) !== 0) return undefined
  const size = Math.max(0, segmentSize - (offsetAndFlags >>> 12) * 4)
  const counted = size + ((flags & tcpSyn) !== 0 ? 1 : 0) + ((flags & tcpFin) !== 0 ? 1 : 0)
  const isAck = (flags & tcpAck) !== 0
  const reset = {
    srcPort: dstPort,
    dstPort: srcPort,
    sequence: isAck ? acknowledgment : 0,
    acknowledgment: isAck ? 0 : (sequence + counted) >>> 0,
    flags: isAck ? tcpRst : tcpRst | tcpAck,
    window: 0,
    urgent: 0,
    options: new Uint8Array(0),
    payload: new Uint8Array(0),
  }
  const link = { ...header, dst: header.src, src: header.dst }
  const { src, dst } = addresses
  if (typeof src === 'bigint' && typeof dst === 'bigint') {
    const back = { src: dst, dst: src }
    const payload = encode(tcp(back), reset)
    return buildFrame(link, ipv6, { ...fixed6, ...back, payload })
  }
  if (typeof src === 'bigint' || typeof dst === 'bigint') return undefined
  const back = { src: dst, dst: src }
  return buildFrame(link, ipv4, { ...fixed4, ...back, payload: encode(tcp(back), reset) })
}

const fixed6 = { trafficClass: 0, flowLabel: 0, nextHeader: protoTcp, hopLimit: ttl } as const
const fixed4 = {
  tos: 0,
  id: 0,
  dontFragment: true,
  moreFragments: false,
  fragmentOffset: 0,
  ttl,
  proto: protoTcp,
  options: new Uint8Array(0),
} as const
