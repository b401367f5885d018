/**
 * The flow key: the header and metadata fields a flow may match, as 20 words of 32 bits.
 *
 * A key and a mask have the same layout, so masking is `key[i] & mask[i]` and a datapath can hand
 * the words to the kernel as they are. Values are numbers in host order, not bytes as on the wire.
 *
 *   word  0        inPort     number of the vport the packet came in by
 *         1        tunnelId   24 bits; 0 when the packet came from no tunnel
 *         2        tunnelSrc  IPv4 address of the tunnel's other end
 *         3  4     ethDst     high 16 bits | recirculation << 16, low 32 bits
 *         5  6     ethSrc     high 16 bits | ctState << 16, low 32 bits
 *         7        vlan       TCI with bit 0x1000 set when a tag is present (as Open vSwitch)
 *         8        ethType    of the innermost Ethernet header read; a length (< 0x600) is 0
 *         9        ipProto | ipTos << 8 | ipTtl << 16 | ipFrag << 24
 *        10..13    ipSrc      IPv4 in word 10 (11..13 are 0); IPv6 most significant word first
 *        14..17    ipDst      likewise
 *        18        tpSrc | tpDst << 16   ports; ICMP type and code
 *        19        tcpFlags | arpOp << 16
 *
 * ARP shares words: arpOp in 19, arpSpa in 10, arpTpa in 14, arpSha in 11 12, arpTha in 15 16.
 */

/** One flow key or one mask: `keyWords` words. */
export type FlowKey = Uint32Array

/** Words in a key, and in a mask. */
export const keyWords = 20

/** Where a field stands: `bits` bits of `word` from bit `shift` on; over 32, highest word first. */
export interface Field {
  readonly word: number
  readonly shift: number
  readonly bits: number
}

export const fields = {
  inPort: { word: 0, shift: 0, bits: 32 },
  tunnelId: { word: 1, shift: 0, bits: 32 },
  tunnelSrc: { word: 2, shift: 0, bits: 32 },
  /** Of `recirculate`; 0 for a packet that came in by a vport. */
  recirculation: { word: 3, shift: 16, bits: 16 },
  /** OVS_CS_F_…, what connection tracking said: 0 before action `ct` and `recirculate`. */
  ctState: { word: 5, shift: 16, bits: 8 },
  ethDst: { word: 3, shift: 0, bits: 48 },
  ethSrc: { word: 5, shift: 0, bits: 48 },
  vlan: { word: 7, shift: 0, bits: 16 },
  ethType: { word: 8, shift: 0, bits: 16 },
  ipProto: { word: 9, shift: 0, bits: 8 },
  ipTos: { word: 9, shift: 8, bits: 8 },
  ipTtl: { word: 9, shift: 16, bits: 8 },
  ipFrag: { word: 9, shift: 24, bits: 8 },
  /** IPv4 address; ARP's sender protocol address. */
  ipSrc: { word: 10, shift: 0, bits: 32 },
  /** IPv4 address; ARP's target protocol address. */
  ipDst: { word: 14, shift: 0, bits: 32 },
  ipv6Src: { word: 10, shift: 0, bits: 128 },
  ipv6Dst: { word: 14, shift: 0, bits: 128 },
  arpSha: { word: 11, shift: 0, bits: 48 },
  arpTha: { word: 15, shift: 0, bits: 48 },
  tpSrc: { word: 18, shift: 0, bits: 16 },
  tpDst: { word: 18, shift: 16, bits: 16 },
  tcpFlags: { word: 19, shift: 0, bits: 16 },
  arpOp: { word: 19, shift: 16, bits: 16 },
} as const satisfies Record<string, Field>

export type FieldName = keyof typeof fields

/** ipFrag: the packet is whole, the first fragment, or a later one (no L4 header to read). */
export const fragNone = 0
export const fragFirst = 1
export const fragLater = 2

export function createKey(): FlowKey {
  return new Uint32Array(keyWords)
}

// Word by word, since every packet that the agent sees pays for it: a loop over so few words, or a
// typed array's own `set`, takes more than twice as many instructions.

/** Makes `to` the same as `from`. */
export function copyKey(from: FlowKey, to: FlowKey): void {
  to[0] = from[0] ?? 0
  to[1] = from[1] ?? 0
  to[2] = from[2] ?? 0
  to[3] = from[3] ?? 0
  to[4] = from[4] ?? 0
  to[5] = from[5] ?? 0
  to[6] = from[6] ?? 0
  to[7] = from[7] ?? 0
  to[8] = from[8] ?? 0
  to[9] = from[9] ?? 0
  to[10] = from[10] ?? 0
  to[11] = from[11] ?? 0
  to[12] = from[12] ?? 0
  to[13] = from[13] ?? 0
  to[14] = from[14] ?? 0
  to[15] = from[15] ?? 0
  to[16] = from[16] ?? 0
  to[17] = from[17] ?? 0
  to[18] = from[18] ?? 0
  to[19] = from[19] ?? 0
}

