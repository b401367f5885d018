/**
 * Actions in the kernel's attributes. The module sets no ARP fields, and no headers it does not
 * know from the flow; a flow that needs such is made of one action that hands the packet over,
 * with the real actions in its cookie, and this process carries them out.
 */
import { type Action, innerActions } from '../../packet/action.ts'
import {
  etherTypeArp,
  etherTypeIpv4,
  etherTypeIpv6,
  etherTypeVlan,
  protoTcp,
  protoUdp,
} from '../../packet/extract.ts'
import { type FlowKey, fragLater } from '../../packet/flow-key.ts'
import { formatActions } from '../../packet/text.ts'
import { cookieActions, cookieReason } from './action-read.ts'
import { portsAttr } from './key.ts'
import { type Need, need } from './match.ts'
import type { Output } from './output.ts'
import {
  actionAttr,
  checkLengthAttr,
  ctAttr,
  etherTypeServiceTag,
  keyAttr,
  tagPresent,
  userspaceAttr,
  vportsMax,
} from './protocol.ts'
import { type HeaderAction, writeIpv4Set, writeIpv6Set } from './set-ip.ts'
import { writeTunnelSet } from './tunnel-key.ts'

/** What actions ask of the flow they belong to. */
export interface Plan {
  readonly needs: Need
  /** Whether the kernel cannot do them and hands packets over instead. */
  readonly slow: boolean
}

const nothing: Plan = { needs: need.nothing, slow: false }

/** Whether an action, and all in it, asks nothing of the flow. */
function isPlain(action: Action): boolean {
  switch (action.kind) {
    case 'output':
    case 'setEth':
    case 'pushVlan':
    case 'popVlan':
    case 'setTunnel':
    case 'userspace':
    case 'meter':
    case 'recirculate':
      return true
    case 'clone':
      return action.actions.every(isPlain)
    case 'checkPacketLength':
      return action.greater.every(isPlain) && action.lessEqual.every(isPlain)
    default:
      return false
  }
}

/** Whether a packet is only sent: nearly always so, and asks nothing of anything. */
export function areOutputs(actions: readonly Action[]): boolean {
  for (let index = 0; index < actions.length; index++)
    if (actions[index]?.kind !== 'output') return false
  return true
}

/** With the actions in them. Tags that a copy or one branch gets count for all: that is careful. */
function flatten(actions: readonly Action[]): readonly Action[] {
  return actions.flatMap((action) => [action, ...innerActions(action).flatMap(flatten)])
}

/** Looks at what actions do to packets of a key. */
export function planActions(given: readonly Action[], key: FlowKey): Plan {
  if (areOutputs(given) || given.every(isPlain)) return nothing
  const tags = new Tags(key)
  let needs: Need = need.nothing
  for (const action of flatten(given)) {
    if (tags.follow(action) || isPlain(action) || innerActions(action).length > 0) continue
    if (tags.count > 1) continue
    if (action.kind === 'ct') {
      if (needs === need.nothing) needs = need.network
      continue
    }
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
  readonly #key: FlowKey

  constructor(key: FlowKey) {
    this.#key = key
    this.isHidden = key[8] === etherTypeVlan || key[8] === etherTypeServiceTag
    this.count = ((key[7] ?? 0) & tagPresent ? 1 : 0) + (this.isHidden ? 1 : 0)
  }

  copy(): Tags {
    const copy = new Tags(this.#key)
    copy.count = this.count
    return copy
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
  if (areOutputs(actions)) writeOutputs(out, actions)
  else writeList(out, actions, key, new Tags(key), upcallPid)
}

/** The same where `areOutputs`. */
export function writeOutputs(out: Output, actions: readonly Action[]): void {
  for (let index = 0; index < actions.length; index++) {
    const action = actions[index]
    if (action?.kind === 'output') writeOutput(out, action.port)
  }
}

function writeOutput(out: Output, port: number): void {
  if (port < vportsMax) out.attribute32(actionAttr.output, port)
}

function writeList(
  out: Output,
  actions: readonly Action[],
  key: FlowKey,
  tags: Tags,
  upcallPid: number,
): void {
  for (let index = 0; index < actions.length; index++) {
    const action = actions[index]
    if (action === undefined) return
    if (action.kind === 'checkPacketLength') {
      // The kernel does what is in it to a copy, unless it is the last: what follows goes into it.
      const then = actions.slice(index + 1)
      writeCheckLength(out, action, then, (list) =>
        writeList(out, list, key, tags.copy(), upcallPid),
      )
      return
    }
    if (action.kind === 'clone') {
      const start = out.nest(actionAttr.clone)
      writeList(out, action.actions, key, tags.copy(), upcallPid)
      out.close(start)
      continue
    }
    tags.follow(action)
    writeAction(out, action, key, tags.count > 1 || tags.isHidden, upcallPid)
  }
}

function writeAction(
  out: Output,
  action: Exclude<Action, { kind: 'clone' | 'checkPacketLength' }>,
  key: FlowKey,
  isBuried: boolean,
  upcallPid: number,
): void {
  switch (action.kind) {
    case 'output':
      writeOutput(out, action.port)
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
    case 'ct':
      if (key[8] === etherTypeIpv4 || key[8] === etherTypeIpv6) writeConntrack(out, action)
      return
    case 'recirculate':
      out.attribute32(actionAttr.recirculate, action.id)
      return
    default:
      if (!isBuried) writeHeader(out, action, key)
  }
}

function writeCheckLength(
  out: Output,
  { length, greater, lessEqual }: Extract<Action, { kind: 'checkPacketLength' }>,
  then: readonly Action[],
  write: (actions: readonly Action[]) => void,
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
    write([...actions, ...then])
    out.close(inner)
  }
  out.close(start)
}

function writeConntrack(
  out: Output,
  { zone, commit, mark }: Extract<Action, { kind: 'ct' }>,
): void {
  const start = out.nest(actionAttr.ct)
  if (commit) out.close(out.open(ctAttr.commit))
  const at = out.open(ctAttr.zone)
  out.host16(zone)
  out.close(at)
  if (mark !== undefined) {
    const marked = out.open(ctAttr.mark)
    out.host32(mark.value & mark.mask)
    out.host32(mark.mask)
    out.close(marked)
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

function writeTunnel(out: Output, action: Extract<Action, { kind: 'setTunnel' }>): void {
  const start = out.open(actionAttr.set)
  writeTunnelSet(out, action)
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
