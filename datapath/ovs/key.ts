/** Flow keys in the kernel's attributes: written from a canonical match, and read back. */
import { readU16, readU32 } from '../../packet/bytes.ts'
import {
  etherTypeArp,
  etherTypeIpv4,
  etherTypeIpv6,
  etherTypeVlan,
  protoSctp,
  protoTcp,
} from '../../packet/extract.ts'
import { clearKey, type FlowKey, fragLater } from '../../packet/flow-key.ts'
import { DatapathError } from '../datapath.ts'
import { hasPorts, isIcmp, type KernelMatch } from './match.ts'
import type { Output } from './output.ts'
import { etherTypeServiceTag, keyAttr, tagPresent, vportsMax } from './protocol.ts'
import { readTunnel, writeTunnel } from './tunnel-key.ts'

/** Neighbour solicitation and advertisement: the kernel wants their addresses in a key. */
const neighborTypes: ReadonlySet<number> = new Set([135, 136])

/** Writes the attributes of a canonical match's key, or those of its mask. */
export function writeKey(out: Output, match: KernelMatch, asMask: boolean): void {
  const { key, mask } = match
  const words = asMask ? mask : key
  if (!endsInTag(match)) writeRecirculation(out, match, asMask)
  const state = ((mask[5] ?? 0) >>> 16) & 0xff
  if (state !== 0) out.attribute32(keyAttr.ctState, asMask ? state : ((key[5] ?? 0) >>> 16) & state)
  if (((mask[1] ?? 0) | (mask[2] ?? 0)) !== 0) writeTunnel(out, match, asMask)
  if (mask[0] !== 0) {
    if ((key[0] ?? 0) >= vportsMax)
      throw new DatapathError('EINVAL', `vport ${key[0]} cannot be: they are below ${vportsMax}`)
    out.attribute32(keyAttr.inPort, words[0] ?? 0)
  }
  const start = out.open(keyAttr.ethernet)
  out.be16((words[5] ?? 0) & 0xffff)
  out.be32(words[6] ?? 0)
  out.be16((words[3] ?? 0) & 0xffff)
  out.be32(words[4] ?? 0)
  out.close(start)
  if ((key[7] ?? 0) & tagPresent) {
    out.attributeBe16(keyAttr.etherType, asMask ? 0xffff : etherTypeVlan)
    out.attributeBe16(keyAttr.vlan, words[7] ?? 0)
    const encap = out.nest(keyAttr.encap)
    writeAbove(out, match, asMask)
    out.close(encap)
  } else if (key[8] === etherTypeVlan) {
    throw new DatapathError('EOPNOTSUPP', 'the kernel cannot match a tag that is cut off')
  } else {
    writeAbove(out, match, asMask)
  }
}

/** Whether the last that is matched is a tag, of which only the type is known to us. */
function endsInTag({ key, mask }: KernelMatch): boolean {
  return mask[8] !== 0 && (key[8] === etherTypeVlan || key[8] === etherTypeServiceTag)
}

/** Without it a flow would match packets that are on their way through the datapath again. */
function writeRecirculation(out: Output, { key }: KernelMatch, asMask: boolean): void {
  out.attribute32(keyAttr.recirculation, asMask ? 0xffff_ffff : (key[3] ?? 0) >>> 16)
}

/** From the (inner) EtherType on. */
function writeAbove(out: Output, match: KernelMatch, asMask: boolean): void {
  const { key, mask } = match
  if (mask[8] === 0) return
  const type = key[8] ?? 0
  const words = asMask ? mask : key
  // No type stands for a length: then the mask alone has the attribute.
  if (asMask || type !== 0) out.attributeBe16(keyAttr.etherType, words[8] ?? 0)
  if (endsInTag(match)) {
    out.attributeBe16(keyAttr.vlan, tagPresent)
    // An empty nest is none to the kernel; what stands in one counts as if it stood outside.
    const encap = out.nest(keyAttr.encap)
    writeRecirculation(out, match, asMask)
    out.close(encap)
  } else if (type === etherTypeArp) {
    if ((key[19] ?? 0) >>> 24 !== 0)
      throw new DatapathError('EOPNOTSUPP', 'the kernel knows no ARP operation above 255')
    writeArp(out, words)
  } else if (type === etherTypeIpv4 || type === etherTypeIpv6) {
    writeIp(out, words, type === etherTypeIpv6)
    writeTransport(out, match, asMask)
  }
}

function writeArp(out: Output, words: FlowKey): void {
  const start = out.open(keyAttr.arp)
  out.be32(words[10] ?? 0)
  out.be32(words[14] ?? 0)
  out.be16(((words[19] ?? 0) >>> 16) & 0xff)
  out.be16(words[11] ?? 0)
  out.be32(words[12] ?? 0)
  out.be16(words[15] ?? 0)
  out.be32(words[16] ?? 0)
  out.zeros(2)
  out.close(start)
}

