/**
 * Actions in the kernel's attributes. The module sets no ARP fields, and no headers it does not
 * know from the flow; a flow that needs such is made of one action that hands the packet over,
 * with the real actions in its cookie, and this process carries them out.
 */
import type { Action } from '../../packet/action.ts'
import { readU16, readU32 } from '../../packet/bytes.ts'
import {
  etherTypeArp,
  etherTypeIpv4,
  etherTypeIpv6,
  etherTypeVlan,
  protoTcp,
  protoUdp,
} from '../../packet/extract.ts'
import { type FlowKey, fragLater } from '../../packet/flow-key.ts'
import { formatActions, parseActions, TextError } from '../../packet/text.ts'
import { type Attribute, decodeAttributes, findAttribute, payloadU32 } from '../netlink.ts'
import { portsAttr, writeBe32 } from './key.ts'
import { type Need, need } from './match.ts'
import type { Output } from './output.ts'
import {
  actionAttr,
  checkLengthAttr,
  etherTypeServiceTag,
  keyAttr,
  tagPresent,
  tunnelAttr,
  userspaceAttr,
  vportsMax,
} from './protocol.ts'
import {
  type HeaderAction,
  readIpv4Set,
  readIpv6Set,
  writeIpv4Set,
  writeIpv6Set,
} from './set-ip.ts'

/** First word of a cookie: 'mid', and what follows it. */
const cookieReason = 0x0164_696d
const cookieActions = 0x0264_696d

/** What actions ask of the flow they belong to. */
export interface Plan {
  readonly needs: Need
  /** Whether the kernel cannot do them and hands packets over instead. */
  readonly slow: boolean
}

const nothing: Plan = { needs: need.nothing, slow: false }
const outputsOnly: ReadonlySet<Action['kind']> = new Set([
  'output',
  'setEth',
  'pushVlan',
  'popVlan',
  'setTunnel',
  'userspace',
  'meter',
])

/** Looks at what actions do to packets of a key. */
export function planActions(given: readonly Action[], key: FlowKey): Plan {
  const actions = given.flatMap((action) =>
    action.kind === 'checkPacketLength' ? [...action.greater, ...action.lessEqual] : [action],
  )
  if (actions.every(({ kind }) => outputsOnly.has(kind))) return nothing
  const tags = new Tags(key)
  let needs: Need = need.nothing
  for (const action of actions) {
    if (tags.follow(action) || outputsOnly.has(action.kind)) continue
    if (tags.count > 1) continue
    if (tags.isHidden) return { needs: need.network, slow: true }
    if (action.kind === 'setArp' && key[8] === etherTypeArp)
      return { needs: need.network, slow: true }
    const isPort = action.kind === 'setTpSrc' || action.kind === 'setTpDst'
    if (needs !== need.transport) needs = isPort ? need.transport : need.network
  }
  return { needs, slow: false }
}

/** How many tags a packet has while actions are carried out. */
class Tags {
  count: number
  /** Whether the innermost tag known hides what is behind it. */
  readonly isHidden: boolean

  constructor(key: FlowKey) {
    this.isHidden = key[8] === etherTypeVlan || key[8] === etherTypeServiceTag
    this.count = ((key[7] ?? 0) & tagPresent ? 1 : 0) + (this.isHidden ? 1 : 0)
  }

  /** True when the action was about tags. */
  follow({ kind }: Action): boolean {
    if (kind === 'pushVlan') this.count++
    else if (kind === 'popVlan') this.count = Math.max(0, this.count - 1)
    else return false
    return true
  }
}

/** Writes actions for packets of a key; those that do nothing to such packets are left out. */
export function writeActions(
  out: Output,
  actions: readonly Action[],
  key: FlowKey,
  upcallPid: number,
): void {
  const tags = new Tags(key)
  for (const action of actions) {
    tags.follow(action)
    writeAction(out, action, key, tags.count > 1 || tags.isHidden, upcallPid)
  }
}

function writeAction(
  out: Output,
  action: Action,
  key: FlowKey,
  isBuried: boolean,
  upcallPid: number,
): void {
  switch (action.kind) {
    case 'output':
      if (action.port < vportsMax) out.attribute32(actionAttr.output, action.port)
      return
    case 'pushVlan': {
      const start = out.open(actionAttr.pushVlan)
      out.be16(etherTypeVlan)
      out.be16(action.tci | tagPresent)
      out.close(start)
      return
    }
    case 'popVlan':
      // Of a tag of another type our actions know nothing.
      if (key[8] !== etherTypeServiceTag || (key[7] ?? 0) !== 0)
        out.close(out.open(actionAttr.popVlan))
      return
    case 'setEth':
      writeEthernet(out, action)
      return
    case 'setTunnel':
      writeTunnel(out, action)
      return
    case 'userspace':
      writeUserspace(out, upcallPid, cookieReason, reasonBytes(action.reason))
      return
    case 'setArp':
      return
    case 'meter':
      out.attribute32(actionAttr.meter, action.id)
      return
    case 'checkPacketLength':
      writeCheckLength(out, action, key, upcallPid)
      return
    default:
      if (!isBuried) writeHeader(out, action, key)
  }
}

