/**
 * The kernel's key of an ordinary packet, as upcalls bring it: of a frame without a tag, from no
 * tunnel and not looked up again. Every upcall pays for reading it, so it is read by words, in which
 * the kernel aligns it; `readKey` reads whatever is not plain.
 */
import { clearKey, type FlowKey } from '../../packet/flow-key.ts'
import { keyAttr } from './protocol.ts'

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
  clearKey(out)
  const last = end >>> 2
  let at = start >>> 2
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