function writeIp(out: Output, words: FlowKey, isIpv6: boolean): void {
  const start = out.open(isIpv6 ? keyAttr.ipv6 : keyAttr.ipv4)
  const addressWords = isIpv6 ? 4 : 1
  for (let word = 0; word < addressWords; word++) out.be32(words[10 + word] ?? 0)
  for (let word = 0; word < addressWords; word++) out.be32(words[14 + word] ?? 0)
  if (isIpv6) out.be32(0)
  const rest = words[9] ?? 0
  out.u8(rest & 0xff)
  out.u8((rest >>> 8) & 0xff)
  out.u8((rest >>> 16) & 0xff)
  out.u8(rest >>> 24)
  out.close(start)
}

/** The kernel wants the attribute of an exactly known protocol also where the mask leaves it open. */
function writeTransport(out: Output, { key, mask }: KernelMatch, asMask: boolean): void {
  const protocol = (key[9] ?? 0) & 0xff
  if (((mask[9] ?? 0) & 0xff) === 0 || (key[9] ?? 0) >>> 24 === fragLater) return
  const isIpv6 = key[8] === etherTypeIpv6
  const words = asMask ? mask : key
  const value = words[18] ?? 0
  if (hasPorts(protocol)) {
    const start = out.open(portsAttr(protocol))
    out.be16(value & 0xffff)
    out.be16(value >>> 16)
    out.close(start)
    if (protocol === protoTcp) out.attributeBe16(keyAttr.tcpFlags, (words[19] ?? 0) & 0xff)
  } else if (isIcmp(protocol, isIpv6)) {
    const start = out.open(isIpv6 ? keyAttr.icmpv6 : keyAttr.icmp)
    out.u8(value & 0xff)
    out.u8((value >>> 16) & 0xff)
    out.close(start)
    if (isIpv6 && !asMask && neighborTypes.has(value & 0xff)) {
      const neighbor = out.open(keyAttr.nd)
      out.zeros(28)
      out.close(neighbor)
    }
  }
}

export function portsAttr(protocol: number): number {
  if (protocol === protoTcp) return keyAttr.tcp
  return protocol === protoSctp ? keyAttr.sctp : keyAttr.udp
}

/** How a key was read: `false` when it holds what our key cannot say. */
type IsComplete = boolean

/**
 * Reads attributes `start` to `end` of `bytes` into `out`. False when some of them say what our key
 * has no words for; what it has words for is read all the same.
 */
export function readKey(
  bytes: Uint8Array,
  start: number,
  end: number,
  asMask: boolean,
  out: FlowKey,
): IsComplete {
  clearKey(out)
  return readAttributes(bytes, start, end, asMask, 0, out)
}

function readAttributes(
  bytes: Uint8Array,
  start: number,
  end: number,
  asMask: boolean,
  depth: number,
  out: FlowKey,
): IsComplete {
  let complete = true
  for (let at = start; at + 4 <= end; ) {
    const size = (bytes[at] ?? 0) | ((bytes[at + 1] ?? 0) << 8)
    if (size < 4 || at + size > end) return false
    const type = ((bytes[at + 2] ?? 0) | ((bytes[at + 3] ?? 0) << 8)) & 0x3fff
    const from = at + 4
    if (type === keyAttr.encap) {
      if (size > 4 && !readEncap(bytes, from, at + size, asMask, depth, out)) complete = false
    } else if (!readAttribute(type, bytes, from, size - 4, asMask, depth, out)) {
      complete = false
    }
    at += (size + 3) & ~3
    if (at < end && at + 4 > end) return false
  }
  return complete
}

/** What is behind a tag. Our key goes behind one, when it is of type 0x8100. */
function readEncap(
  bytes: Uint8Array,
  start: number,
  end: number,
  asMask: boolean,
  depth: number,
  out: FlowKey,
): IsComplete {
  if (depth > 0 || out[7] === 0) return false
  out[8] = 0
  return readAttributes(bytes, start, end, asMask, 1, out)
}

