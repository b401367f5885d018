/**
 * From the bytes of a frame to its flow key. This runs for every packet that reaches the agent, so
 * it reads by offset and allocates nothing. The eBPF program extracts the same key by the same
 * rules, and a differential test compares the two:
 *
 *  1. A frame under 14 bytes has no key. Otherwise all words are 0 but for what follows.
 *  2. inPort is given; ethDst, ethSrc and ethType are the first 14 bytes.
 *  3. When ethType is 0x8100 and 18 bytes are there, `vlan` is the TCI with bit 0x1000 set, and
 *     ethType the one behind the tag. Further tags, and 0x88a8, are just an ethType.
 *  4. An ethType under 0x600 is a length: ethType is 0 and nothing more is read.
 *  5. IPv4 (0x0800) needs 20 bytes and IHL >= 5, whatever the version field says; else only ethType
 *     is known. ipFrag is `fragLater` when the fragment offset is not 0, else `fragFirst` when more
 *     fragments follow. L4 starts at 4 * IHL bytes; total length is not looked at.
 *  6. IPv6 (0x86dd) needs 40 bytes; else only ethType is known. ipTos is the traffic class. Up to 8
 *     extension headers (0, 43, 51, 60, and 44: fragment) are followed, each of which needs 4 bytes;
 *     ipProto is what comes behind. ipFrag is `fragFirst` behind a fragment header whose offset is
 *     0; where it is not, ipFrag is `fragLater` and ipProto 44. Where the headers are cut off,
 *     ipProto is 59; at a ninth, and at a routing header with segments left, it is 255.
 *  7. L4 is not read of later fragments, and is left 0 when the frame ends too early: TCP (6) needs
 *     14 bytes and gives ports and the low 8 flags; UDP (17) and SCTP (132) need 4; ICMP (1) under
 *     IPv4 and ICMPv6 (58) under IPv6 need 2, type in tpSrc and code in tpDst.
 *  8. ARP (0x0806) needs 28 bytes and to be about Ethernet and IPv4 (1, 0x0800, 6, 4); else only
 *     ethType is known.
 */
import { readU16, readU32 } from './bytes.ts'
import { isExtension, walkExtensions } from './extension.ts'
import { clearKey, type FlowKey, fragFirst, fragLater, fragNone } from './flow-key.ts'

export const etherTypeIpv4 = 0x0800
export const etherTypeArp = 0x0806
export const etherTypeVlan = 0x8100
export const etherTypeIpv6 = 0x86dd

export const protoIcmp = 1
export const protoTcp = 6
export const protoUdp = 17
export const protoIcmpv6 = 58
export const protoSctp = 132

/** Bit of the key's `vlan` that says that the frame has a tag. */
export const vlanPresent = 0x1000

/** Fills `key` from a frame; false, and the key untouched, when there is no Ethernet header. */
export function extractKey(frame: Uint8Array, inPort: number, key: FlowKey): boolean {
  if (frame.length < 14) return false
  clearKey(key)
  key[0] = inPort
  key[3] = readU16(frame, 0)
  key[4] = readU32(frame, 2)
  key[5] = readU16(frame, 6)
  key[6] = readU32(frame, 8)
  let ethType = readU16(frame, 12)
  let start = 14
  if (ethType === etherTypeVlan && frame.length >= 18) {
    key[7] = readU16(frame, 14) | vlanPresent
    ethType = readU16(frame, 16)
    start = 18
  }
  if (ethType < 0x600) return true
  key[8] = ethType
  if (ethType === etherTypeIpv4) extractIpv4(frame, start, key)
  else if (ethType === etherTypeIpv6) extractIpv6(frame, start, key)
  else if (ethType === etherTypeArp) extractArp(frame, start, key)
  return true
}

function extractIpv4(frame: Uint8Array, start: number, key: FlowKey): void {
  if (frame.length < start + 20) return
  const headerSize = (readU16(frame, start) >>> 6) & 0x3c
  if (headerSize < 20) return
  const ttlAndProto = readU16(frame, start + 8)
  const proto = ttlAndProto & 0xff
  const fragment = readU16(frame, start + 6)
  const frag = (fragment & 0x1fff) !== 0 ? fragLater : fragment & 0x2000 ? fragFirst : fragNone
  const tos = readU16(frame, start) & 0xff
  key[9] = proto | (tos << 8) | ((ttlAndProto >>> 8) << 16) | (frag << 24)
  key[10] = readU32(frame, start + 12)
  key[14] = readU32(frame, start + 16)
  if (frag === fragLater) return
  if (proto === protoIcmp) extractIcmp(frame, start + headerSize, key)
  else extractPorts(frame, start + headerSize, proto, key)
}

function extractIpv6(frame: Uint8Array, start: number, key: FlowKey): void {
  if (frame.length < start + 40) return
  const next = readU16(frame, start + 6) >>> 8
  const hopLimit = readU16(frame, start + 6) & 0xff
  const trafficClass = (readU16(frame, start) >>> 4) & 0xff
  for (let word = 0; word < 8; word++) key[10 + word] = readU32(frame, start + 8 + 4 * word)
  const above = (trafficClass << 8) | (hopLimit << 16)
  if (isExtension(next)) {
    const { protocol, frag, start: l4 } = walkExtensions(frame, start + 40, next)
    key[9] = protocol | above | (frag << 24)
    if (l4 !== 0) extractTransport6(frame, l4, protocol, key)
  } else {
    key[9] = next | above
    extractTransport6(frame, start + 40, next, key)
  }
}

function extractTransport6(frame: Uint8Array, start: number, proto: number, key: FlowKey): void {
  if (proto === protoIcmpv6) extractIcmp(frame, start, key)
  else extractPorts(frame, start, proto, key)
}

function extractPorts(frame: Uint8Array, start: number, proto: number, key: FlowKey): void {
  if (proto === protoTcp) {
    if (frame.length < start + 14) return
    key[19] = readU16(frame, start + 12) & 0xff
  } else if (proto !== protoUdp && proto !== protoSctp) {
    return
  } else if (frame.length < start + 4) {
    return
  }
  key[18] = readU16(frame, start) | (readU16(frame, start + 2) << 16)
}

function extractIcmp(frame: Uint8Array, start: number, key: FlowKey): void {
  if (frame.length < start + 2) return
  const typeAndCode = readU16(frame, start)
  key[18] = (typeAndCode >>> 8) | ((typeAndCode & 0xff) << 16)
}

function extractArp(frame: Uint8Array, start: number, key: FlowKey): void {
  if (frame.length < start + 28) return
  if (readU32(frame, start) !== 0x0001_0800 || readU16(frame, start + 4) !== 0x0604) return
  key[19] = readU16(frame, start + 6) << 16
  key[11] = readU16(frame, start + 8)
  key[12] = readU32(frame, start + 10)
  key[10] = readU32(frame, start + 14)
  key[15] = readU16(frame, start + 18)
  key[16] = readU32(frame, start + 20)
  key[14] = readU32(frame, start + 24)
}
