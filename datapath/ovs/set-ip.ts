/** Sets of fields of IPv4 and IPv6 in the kernel's attributes: values, then their masks. */
import type { Action } from '../../packet/action.ts'
import { addressOf6, type Words6, wordsOf6 } from '../../packet/address6.ts'
import { readU32 } from '../../packet/bytes.ts'
import type { Output } from './output.ts'
import { actionAttr, keyAttr } from './protocol.ts'

/** Actions that set a field of IP, TCP or UDP. */
export type HeaderAction = Extract<
  Action,
  {
    kind:
      | 'setIpSrc'
      | 'setIpDst'
      | 'setIpv6Src'
      | 'setIpv6Dst'
      | 'setTtl'
      | 'setTos'
      | 'setTpSrc'
      | 'setTpDst'
  }
>

type IpAction = Exclude<HeaderAction, { kind: 'setTpSrc' | 'setTpDst' }>

const noWords: Words6 = [0, 0, 0, 0]
const allOnes: Words6 = [0xffff_ffff, 0xffff_ffff, 0xffff_ffff, 0xffff_ffff]

/** struct ovs_key_ipv6: source, destination, label, then protocol, class, hop limit, fragment. */
export function writeIpv6Set(out: Output, action: IpAction): void {
  const { kind } = action
  if (kind === 'setIpSrc' || kind === 'setIpDst') return
  const isSrc = kind === 'setIpv6Src'
  const isDst = kind === 'setIpv6Dst'
  const words = isSrc || isDst ? wordsOf6(action.address) : noWords
  let [rest, restMask] = [0, 0]
  if (kind === 'setTos') [rest, restMask] = [(action.tos & 0xff) << 16, 0x00ff_0000]
  if (kind === 'setTtl') [rest, restMask] = [(action.ttl & 0xff) << 8, 0xff00]
  const start = out.open(actionAttr.setMasked)
  const inner = out.open(keyAttr.ipv6)
  for (const [src, dst, others] of [
    [isSrc ? words : noWords, isDst ? words : noWords, rest],
    [isSrc ? allOnes : noWords, isDst ? allOnes : noWords, restMask],
  ] as const)
    for (const value of [...src, ...dst, 0, others]) out.be32(value)
  out.close(inner)
  out.close(start)
}

/** struct ovs_key_ipv4. */
export function writeIpv4Set(out: Output, action: IpAction): void {
  if (action.kind === 'setIpv6Src' || action.kind === 'setIpv6Dst') return
  const [src, srcMask] = action.kind === 'setIpSrc' ? [action.address, 0xffff_ffff] : [0, 0]
  const [dst, dstMask] = action.kind === 'setIpDst' ? [action.address, 0xffff_ffff] : [0, 0]
  // u8 protocol, tos, ttl, fragment
  let [rest, restMask] = [0, 0]
  if (action.kind === 'setTos') [rest, restMask] = [(action.tos & 0xff) << 16, 0x00ff_0000]
  if (action.kind === 'setTtl') [rest, restMask] = [(action.ttl & 0xff) << 8, 0xff00]
  const start = out.open(actionAttr.setMasked)
  const inner = out.open(keyAttr.ipv4)
  for (const value of [src, dst, rest, srcMask, dstMask, restMask]) out.be32(value)
  out.close(inner)
  out.close(start)
}

/** The actions of one set. */
export function readIpv4Set(payload: Uint8Array): readonly Action[] {
  const actions: Action[] = []
  if (readU32(payload, 12) !== 0) actions.push({ kind: 'setIpSrc', address: readU32(payload, 0) })
  if (readU32(payload, 16) !== 0) actions.push({ kind: 'setIpDst', address: readU32(payload, 4) })
  if (payload[21] !== 0) actions.push({ kind: 'setTos', tos: payload[9] ?? 0 })
  if (payload[22] !== 0) actions.push({ kind: 'setTtl', ttl: payload[10] ?? 0 })
  return actions
}

/** The actions of one set. */
export function readIpv6Set(payload: Uint8Array): readonly Action[] {
  const actions: Action[] = []
  if (readU32(payload, 40) !== 0)
    actions.push({ kind: 'setIpv6Src', address: readAddress6(payload, 0) })
  if (readU32(payload, 56) !== 0)
    actions.push({ kind: 'setIpv6Dst', address: readAddress6(payload, 16) })
  if (payload[77] !== 0) actions.push({ kind: 'setTos', tos: payload[37] ?? 0 })
  if (payload[78] !== 0) actions.push({ kind: 'setTtl', ttl: payload[38] ?? 0 })
  return actions
}

function readAddress6(payload: Uint8Array, at: number): bigint {
  const [a, b, c, d] = [0, 4, 8, 12].map((offset) => readU32(payload, at + offset))
  return addressOf6([a ?? 0, b ?? 0, c ?? 0, d ?? 0])
}