/** One attribute that holds no others but a tunnel's; false when it is unknown or says too much. */
function readAttribute(
  type: number,
  bytes: Uint8Array,
  at: number,
  size: number,
  asMask: boolean,
  depth: number,
  out: FlowKey,
): IsComplete {
  switch (type) {
    case keyAttr.inPort:
      out[0] = hostU32(bytes, at)
      return true
    case keyAttr.ethernet:
      out[5] = ((out[5] ?? 0) & 0xffff_0000) | readU16(bytes, at)
      out[6] = readU32(bytes, at + 2)
      out[3] = ((out[3] ?? 0) & 0xffff_0000) | readU16(bytes, at + 6)
      out[4] = readU32(bytes, at + 8)
      return true
    case keyAttr.etherType:
      out[8] = readU16(bytes, at)
      return true
    case keyAttr.vlan:
      // Behind one tag, and behind one of another type, a further one is just an EtherType.
      if (depth === 0 && (asMask || out[8] === etherTypeVlan)) out[7] = readU16(bytes, at)
      return true
    case keyAttr.ipv4:
    case keyAttr.ipv6:
      readIp(bytes, at, type === keyAttr.ipv6, out)
      return true
    case keyAttr.arp:
      readArp(bytes, at, asMask, out)
      return true
    case keyAttr.tcp:
    case keyAttr.udp:
    case keyAttr.sctp:
      out[18] = readU16(bytes, at) | (readU16(bytes, at + 2) << 16)
      return true
    case keyAttr.icmp:
    case keyAttr.icmpv6:
      out[18] = spread(bytes[at] ?? 0, asMask) | (spread(bytes[at + 1] ?? 0, asMask) << 16)
      return true
    case keyAttr.tcpFlags:
      out[19] = spread(readU16(bytes, at) & 0xff, asMask)
      return true
    case keyAttr.tunnel:
      return readTunnel(bytes, at, at + size, asMask, out)
    // What no decision of ours rests on, and no mask of ours has.
    case keyAttr.priority:
    case keyAttr.mark:
    case keyAttr.hash:
    case keyAttr.nd:
    case keyAttr.extensions:
      return true
    case keyAttr.recirculation:
      out[3] = ((out[3] ?? 0) & 0xffff) | (hostU32(bytes, at) << 16)
      return asMask || hostU32(bytes, at) <= 0xffff
    case keyAttr.ctState:
      out[5] = ((out[5] ?? 0) & 0xffff) | (hostU32(bytes, at) << 16)
      return asMask || isZero(bytes, at, size) || (isAgain(out) && hostU32(bytes, at) <= 0xff)
    case keyAttr.ctZone:
    case keyAttr.ctTuple4:
    case keyAttr.ctTuple6:
      // Who gives out numbers for looking up again knows which zone each is of.
      return asMask || isAgain(out) || isZero(bytes, at, size)
    case keyAttr.ctMark:
    case keyAttr.ctLabels:
      return asMask || isZero(bytes, at, size)
    default:
      return false
  }
}

/** Whether the packet is looked up again, after actions: the kernel says so before all else. */
function isAgain(key: FlowKey): boolean {
  return (key[3] ?? 0) >>> 16 !== 0
}

/** Of eight bits all are sixteen: the key's field is wider than what it holds. */
function spread(value: number, asMask: boolean): number {
  return asMask && value === 0xff ? 0xffff : value
}

function readIp(bytes: Uint8Array, at: number, isIpv6: boolean, out: FlowKey): void {
  const addressWords = isIpv6 ? 4 : 1
  const size = addressWords * 4
  for (let word = 0; word < addressWords; word++) {
    out[10 + word] = readU32(bytes, at + word * 4)
    out[14 + word] = readU32(bytes, at + size + word * 4)
  }
  out[9] = hostU32(bytes, at + size * 2 + (isIpv6 ? 4 : 0))
}

function readArp(bytes: Uint8Array, at: number, asMask: boolean, out: FlowKey): void {
  out[10] = readU32(bytes, at)
  out[14] = readU32(bytes, at + 4)
  const op = readU16(bytes, at + 8)
  out[19] = (asMask && op !== 0 ? 0xffff : op) << 16
  out[11] = readU16(bytes, at + 10)
  out[12] = readU32(bytes, at + 12)
  out[15] = readU16(bytes, at + 16)
  out[16] = readU32(bytes, at + 18)
}

/** Where in `memory` the kernel has written a match. */
export interface ShownMatch {
  readonly memory: Uint8Array
  readonly key: number
  readonly keyEnd: number
  readonly mask: number
  readonly maskEnd: number
}

/** Makes of a match's attributes what was written: what the kernel does not show of it. */
export function finishMatch({ key, mask }: KernelMatch): void {
  // That a packet is not looked up again is always matched, and goes without saying.
  if (!isAgain(key)) mask[3] = (mask[3] ?? 0) & 0xffff
  // The kernel shows no tag where there is none, but it matches that.
  if (!(key[7] ?? 0)) mask[7] = 0xffff
}

/** A number in the kernel's own order. */
export function hostU32(bytes: Uint8Array, at: number): number {
  return (
    ((bytes[at] ?? 0) |
      ((bytes[at + 1] ?? 0) << 8) |
      ((bytes[at + 2] ?? 0) << 16) |
      ((bytes[at + 3] ?? 0) << 24)) >>>
    0
  )
}

function isZero(bytes: Uint8Array, at: number, size: number): boolean {
  for (let index = at; index < at + size; index++) if (bytes[index] !== 0) return false
  return true
}