function writeCheckLength(
  out: Output,
  { length, greater, lessEqual }: Extract<Action, { kind: 'checkPacketLength' }>,
  key: FlowKey,
  upcallPid: number,
): void {
  const start = out.nest(actionAttr.checkLength)
  const at = out.open(checkLengthAttr.length)
  out.host16(Math.min(length, 0xffff))
  out.close(at)
  for (const [type, actions] of [
    [checkLengthAttr.greater, greater],
    [checkLengthAttr.lessEqual, lessEqual],
  ] as const) {
    const inner = out.nest(type)
    writeActions(out, actions, key, upcallPid)
    out.close(inner)
  }
  out.close(start)
}

/** A set of one field of IP, TCP or UDP: its value with the rest 0, then its mask. */
function writeHeader(out: Output, action: HeaderAction, key: FlowKey): void {
  const isIpv6 = key[8] === etherTypeIpv6
  if (key[8] !== etherTypeIpv4 && !isIpv6) return
  if (action.kind === 'setTpSrc' || action.kind === 'setTpDst') {
    const protocol = (key[9] ?? 0) & 0xff
    if ((protocol !== protoTcp && protocol !== protoUdp) || (key[9] ?? 0) >>> 24 === fragLater)
      return
    const isSrc = action.kind === 'setTpSrc'
    const start = out.open(actionAttr.setMasked)
    const inner = out.open(portsAttr(protocol))
    out.be32(isSrc ? action.port * 0x1_0000 : action.port)
    out.be32(isSrc ? 0xffff_0000 : 0xffff)
    out.close(inner)
    out.close(start)
  } else if (isIpv6) writeIpv6Set(out, action)
  else writeIpv4Set(out, action)
}

function writeEthernet(out: Output, { src, dst }: Extract<Action, { kind: 'setEth' }>): void {
  const start = out.open(actionAttr.setMasked)
  const inner = out.open(keyAttr.ethernet)
  writeMac(out, src)
  writeMac(out, dst)
  for (let word = 0; word < 3; word++) out.be32(0xffff_ffff)
  out.close(inner)
  out.close(start)
}

function writeMac(out: Output, mac: number): void {
  out.be16(Math.floor(mac / 0x1_0000_0000))
  out.be32(mac % 0x1_0000_0000)
}

/** Hops that an outer header may take: as many as there can be. */
const tunnelTtl = 64

function writeTunnel(out: Output, { id, src, dst }: Extract<Action, { kind: 'setTunnel' }>): void {
  const start = out.open(actionAttr.set)
  const inner = out.nest(keyAttr.tunnel)
  const at = out.open(tunnelAttr.id)
  out.be32(0)
  out.be32(id)
  out.close(at)
  writeBe32(out, tunnelAttr.src, src)
  writeBe32(out, tunnelAttr.dst, dst)
  const ttl = out.open(tunnelAttr.ttl)
  out.u8(tunnelTtl)
  out.close(ttl)
  out.close(out.open(tunnelAttr.dontFragment))
  out.close(inner)
  out.close(start)
}

/** Writes the one action that hands packets over to have `actions` done to them. */
export function writeSlowActions(out: Output, actions: readonly Action[], upcallPid: number): void {
  writeUserspace(out, upcallPid, cookieActions, Buffer.from(formatActions(actions)))
}

function reasonBytes(reason: number): Uint8Array {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32LE(reason >>> 0)
  return bytes
}

function writeUserspace(out: Output, pid: number, cookie: number, payload: Uint8Array): void {
  const start = out.nest(actionAttr.userspace)
  out.attribute32(userspaceAttr.pid, pid)
  const data = out.open(userspaceAttr.userdata)
  out.host32(cookie)
  out.bytes(payload)
  out.close(data)
  out.close(start)
}

/** What a cookie that came back with a packet says. */
export type Cookie =
  | { readonly kind: 'reason'; readonly reason: number }
  | { readonly kind: 'actions'; readonly actions: readonly Action[] }

