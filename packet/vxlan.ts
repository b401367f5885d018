/**
 * VXLAN, RFC 7348 section 5; what follows the header is an Ethernet frame.
 *
 * +-+-+-+-+-+-+-+-+-----------------------------------------------+
 * |R|R|R|R|I|R|R|R|                   reserved                    |
 * +-+-+-+-+-+-+-+-+-------------------------------+---------------+
 * |                      VNI                      |   reserved    |
 * +-----------------------------------------------+---------------+
 */
import { type Codec, MalformedError } from './bytes.ts'

/** A VXLAN header. */
export interface Vxlan {
  /** 24 bits. MidoNet carries a port's tunnel key here. */
  readonly vni: number
}

const flagVni = 0x08

export const vxlan: Codec<Vxlan> = {
  name: 'vxlan',

  size() {
    return 8
  },

  decode(reader) {
    const flags = reader.u8()
    if ((flags & flagVni) === 0) throw new MalformedError('vxlan: no VNI')
    // Reserved bits are ignored on receipt, as the RFC asks.
    reader.bytes(3)
    return { vni: reader.u32() >>> 8 }
  },

  encode(writer, { vni }) {
    writer.u8(flagVni)
    writer.zeros(3)
    writer.u32(vni << 8)
  },
}
