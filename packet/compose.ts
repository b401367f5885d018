/** From a flow key back to a frame that has it: for tracing a packet that was only described. */
import { arp } from './arp.ts'
import { buildFrame } from './build.ts'
import { type Codec, encode } from './bytes.ts'
import type { Addresses } from './checksum.ts'
import { protoFragment, protoHopByHop, protoNone } from './extension.ts'
import {
  etherTypeArp,
  etherTypeIpv4,
  etherTypeIpv6,
  protoIcmp,
  protoIcmpv6,
  protoSctp,
  protoTcp,
  protoUdp,
  vlanPresent,
} from './extract.ts'
import { readBits } from './field-bits.ts'
import { type FlowKey, fields, fragFirst, fragLater, fragNone, readField } from './flow-key.ts'
import { icmp } from './icmp.ts'
import { icmpv6 } from './icmpv6.ts'
import { type Ipv4, ipv4 } from './ipv4.ts'
import { type Ipv6, ipv6 } from './ipv6.ts'
import { tcp } from './tcp.ts'
import { udp } from './udp.ts'

const bare: Codec<Uint8Array> = {
  name: 'bare payload',
  size: (bytes) => bytes.length,
  decode: (reader) => reader.rest(),
  encode: (writer, bytes) => writer.bytes(bytes),
}

const none = new Uint8Array(0)

/** The smallest sound packet with these headers, its payload zeros. Metadata has no place in it. */
export function composeFrame(key: FlowKey): Uint8Array {
  const tci = readField(key, 'vlan')
  const etherType = readField(key, 'ethType')
  const header = {
    dst: readField(key, 'ethDst'),
    src: readField(key, 'ethSrc'),
    // Its present bit took the place of the drop-eligible one.
    vlan:
      (tci & vlanPresent) === 0
        ? undefined
        : { id: tci & 0xfff, priority: tci >>> 13, dropEligible: false },
    etherType,
  }
  if (etherType === etherTypeArp) return buildFrame(header, arp, arpOf(key))
  if (etherType === etherTypeIpv4) return buildFrame(header, ipv4, ipv4Of(key))
  // No whole packet has protocol 0, which is that of an extension header.
  if (etherType === etherTypeIpv6 && readField(key, 'ipProto') !== protoHopByHop)
    return buildFrame(header, ipv6, ipv6Of(key))
  return buildFrame(header, bare, none)
}

function arpOf(key: FlowKey) {
  return {
    op: readField(key, 'arpOp'),
    sha: readField(key, 'arpSha'),
    spa: readField(key, 'ipSrc'),
    tha: readField(key, 'arpTha'),
    tpa: readField(key, 'ipDst'),
  }
}

function ipv4Of(key: FlowKey): Ipv4 {
  const addresses = { src: readField(key, 'ipSrc'), dst: readField(key, 'ipDst') }
  const frag = readField(key, 'ipFrag')
  return {
    ...addresses,
    tos: readField(key, 'ipTos'),
    id: 0,
    dontFragment: false,
    moreFragments: frag === fragFirst,
    fragmentOffset: frag === fragLater ? 8 : 0,
    ttl: readField(key, 'ipTtl'),
    proto: readField(key, 'ipProto'),
    options: none,
    payload: frag === fragLater ? new Uint8Array(8) : transportOf(key, addresses, protoIcmp),
  }
}

function ipv6Of(key: FlowKey): Ipv6 {
  const addresses = { src: readBits(key, fields.ipv6Src), dst: readBits(key, fields.ipv6Dst) }
  const frag = readField(key, 'ipFrag')
  const protocol = readField(key, 'ipProto')
  const transport = transportOf(key, addresses, protoIcmpv6)
  return {
    ...addresses,
    trafficClass: readField(key, 'ipTos'),
    flowLabel: 0,
    nextHeader: frag === fragNone ? protocol : protoFragment,
    hopLimit: readField(key, 'ipTtl'),
    payload: frag === fragNone ? transport : fragmentOf(frag, protocol, transport),
  }
}

/** A fragment header, and behind that of the first fragment the transport's. */
function fragmentOf(frag: number, protocol: number, transport: Uint8Array): Uint8Array {
  if (frag === fragLater) return Uint8Array.of(protoNone, 0, 0, 8, 0, 0, 0, 0)
  return Uint8Array.from([protocol, 0, 0, 1, 0, 0, 0, 0, ...transport])
}

/** `icmpProto` is the number that means ICMP under this version of IP. */
function transportOf(key: FlowKey, addresses: Addresses, icmpProto: number): Uint8Array {
  const proto = readField(key, 'ipProto')
  const srcPort = readField(key, 'tpSrc')
  const dstPort = readField(key, 'tpDst')
  if (proto === protoTcp) return tcpOf(key, addresses)
  if (proto === protoUdp)
    return encode(udp(addresses), { srcPort, dstPort, hasChecksum: true, payload: none })
  if (proto === protoSctp) return sctpOf(srcPort, dstPort)
  if (proto !== icmpProto) return none
  const message = { kind: 'other', type: srcPort, code: dstPort, body: new Uint8Array(4) } as const
  return icmpProto === protoIcmp ? encode(icmp, message) : encode(icmpv6(addresses), message)
}

/** A common header without chunks; its CRC is left 0. */
function sctpOf(srcPort: number, dstPort: number): Uint8Array {
  const header = new Uint8Array(12)
  header.set([srcPort >>> 8, srcPort, dstPort >>> 8, dstPort])
  return header
}

function tcpOf(key: FlowKey, addresses: Addresses): Uint8Array {
  return encode(tcp(addresses), {
    srcPort: readField(key, 'tpSrc'),
    dstPort: readField(key, 'tpDst'),
    sequence: 0,
    acknowledgment: 0,
    flags: readField(key, 'tcpFlags') & 0xff,
    window: 0,
    urgent: 0,
    options: none,
    payload: none,
  })
}
