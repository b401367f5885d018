/**
 * The kernel's key of an ordinary packet, as upcalls bring it: of a frame without a tag, from no
 * tunnel and not looked up again. Every upcall pays for reading it, so it is read by words, in which
 * the kernel aligns it; `readKey` reads whatever is not plain.
 */
import { etherTypeIpv4, protoTcp, protoUdp } from '../../packet/extract.ts'
import { clearKey, type FlowKey, fragLater } from '../../packet/flow-key.ts'
import { keyAttr, tagPresent } from './protocol.ts'

/** The word that an attribute of so many bytes starts with. */
function head(size: number, type: number): number {
  return (4 + size) | (type << 16)
}

const recirculation = head(4, keyAttr.recirculation)
const hash = head(4, keyAttr.hash)
const priority = head(4, keyAttr.priority)
const inPort = head(4, keyAttr.inPort)
const mark = head(4, keyAttr.mark)
const ctState = head(4, keyAttr.ctState)
const ctZone = head(2, keyAttr.ctZone)
const ctMark = head(4, keyAttr.ctMark)
const ctLabels = head(16, keyAttr.ctLabels)
const ethernet = head(12, keyAttr.ethernet)
const etherType = head(2, keyAttr.etherType)
const ipv4 = head(12, keyAttr.ipv4)
const ipv6 = head(40, keyAttr.ipv6)
const extensions = head(2, keyAttr.extensions)
const tcp = head(4, keyAttr.tcp)
const tcpFlags = head(2, keyAttr.tcpFlags)
const udp = head(4, keyAttr.udp)

/** Words of the attributes of a UDP packet over IPv4, in the order in which kernels write them. */
const usualWords = 33

/** Reads the key that nearly all packets have, TCP or UDP over IPv4, without looking for its parts. */
function readUsualKey(words: Uint32Array, at: number, count: number, out: FlowKey): boolean {
  const isUsual =
    words[at] === recirculation &&
    words[at + 2] === hash &&
    words[at + 4] === priority &&
    words[at + 6] === inPort &&
    words[at + 8] === mark &&
    words[at + 10] === ctState &&
    words[at + 12] === ctZone &&
    words[at + 14] === ctMark &&
    words[at + 16] === ctLabels &&
    words[at + 21] === ethernet &&
    words[at + 25] === etherType &&
    words[at + 27] === ipv4 &&
    (count === usualWords
      ? words[at + 31] === udp
      : words[at + 31] === tcp && words[at + 33] === tcpFlags)
  if (!isUsual) return false
  const tracked = (words[at + 11] ?? 0) | (words[at + 13] ?? 0) | (words[at + 15] ?? 0)
  const labels = (words[at + 17] ?? 0) | (words[at + 18] ?? 0) | (words[at + 19] ?? 0)
  if (((words[at + 1] ?? 0) | tracked | labels | (words[at + 20] ?? 0)) !== 0) return false
  const middle = words[at + 23] ?? 0
  const ports = words[at + 32] ?? 0
  out[0] = words[at + 7] ?? 0
  out[5] = swap16(words[at + 22] ?? 0)
  out[6] = (swap16((words[at + 22] ?? 0) >>> 16) << 16) | swap16(middle)
  out[3] = swap16(middle >>> 16)
  out[4] = swap32(words[at + 24] ?? 0)
  out[8] = swap16(words[at + 26] ?? 0)
  out[10] = swap32(words[at + 28] ?? 0)
  out[14] = swap32(words[at + 29] ?? 0)
  out[9] = words[at + 30] ?? 0
  out[18] = swap16(ports) | (swap16(ports >>> 16) << 16)
  out[19] = count > usualWords ? ((words[at + 34] ?? 0) >>> 8) & 0xff : 0
  // What such a packet does not have: a tunnel, a tag, addresses of more than a word.
  out[1] = 0
  out[2] = 0
  out[7] = 0
  out[11] = 0
  out[12] = 0
  out[13] = 0
  out[15] = 0
  out[16] = 0
  out[17] = 0
  return true
}

/**
 * Reads the attributes from byte `start` to `end`, both aligned, into `out`. False when there is one
 * among them that is not of a plain key, or cut off: then `out` is of no use.
 */
