/**
 * What the kernel module can match. Its flows always match whether a packet has a tag, match a
 * layer only when the layer below is exactly known, and have no bits for what a kind of packet does
 * not carry. `canonize` makes of any key and mask the one that the kernel holds and gives back:
 * with more bits of the mask set where it cannot do with fewer, and without those that say nothing.
 * A flow narrower than asked for is sound; it only costs a simulation more.
 */
import {
  etherTypeArp,
  etherTypeIpv4,
  etherTypeIpv6,
  protoIcmp,
  protoIcmpv6,
  protoSctp,
  protoTcp,
  protoUdp,
} from '../../packet/extract.ts'
import { clearKey, createKey, type FlowKey, fragLater, maskKey } from '../../packet/flow-key.ts'
import { tagPresent } from './protocol.ts'

/** Layers that actions need to be known, beside what the mask asks for. */
export const need = { nothing: 0, network: 1, transport: 2 } as const
export type Need = (typeof need)[keyof typeof need]

/** A key and mask as the kernel holds them. */
export interface KernelMatch {
  readonly key: FlowKey
  readonly mask: FlowKey
}

export function createMatch(): KernelMatch {
  return { key: createKey(), mask: createKey() }
}

/** Fills `out` with what the kernel can match of a key under a mask. */
export function canonize(key: FlowKey, mask: FlowKey, needs: Need, out: KernelMatch): void {
  const to = out.mask
  clearKey(to)
  to[0] = (mask[0] ?? 0) === 0 ? 0 : 0xffff_ffff
  if (((key[1] ?? 0) | (key[2] ?? 0)) !== 0) {
    to[1] = mask[1] ?? 0
    to[2] = mask[2] ?? 0
  }
  to[3] = ((mask[3] ?? 0) & 0xffff) | ((key[3] ?? 0) >>> 16 === 0 ? 0 : 0xffff_0000)
  to[4] = mask[4] ?? 0
  to[5] = (mask[5] ?? 0) & 0x00ff_ffff
  to[6] = mask[6] ?? 0
  to[7] = (key[7] ?? 0) & tagPresent ? ((mask[7] ?? 0) & 0xffff) | tagPresent : 0xffff
  if (((mask[8] ?? 0) & 0xffff) !== 0 || needs > need.nothing || asksAbove(mask)) {
    to[8] = 0xffff
    const type = (key[8] ?? 0) & 0xffff
    if (type === etherTypeArp) canonizeArp(mask, to)
    else if (type === etherTypeIpv4 || type === etherTypeIpv6) canonizeIp(key, mask, needs, to)
  }
  maskKey(key, to, out.key)
}

/** Whether the mask has bits above Ethernet. */
function asksAbove(mask: FlowKey): boolean {
  let bits = 0
  for (let word = 9; word < 20; word++) bits |= mask[word] ?? 0
  return bits !== 0
}

function canonizeArp(mask: FlowKey, to: FlowKey): void {
  to[10] = mask[10] ?? 0
  to[11] = (mask[11] ?? 0) & 0xffff
  to[12] = mask[12] ?? 0
  to[14] = mask[14] ?? 0
  to[15] = (mask[15] ?? 0) & 0xffff
  to[16] = mask[16] ?? 0
  // The kernel has eight bits for it, and 0 for what is more than they hold.
  to[19] = (mask[19] ?? 0) >>> 16 === 0 ? 0 : 0xffff_0000
}

function canonizeIp(key: FlowKey, mask: FlowKey, needs: Need, to: FlowKey): void {
  const asked = mask[9] ?? 0
  const above = ((mask[18] ?? 0) | (mask[19] ?? 0)) !== 0 || needs === need.transport
  const proto = (asked & 0xff) !== 0 || above ? 0xff : 0
  const frag = asked >>> 24 !== 0 || above ? 0xff00_0000 : 0
  to[9] = proto | (asked & 0x00ff_ff00) | frag
  const isIpv6 = key[8] === etherTypeIpv6
  const words = isIpv6 ? 4 : 1
  for (let word = 0; word < words; word++) {
    to[10 + word] = mask[10 + word] ?? 0
    to[14 + word] = mask[14 + word] ?? 0
  }
  if (!above || (key[9] ?? 0) >>> 24 === fragLater) return
  const protocol = (key[9] ?? 0) & 0xff
  if (hasPorts(protocol)) to[18] = mask[18] ?? 0
  if (isIcmp(protocol, isIpv6)) to[18] = canonicalIcmp(mask[18] ?? 0)
  if (protocol === protoTcp) {
    const flags = (mask[19] ?? 0) & 0xff
    to[19] = flags === 0xff ? 0xffff : flags
  }
}

/** Type and code have eight bits each; a type is matched wholly or not at all. */
function canonicalIcmp(asked: number): number {
  const code = (asked >>> 16) & 0xff
  return ((asked & 0xff) === 0 ? 0 : 0xffff) | ((code === 0xff ? 0xffff : code) << 16)
}

export function hasPorts(protocol: number): boolean {
  return protocol === protoTcp || protocol === protoUdp || protocol === protoSctp
}

export function isIcmp(protocol: number, isIpv6: boolean): boolean {
  return protocol === (isIpv6 ? protoIcmpv6 : protoIcmp)
}
