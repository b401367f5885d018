/** The tunnel header in the kernel's attributes: of a flow key, and of the action that sets it. */
import type { Action } from '../../packet/action.ts'
import { type Words6, wordsOf6 } from '../../packet/address6.ts'
import { readU32 } from '../../packet/bytes.ts'
import type { FlowKey } from '../../packet/flow-key.ts'
import { mixWords, type UnderlayAddress } from '../../packet/tunnel-source.ts'
import type { KernelMatch } from './match.ts'
import type { Output } from './output.ts'
import { keyAttr, tunnelAttr } from './protocol.ts'

/** Hops that an outer header may take: as many as there can be. */
const tunnelTtl = 64
/** IPv6 addresses kept of those that packets came from; one that is not is asked for no flow. */
const sourcesMax = 4096

/** Whose `tunnelSrc` a number is that is no IPv4 address: a key has the number only. */
const sources6 = new Map<number, Words6>()

/** Writes the tunnel of a match's key, or of its mask. */
export function writeTunnel(out: Output, { key, mask }: KernelMatch, asMask: boolean): void {
  const start = out.nest(keyAttr.tunnel)
  const id = out.open(tunnelAttr.id)
  out.be32(0)
  out.be32((asMask ? mask[1] : key[1]) ?? 0)
  out.close(id)
  const source = sources6.get(key[2] ?? 0)
  if (source === undefined) writeSource4(out, (asMask ? mask[2] : key[2]) ?? 0, asMask)
  else writeSource6(out, source, mask[2] !== 0, asMask)
  // A key without a time to live is none to the kernel; the mask leaves it open.
  if (!asMask) {
    const ttl = out.open(tunnelAttr.ttl)
    out.u8(0)
    out.close(ttl)
  }
  out.close(start)
}

/** The destination is ours in any case, but a key without one is none to the kernel. */
function writeSource4(out: Output, src: number, asMask: boolean): void {
  writeBe32(out, tunnelAttr.src, src)
  if (!asMask) writeBe32(out, tunnelAttr.dst, 0xffff_ffff)
}

function writeSource6(out: Output, source: Words6, isAsked: boolean, asMask: boolean): void {
  const ones = isAsked ? 0xffff_ffff : 0
  writeWords(out, tunnelAttr.ipv6Src, asMask ? [ones, ones, ones, ones] : source)
  if (!asMask) writeWords(out, tunnelAttr.ipv6Dst, anyHost)
}

/** Not the unspecified address, which the kernel refuses. */
const anyHost: Words6 = [0xffff_ffff, 0xffff_ffff, 0xffff_ffff, 0xffff_ffff]

/** Whether all that the kernel says is in the key now. */
export function readTunnel(
  bytes: Uint8Array,
  start: number,
  end: number,
  asMask: boolean,
  out: FlowKey,
): boolean {
  let complete = true
  for (let at = start; at + 4 <= end; ) {
    const size = (bytes[at] ?? 0) | ((bytes[at + 1] ?? 0) << 8)
    if (size < 4 || at + size > end) return false
    const type = ((bytes[at + 2] ?? 0) | ((bytes[at + 3] ?? 0) << 8)) & 0x3fff
    if (type === tunnelAttr.id) {
      if (!asMask && readU32(bytes, at + 4) !== 0) complete = false
      out[1] = readU32(bytes, at + 8)
    } else if (type === tunnelAttr.src) out[2] = readU32(bytes, at + 4)
    else if (type === tunnelAttr.ipv6Src) out[2] = readSource6(bytes, at + 4, asMask)
    else if (!ignored.has(type)) complete = false
    at += (size + 3) & ~3
  }
  return complete
}

function readSource6(bytes: Uint8Array, at: number, asMask: boolean): number {
  const words: Words6 = [
    readU32(bytes, at),
    readU32(bytes, at + 4),
    readU32(bytes, at + 8),
    readU32(bytes, at + 12),
  ]
  if (asMask) return words[3]
  const mixed = mixWords(words)
  if (sources6.size < sourcesMax) sources6.set(mixed, words)
  return mixed
}

const ignored: ReadonlySet<number> = new Set([
  tunnelAttr.dst,
  tunnelAttr.ipv6Dst,
  tunnelAttr.tos,
  tunnelAttr.ttl,
  tunnelAttr.dontFragment,
  tunnelAttr.checksum,
  tunnelAttr.tpSrc,
  tunnelAttr.tpDst,
  tunnelAttr.pad,
])

/** Writes what action `setTunnel` sets. A packet too long for the underlay is cut there. */
export function writeTunnelSet(
  out: Output,
  { id, src, dst }: Extract<Action, { kind: 'setTunnel' }>,
): void {
  const inner = out.nest(keyAttr.tunnel)
  const at = out.open(tunnelAttr.id)
  out.be32(0)
  out.be32(id)
  out.close(at)
  writeAddress(out, tunnelAttr.src, tunnelAttr.ipv6Src, src)
  writeAddress(out, tunnelAttr.dst, tunnelAttr.ipv6Dst, dst)
  const ttl = out.open(tunnelAttr.ttl)
  out.u8(tunnelTtl)
  out.close(ttl)
  out.close(inner)
}

function writeAddress(out: Output, type4: number, type6: number, address: UnderlayAddress): void {
  if (typeof address === 'number') writeBe32(out, type4, address)
  else writeWords(out, type6, wordsOf6(address))
}

function writeWords(out: Output, type: number, words: Words6): void {
  const start = out.open(type)
  for (const word of words) out.be32(word)
  out.close(start)
}

function writeBe32(out: Output, type: number, value: number): void {
  const start = out.open(type)
  out.be32(value)
  out.close(start)
}
