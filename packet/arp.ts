/**
 * ARP for IPv4 over Ethernet, RFC 826.
 *
 *  0                   1                   2                   3
 * +-------------------------------+-------------------------------+
 * |        hardware type: 1       |     protocol type: 0x0800     |
 * +---------------+---------------+-------------------------------+
 * |    size: 6    |    size: 4    |           operation           |
 * +---------------+---------------+-------------------------------+
 * | sender MAC (48), sender IPv4 (32), target MAC (48), target IPv4 (32) |
 * +----------------------------------------------------------------------+
 */
import { type Codec, MalformedError } from './bytes.ts'

/** An ARP message, in the names of the RFC: hardware and protocol address of sender and target. */
export interface Arp {
  readonly op: number
  readonly sha: number
  readonly spa: number
  readonly tha: number
  readonly tpa: number
}

export const arpRequest = 1
export const arpReply = 2

export const arp: Codec<Arp> = {
  name: 'arp',

  size() {
    return 28
  },

  decode(reader) {
    if (reader.u32() !== 0x0001_0800 || reader.u16() !== 0x0604)
      throw new MalformedError('arp: not about IPv4 over Ethernet')
    return {
      op: reader.u16(),
      sha: reader.u48(),
      spa: reader.u32(),
      tha: reader.u48(),
      tpa: reader.u32(),
    }
  },

  encode(writer, { op, sha, spa, tha, tpa }) {
    writer.u32(0x0001_0800)
    writer.u16(0x0604)
    writer.u16(op)
    writer.u48(sha)
    writer.u32(spa)
    writer.u48(tha)
    writer.u32(tpa)
  },
}