export function readPlainKey(
  words: Uint32Array,
  start: number,
  end: number,
  out: FlowKey,
): boolean {
  const last = end >>> 2
  let at = start >>> 2
  const count = last - at
  const mayBeUsual = count === usualWords || count === usualWords + 2
  if (mayBeUsual && readUsualKey(words, at, count, out)) return last * 4 === end
  clearKey(out)
  while (at < last) {
    const value = words[at + 1] ?? 0
    switch (words[at]) {
      case hash:
      case priority:
      case mark:
      case extensions:
        at += 2
        break
      case recirculation:
      case ctState:
      case ctZone:
      case ctMark:
        if (value !== 0) return false
        at += 2
        break
      case ctLabels:
        if ((value | (words[at + 2] ?? 0) | (words[at + 3] ?? 0) | (words[at + 4] ?? 0)) !== 0)
          return false
        at += 5
        break
      case inPort:
        out[0] = value
        at += 2
        break
      case ethernet: {
        const middle = words[at + 2] ?? 0
        out[5] = swap16(value)
        out[6] = (swap16(value >>> 16) << 16) | swap16(middle)
        out[3] = swap16(middle >>> 16)
        out[4] = swap32(words[at + 3] ?? 0)
        at += 4
        break
      }
      case etherType:
        out[8] = swap16(value)
        at += 2
        break
      case ipv4:
        out[10] = swap32(value)
        out[14] = swap32(words[at + 2] ?? 0)
        out[9] = words[at + 3] ?? 0
        at += 4
        break
      case ipv6:
        for (let word = 0; word < 4; word++) {
          out[10 + word] = swap32(words[at + 1 + word] ?? 0)
          out[14 + word] = swap32(words[at + 5 + word] ?? 0)
        }
        out[9] = words[at + 10] ?? 0
        at += 11
        break
      case tcp:
      case udp:
        out[18] = swap16(value) | (swap16(value >>> 16) << 16)
        at += 2
        break
      case tcpFlags:
        out[19] = (value >>> 8) & 0xff
        at += 2
        break
      default:
        return false
    }
  }
  return at * 4 === end
}

/** The low 16 bits from the order of the wire. */
function swap16(word: number): number {
  return ((word & 0xff) << 8) | ((word >>> 8) & 0xff)
}

function swap32(word: number): number {
  return (swap16(word) << 16) | swap16(word >>> 16)
}

/** How far up `writePlainKey` writes a key; `none` where it cannot. */
export const layersOf = { none: 0, ethernet: 1, ipv4: 2, udp: 3, tcp: 4 } as const
export type PlainLayers = (typeof layersOf)[keyof typeof layersOf]

/** The layers that `writeKey` would write of a key under a canonical mask. */
export function plainLayers(key: FlowKey, mask: FlowKey): PlainLayers {
  const isMarked = ((key[3] ?? 0) | (mask[5] ?? 0)) >>> 16 !== 0
  const isTunneled = ((key[1] ?? 0) | (key[2] ?? 0)) !== 0
  if (isMarked || isTunneled || mask[0] === 0 || (key[7] ?? 0) & tagPresent) return layersOf.none
  if (mask[8] === 0) return layersOf.ethernet
  if (key[8] !== etherTypeIpv4) return layersOf.none
  const above = key[9] ?? 0
  if (((mask[9] ?? 0) & 0xff) === 0 || above >>> 24 === fragLater) return layersOf.ipv4
  if ((above & 0xff) === protoUdp) return layersOf.udp
  return (above & 0xff) === protoTcp ? layersOf.tcp : layersOf.none
}

/** Writes a key's attributes from word `at` on, as `writeKey` does; says where they end. */
export function writePlainKey(
  words: Uint32Array,
  at: number,
  key: FlowKey,
  mask: FlowKey,
  layers: PlainLayers,
): number {
  words[at] = recirculation
  words[at + 1] = 0
  words[at + 2] = inPort
  words[at + 3] = key[0] ?? 0
  words[at + 4] = ethernet
  const source = key[6] ?? 0
  words[at + 5] = swap16(key[5] ?? 0) | (swap16(source >>> 16) << 16)
  words[at + 6] = swap16(source) | (swap16(key[3] ?? 0) << 16)
  words[at + 7] = swap32(key[4] ?? 0)
  if (layers === layersOf.ethernet) return at + 8
  words[at + 8] = etherType
  words[at + 9] = swap16(key[8] ?? 0)
  words[at + 10] = ipv4
  words[at + 11] = swap32(key[10] ?? 0)
  words[at + 12] = swap32(key[14] ?? 0)
  // A protocol that is not matched must not be told: the kernel would want the ports.
  words[at + 13] = (key[9] ?? 0) & (mask[9] ?? 0)
  if (layers === layersOf.ipv4) return at + 14
  const ports = key[18] ?? 0
  words[at + 14] = layers === layersOf.tcp ? tcp : udp
  words[at + 15] = swap16(ports) | (swap16(ports >>> 16) << 16)
  if (layers === layersOf.udp) return at + 16
  words[at + 16] = tcpFlags
  words[at + 17] = ((key[19] ?? 0) & 0xff) << 8
  return at + 18
}