/** Makes all words 0. */
export function clearKey(key: FlowKey): void {
  key[0] = 0
  key[1] = 0
  key[2] = 0
  key[3] = 0
  key[4] = 0
  key[5] = 0
  key[6] = 0
  key[7] = 0
  key[8] = 0
  key[9] = 0
  key[10] = 0
  key[11] = 0
  key[12] = 0
  key[13] = 0
  key[14] = 0
  key[15] = 0
  key[16] = 0
  key[17] = 0
  key[18] = 0
  key[19] = 0
}

/** Joins the first `bits` bits from word `from` on to a mask. */
export function joinPrefix(mask: FlowKey, from: number, bits: number): void {
  for (let at = from, left = bits; left > 0; at++, left -= 32)
    mask[at] = (mask[at] ?? 0) | (left >= 32 ? 0xffff_ffff : 0xffff_ffff << (32 - left))
}

/** A field of up to 48 bits as an unsigned number. */
export function readField(key: FlowKey, name: Exclude<FieldName, 'ipv6Src' | 'ipv6Dst'>): number {
  const { word, shift, bits } = fields[name]
  const value = key[word] ?? 0
  if (bits === 48) return (value & 0xffff) * 0x1_0000_0000 + (key[word + 1] ?? 0)
  if (bits === 32) return value
  return (value >>> shift) & ((1 << bits) - 1)
}

/** Sets a field of up to 48 bits; bits beyond the field's width are cut. */
export function writeField(
  key: FlowKey,
  name: Exclude<FieldName, 'ipv6Src' | 'ipv6Dst'>,
  value: number,
): void {
  const { word, shift, bits } = fields[name]
  if (bits === 48) {
    key[word] = ((key[word] ?? 0) & ~0xffff) | (Math.floor(value / 0x1_0000_0000) & 0xffff)
    key[word + 1] = value >>> 0
    return
  }
  if (bits === 32) {
    key[word] = value
    return
  }
  const ones = (1 << bits) - 1
  key[word] = ((key[word] ?? 0) & ~(ones << shift)) | ((value & ones) << shift)
}

/** Writes `key & mask` to `out`, which may be either of them. */
export function maskKey(key: FlowKey, mask: FlowKey, out: FlowKey): void {
  out[0] = (key[0] ?? 0) & (mask[0] ?? 0)
  out[1] = (key[1] ?? 0) & (mask[1] ?? 0)
  out[2] = (key[2] ?? 0) & (mask[2] ?? 0)
  out[3] = (key[3] ?? 0) & (mask[3] ?? 0)
  out[4] = (key[4] ?? 0) & (mask[4] ?? 0)
  out[5] = (key[5] ?? 0) & (mask[5] ?? 0)
  out[6] = (key[6] ?? 0) & (mask[6] ?? 0)
  out[7] = (key[7] ?? 0) & (mask[7] ?? 0)
  out[8] = (key[8] ?? 0) & (mask[8] ?? 0)
  out[9] = (key[9] ?? 0) & (mask[9] ?? 0)
  out[10] = (key[10] ?? 0) & (mask[10] ?? 0)
  out[11] = (key[11] ?? 0) & (mask[11] ?? 0)
  out[12] = (key[12] ?? 0) & (mask[12] ?? 0)
  out[13] = (key[13] ?? 0) & (mask[13] ?? 0)
  out[14] = (key[14] ?? 0) & (mask[14] ?? 0)
  out[15] = (key[15] ?? 0) & (mask[15] ?? 0)
  out[16] = (key[16] ?? 0) & (mask[16] ?? 0)
  out[17] = (key[17] ?? 0) & (mask[17] ?? 0)
  out[18] = (key[18] ?? 0) & (mask[18] ?? 0)
  out[19] = (key[19] ?? 0) & (mask[19] ?? 0)
}

export function equalKeys(a: FlowKey, b: FlowKey): boolean {
  return (
    a[0] === b[0] &&
    a[1] === b[1] &&
    a[2] === b[2] &&
    a[3] === b[3] &&
    a[4] === b[4] &&
    a[5] === b[5] &&
    a[6] === b[6] &&
    a[7] === b[7] &&
    a[8] === b[8] &&
    a[9] === b[9] &&
    a[10] === b[10] &&
    a[11] === b[11] &&
    a[12] === b[12] &&
    a[13] === b[13] &&
    a[14] === b[14] &&
    a[15] === b[15] &&
    a[16] === b[16] &&
    a[17] === b[17] &&
    a[18] === b[18] &&
    a[19] === b[19]
  )
}

/** Whether a packet's key is one that a flow with this key and mask matches. */
export function matches(packet: FlowKey, flow: FlowKey, mask: FlowKey): boolean {
  // Where packets of one port differ most often: MAC addresses, ports.
  if ((((packet[4] ?? 0) ^ (flow[4] ?? 0)) & (mask[4] ?? 0)) !== 0) return false
  if ((((packet[6] ?? 0) ^ (flow[6] ?? 0)) & (mask[6] ?? 0)) !== 0) return false
  if ((((packet[18] ?? 0) ^ (flow[18] ?? 0)) & (mask[18] ?? 0)) !== 0) return false
  for (let word = 0; word < keyWords; word++)
    if ((((packet[word] ?? 0) ^ (flow[word] ?? 0)) & (mask[word] ?? 0)) !== 0) return false
  return true
}
