/** What a filter that rejects a packet sends back in the name of the one it was sent to. */
import { buildFrame, buildIcmpError } from './build.ts'
import { encode, MalformedError, Reader, TruncatedError } from './bytes.ts'
import { ethernet } from './ethernet.ts'
import { etherTypeIpv4, protoTcp } from './extract.ts'
import { icmpUnreachable, unreachableProhibited } from './icmp.ts'
import { ipv4, ipv4Header } from './ipv4.ts'
import { tcp, tcpAck, tcpFin, tcpRst, tcpSyn } from './tcp.ts'

const ttl = 64

/**
 * A reset of a TCP segment as RFC 9293 section 3.10.7.1 asks of a closed port, else an ICMP error
 * that says "prohibited"; undefined when the packet is one that must not be answered.
 */
export function buildRefusal(frame: Uint8Array): Uint8Array | undefined {
  return buildReset(frame) ?? buildProhibited(frame)
}

function buildProhibited(frame: Uint8Array): Uint8Array | undefined {
  const found = readTcpOrIp(frame)
  if (found === undefined || found.isTcp) return undefined
  return buildIcmpError(frame, {
    type: icmpUnreachable,
    code: unreachableProhibited,
    srcMac: found.header.dst,
    srcIp: found.ip.dst,
  })
}

function readTcpOrIp(frame: Uint8Array) {
  try {
    const reader = new Reader(frame)
    const header = ethernet.decode(reader)
    if (header.etherType !== etherTypeIpv4) return undefined
    const ip = ipv4Header.decode(reader)
    return { header, ip, reader, isTcp: ip.proto === protoTcp }
  } catch (error) {
    if (error instanceof TruncatedError || error instanceof MalformedError) return undefined
    throw error
  }
}

function buildReset(frame: Uint8Array): Uint8Array | undefined {
  const found = readTcpOrIp(frame)
  if (found === undefined || !found.isTcp || found.ip.fragmentOffset !== 0) return undefined
  const { header, ip, reader } = found
  if (reader.left < 20) return undefined
  const srcPort = reader.u16()
  const dstPort = reader.u16()
  const sequence = reader.u32()
  const acknowledgment = reader.u32()
  const offsetAndFlags = reader.u16()
  const flags = offsetAndFlags & 0xfff
  if ((flags & tcpRst) !== 0) return undefined
  const size = Math.max(0, ip.payloadSize - (offsetAndFlags >>> 12) * 4)
  const counted = size + ((flags & tcpSyn) !== 0 ? 1 : 0) + ((flags & tcpFin) !== 0 ? 1 : 0)
  const isAck = (flags & tcpAck) !== 0
  const payload = encode(tcp({ src: ip.dst, dst: ip.src }), {
    srcPort: dstPort,
    dstPort: srcPort,
    sequence: isAck ? acknowledgment : 0,
    acknowledgment: isAck ? 0 : (sequence + counted) >>> 0,
    flags: isAck ? tcpRst : tcpRst | tcpAck,
    window: 0,
    urgent: 0,
    options: new Uint8Array(0),
    payload: new Uint8Array(0),
  })
  return buildFrame({ ...header, dst: header.src, src: header.dst }, ipv4, {
    tos: 0,
    id: 0,
    dontFragment: true,
    moreFragments: false,
    fragmentOffset: 0,
    ttl,
    proto: protoTcp,
    src: ip.dst,
    dst: ip.src,
    options: new Uint8Array(0),
    payload,
  })
}