/** Undefined when the cookie is not ours. */
export function readCookie(bytes: Uint8Array): Cookie | undefined {
  const first = payloadU32(bytes)
  if (first === cookieReason) return { kind: 'reason', reason: payloadU32(bytes.subarray(4)) ?? 0 }
  if (first !== cookieActions) return undefined
  try {
    return { kind: 'actions', actions: parseActions(Buffer.from(bytes.subarray(4)).toString()) }
  } catch (error) {
    if (error instanceof TextError) return undefined
    throw error
  }
}

/** The actions of a flow in the kernel; undefined when some are not of our making. */
export function readActions(bytes: Uint8Array): readonly Action[] | undefined {
  const actions: Action[] = []
  for (const attribute of decodeAttributes(bytes)) {
    const read = readAction(attribute)
    if (read === undefined) return undefined
    actions.push(...read)
  }
  return actions
}

function readAction({ type, payload }: Attribute): readonly Action[] | undefined {
  switch (type) {
    case actionAttr.output:
      return [{ kind: 'output', port: payloadU32(payload) ?? 0 }]
    case actionAttr.pushVlan:
      if (readU16(payload, 0) !== etherTypeVlan) return undefined
      return [{ kind: 'pushVlan', tci: readU16(payload, 2) & ~tagPresent }]
    case actionAttr.popVlan:
      return [{ kind: 'popVlan' }]
    case actionAttr.userspace:
      return readUserspace(payload)
    case actionAttr.meter:
      return [{ kind: 'meter', id: payloadU32(payload) ?? 0 }]
    case actionAttr.checkLength:
      return readCheckLength(decodeAttributes(payload))
    case actionAttr.set:
    case actionAttr.setMasked:
      return readSet(decodeAttributes(payload)[0])
    default:
      return undefined
  }
}

function readCheckLength(attributes: readonly Attribute[]): readonly Action[] | undefined {
  const length = findAttribute(attributes, checkLengthAttr.length)
  const [greater, lessEqual] = [checkLengthAttr.greater, checkLengthAttr.lessEqual].map((type) =>
    readActions(findAttribute(attributes, type) ?? new Uint8Array(0)),
  )
  if (length === undefined || greater === undefined || lessEqual === undefined) return undefined
  const size = (length[0] ?? 0) | ((length[1] ?? 0) << 8)
  return [{ kind: 'checkPacketLength', length: size, greater, lessEqual }]
}

function readUserspace(payload: Uint8Array): readonly Action[] | undefined {
  const data = findAttribute(decodeAttributes(payload), userspaceAttr.userdata)
  const cookie = data === undefined ? undefined : readCookie(data)
  if (cookie === undefined) return undefined
  return cookie.kind === 'actions' ? cookie.actions : [{ kind: 'userspace', reason: cookie.reason }]
}

function readSet(attribute: Attribute | undefined): readonly Action[] | undefined {
  if (attribute === undefined) return undefined
  const { type, payload } = attribute
  switch (type) {
    case keyAttr.ethernet:
      if (payload.length < 24) return undefined
      return [{ kind: 'setEth', src: readMac(payload, 0), dst: readMac(payload, 6) }]
    case keyAttr.ipv4:
      return payload.length < 24 ? undefined : readIpv4Set(payload)
    case keyAttr.ipv6:
      return payload.length < 80 ? undefined : readIpv6Set(payload)
    case keyAttr.tcp:
    case keyAttr.udp:
      return payload.length < 8 ? undefined : readPortSet(payload)
    case keyAttr.tunnel:
      return readTunnelSet(decodeAttributes(payload))
    default:
      return undefined
  }
}

function readMac(bytes: Uint8Array, at: number): number {
  return readU16(bytes, at) * 0x1_0000_0000 + readU32(bytes, at + 2)
}

function readPortSet(payload: Uint8Array): readonly Action[] {
  const actions: Action[] = []
  if (readU16(payload, 4) !== 0) actions.push({ kind: 'setTpSrc', port: readU16(payload, 0) })
  if (readU16(payload, 6) !== 0) actions.push({ kind: 'setTpDst', port: readU16(payload, 2) })
  return actions
}

function readTunnelSet(attributes: readonly Attribute[]): readonly Action[] | undefined {
  const id = findAttribute(attributes, tunnelAttr.id)
  const src = findAttribute(attributes, tunnelAttr.src)
  const dst = findAttribute(attributes, tunnelAttr.dst)
  if (id?.length !== 8 || dst?.length !== 4) return undefined
  const from = src?.length === 4 ? readU32(src, 0) : 0
  return [{ kind: 'setTunnel', id: readU32(id, 4), dst: readU32(dst, 0), src: from }]
}
