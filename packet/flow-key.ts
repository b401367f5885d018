/**
 * The flow key: the header and metadata fields a flow may match, as 20 words of 32 bits.
 *
 * A key and a mask have the same layout, so masking is `key[i] & mask[i]` and a datapath can hand
 * the words to the kernel as they are. Values are numbers in host order, not bytes as on the wire.
 *
 *   word  0        inPort     number of the vport the packet came in by
 *         1        tunnelId   24 bits; 0 when the packet came from no tunnel
 *         2        tunnelSrc  IPv4 address of the tunnel's other end
 *         3  4     ethDst     high 16 bits, low 32 bits
 *         5  6     ethSrc     high 16 bits, low 32 bits
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

/** A field of up to 48 bits as an unsigned number. */
export function readField(key: FlowKey, name: Exclude<FieldName, 'ipv6Src' | 'ipv6Dst'>): number {
  const { word, shift, bits } = fields[name]
  const value = key[word] ?? 0
  if (bits === 48) return value * 0x1_0000_0000 + (key[word + 1] ?? 0)
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
    key[word] = Math.floor(value / 0x1_0000_0000) & 0xffff
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
  for (let word = 0; word < keyWords; word++) out[word] = (key[word] ?? 0) & (mask[word] ?? 0)
}

export function equalKeys(a: FlowKey, b: FlowKey): boolean {
  for (let word = 0; word < keyWords; word++) if (a[word] !== b[word]) return false
  return true
}

/** Whether a packet's key is one that a flow with this key and mask matches. */
export function matches(packet: FlowKey, flow: FlowKey, mask: FlowKey): boolean {
  for (let word = 0; word < keyWords; word++)
    if ((((packet[word] ?? 0) ^ (flow[word] ?? 0)) & (mask[word] ?? 0)) !== 0) return false
  return true
}

/** A hash of 32 bits, unsigned; equal keys hash the same. Not proof against chosen collisions. */
export function hashKey(key: FlowKey): number {
  let hash = 0
  for (let word = 0; word < keyWords; word++) hash = mix(hash, key[word] ?? 0)
  return finish(hash)
}

/** `hashKey` of `key & mask` without writing that anywhere. */
export function hashMasked(key: FlowKey, mask: FlowKey): number {
  let hash = 0
  for (let word = 0; word < keyWords; word++) hash = mix(hash, (key[word] ?? 0) & (mask[word] ?? 0))
  return finish(hash)
}

/** One round of MurmurHash3 for 32 bits; `finish` then lets every bit reach all of the hash. */
function mix(hash: number, word: number): number {
  const scrambled = Math.imul(word, 0xcc9e2d51)
  const turned = hash ^ Math.imul((scrambled << 15) | (scrambled >>> 17), 0x1b873593)
  return (Math.imul((turned << 13) | (turned >>> 19), 5) + 0xe6546b64) | 0
}

function finish(hash: number): number {
  const first = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b)
  const second = Math.imul(first ^ (first >>> 13), 0xc2b2ae35)
  return (second ^ (second >>> 16)) >>> 0
}
