/**
 * Ethernet II with at most one 802.1Q tag; what follows the header is the payload.
 *
 * +-----------------------------+-----------------------------+
 * |         destination (48)    |          source (48)        |
 * +--------------+-----+--+-----+--------+--------------------+
 * | 0x8100 (16)  | PCP |D |   VID (12)   |  when tagged       |
 * +--------------+-----+--+--------------+--------------------+
 * | EtherType (16), under 0x600 the payload's length          |
 * +-----------------------------------------------------------+
 */
import type { Codec } from './bytes.ts'
import { etherTypeVlan } from './extract.ts'

/** An 802.1Q tag. */
export interface Vlan {
  /** 12 bits; 0 is a tag for the priority alone. */
  readonly id: number
  /** 3 bits. */
  readonly priority: number
  readonly dropEligible: boolean
}

/** An Ethernet header. */
export interface Ethernet {
  readonly dst: number
  readonly src: number
  readonly vlan: Vlan | undefined
  /** That of the payload: behind the tag, when there is one. */
  readonly etherType: number
}

export const ethernet: Codec<Ethernet> = {
  name: 'ethernet',

  size({ vlan }) {
    return vlan === undefined ? 14 : 18
  },

  decode(reader) {
    const dst = reader.u48()
    const src = reader.u48()
    const etherType = reader.u16()
    if (etherType !== etherTypeVlan) return { dst, src, vlan: undefined, etherType }
    const tci = reader.u16()
    const vlan = { id: tci & 0xfff, priority: tci >>> 13, dropEligible: (tci & 0x1000) !== 0 }
    return { dst, src, vlan, etherType: reader.u16() }
  },

  encode(writer, { dst, src, vlan, etherType }) {
    writer.u48(dst)
    writer.u48(src)
    if (vlan !== undefined) {
      writer.u16(etherTypeVlan)
      writer.u16((vlan.priority << 13) | (vlan.dropEligible ? 0x1000 : 0) | vlan.id)
    }
    writer.u16(etherType)
  },
}
