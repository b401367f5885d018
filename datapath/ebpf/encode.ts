/**
 * Actions as slots, the form that our programs carry out, and back. Slots are written in the order
 * of the actions; outputs next to each other share slots; the last output takes the packet itself.
 */
import type { Action } from '../../packet/action.ts'
import { addressOf6, wordsOf6 } from '../../packet/address6.ts'
import { readU16, readU32, writeU32, writeU48 } from '../../packet/bytes.ts'
import type { UnderlayAddress } from '../../packet/tunnel-source.ts'
import { DatapathError } from '../datapath.ts'
import { chainMax, entry, outputsMax, slot, slotPayload } from './layout.ts'

/** Slots that a chain of entries holds: one in each entry but the last is for the way on. */
export const slotsMax = (chainMax - 1) * (entry.slotCount - 1) + entry.slotCount

/**
 * The MAC address of a port's peer when the peer is in another network namespace: packets for it
 * can go there directly. Undefined when it is not, or when the address is not known.
 */
export type PeerOf = (port: number) => number | undefined

/** The slots of one action list; made once and filled anew. */
export class SlotList {
  readonly bytes = new Uint8Array(slotsMax * entry.slotSize)
  readonly #view = new DataView(this.bytes.buffer)
  #count = 0

  get count(): number {
    return this.#count
  }

  /** @throws DatapathError `E2BIG` */
  encode(given: readonly Action[], peerOf: PeerOf): void {
    this.#count = 0
    this.bytes.fill(0)
    const [first] = given
    if (first?.kind === 'checkPacketLength') this.#checkLength(first)
    const actions = first?.kind === 'checkPacketLength' ? first.lessEqual : given
    const ordered = order(actions)
    for (const [index, action] of ordered.entries()) {
      if (action.kind !== 'output') this.#encodeOne(action)
      else if (index < ordered.length - 1) this.#output(action.port)
      else this.#last(action.port, peerOf(action.port))
    }
  }

  #checkLength({ length, greater }: Extract<Action, { kind: 'checkPacketLength' }>): void {
    const isForAgent = greater.length === 1 && greater[0]?.kind === 'userspace'
    if (greater.length > 0 && !isForAgent)
      throw new DatapathError('E2BIG', 'long packets can only go to the agent: execute instead')
    const at = this.#add(slot.checkLength)
    this.bytes[at - slotPayload + 1] = isForAgent ? 1 : 0
    this.#view.setUint32(at, length, true)
  }

  #last(port: number, peer: number | undefined): void {
    const at = this.#add(peer === undefined ? slot.last : slot.lastPeer)
    this.#view.setUint32(at, port, true)
    if (peer !== undefined) writeU48(this.bytes, at + 4, peer)
  }

  /** Joins the last slot when that has outputs and room for one more. */
  #output(port: number): void {
    const before = (this.#count - 1) * entry.slotSize
    const room =
      this.#count > 0 &&
      this.bytes[before] === slot.outputs &&
      (this.bytes[before + 1] ?? 0) < outputsMax
    const start = room ? before : this.#add(slot.outputs) - slotPayload
    const count = this.bytes[start + 1] ?? 0
    this.#view.setUint32(start + slotPayload + 4 * count, port, true)
    this.bytes[start + 1] = count + 1
  }

  /** Values that go into the packet are in network order, the others in this machine's. */
  #encodeOne(action: Exclude<Action, { kind: 'output' }>): void {
    if (action.kind === 'clone' || action.kind === 'ct' || action.kind === 'recirculate')
      throw new DatapathError('EOPNOTSUPP', `the ebpf datapath has no ${action.kind}`)
    if (action.kind === 'checkPacketLength')
      throw new DatapathError('E2BIG', 'a check of the length comes first: execute instead')
    if (action.kind === 'setTunnel') {
      this.#setTunnel(action)
      return
    }
    const at = this.#add(slot[action.kind])
    const { bytes } = this
    switch (action.kind) {
      case 'setEth':
        writeU48(bytes, at, action.dst)
        writeU48(bytes, at + 6, action.src)
        break
      case 'setTtl':
        bytes[at] = action.ttl
        break
      case 'setTos':
        bytes[at] = action.tos
        break
      case 'setIpSrc':
      case 'setIpDst':
        writeU32(bytes, at, action.address)
        break
      case 'setIpv6Src':
      case 'setIpv6Dst':
        this.#address6(at, action.address)
        break
      case 'setTpSrc':
      case 'setTpDst':
        this.#view.setUint16(at, action.port)
        break
      case 'setArp':
        this.#view.setUint16(at, action.op)
        writeU48(bytes, at + 2, action.sha)
        writeU32(bytes, at + 8, action.spa)
        writeU48(bytes, at + 12, action.tha)
        writeU32(bytes, at + 18, action.tpa)
        break
      case 'pushVlan':
        this.#view.setUint32(at, action.tci & 0xefff, true)
        break
      case 'userspace':
        this.#view.setUint32(at, action.reason, true)
        break
      case 'meter':
        this.#view.setUint32(at, action.id, true)
        break
      case 'popVlan':
        break
    }
  }

  #setTunnel({ id, dst, src }: Extract<Action, { kind: 'setTunnel' }>): void {
    const isIpv6 = typeof dst === 'bigint' || typeof src === 'bigint'
    if (isIpv6) this.#address6(this.#add(slot.tunnelSrc6), src)
    const at = this.#add(isIpv6 ? slot.setTunnel6 : slot.setTunnel)
    this.#view.setUint32(at, id, true)
    if (isIpv6) this.#address6(at + 4, dst)
    else {
      this.#view.setUint32(at + 4, dst, true)
      this.#view.setUint32(at + 8, src, true)
    }
  }

  #address6(at: number, address: UnderlayAddress): void {
    for (const [index, word] of wordsOf6(BigInt(address)).entries())
      writeU32(this.bytes, at + 4 * index, word)
  }

  /** A new slot; says where its payload starts. */
  #add(kind: number): number {
    if (this.#count === slotsMax)
      throw new DatapathError('E2BIG', `actions need over ${slotsMax} slots: execute instead`)
    const start = this.#count * entry.slotSize
    this.#count++
    this.bytes[start] = kind
    return start + slotPayload
  }
}

/**
 * The same actions without those at the end that change a packet nobody gets, and with the packet
 * for the agent last: there is no way on after that.
 */
function order(given: readonly Action[]): readonly Action[] {
  const actions = given.flatMap(flattenClone)
  const used = actions.slice(0, 1 + actions.findLastIndex(isSink))
  const toAgent = used.findIndex(({ kind }) => kind === 'userspace')
  if (toAgent < 0 || toAgent === used.length - 1) return used
  if (used.slice(toAgent).some((action) => !isSink(action)))
    throw new DatapathError('E2BIG', 'actions after userspace change the packet: execute instead')
  const others = used.filter(({ kind }) => kind !== 'userspace')
  return [...others, ...used.slice(toAgent, toAgent + 1)]
}

/** A copy that is only sent somewhere needs none to be made. */
function flattenClone(action: Action): readonly Action[] {
  if (action.kind !== 'clone' || !action.actions.every(isSink)) return [action]
  return action.actions
}

function isSink({ kind }: Action): boolean {
  return kind === 'output' || kind === 'userspace'
}

/** The port and its peer's address in a slot that has both. */
export function decodePeer(bytes: Uint8Array): readonly [number, number] | undefined {
  if (bytes[0] !== slot.lastPeer) return undefined
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  return [view.getUint32(slotPayload, true), readU48(bytes, slotPayload + 4)]
}

/** The actions of some slots; undefined when one of them is of no kind that is known here. */
export function decodeSlots(bytes: Uint8Array): readonly Action[] | undefined {
  const actions: Action[] = []
  let tunnelSrc: bigint | undefined
  for (let start = 0; start < bytes.length; start += entry.slotSize) {
    const kind = bytes[start] ?? slot.end
    if (kind === slot.end) break
    if (kind === slot.checkLength && start === 0) {
      const lessEqual = decodeSlots(bytes.subarray(entry.slotSize))
      return lessEqual && [decodeCheckLength(bytes, lessEqual)]
    }
    const one = bytes.subarray(start, start + entry.slotSize)
    if (kind === slot.tunnelSrc6) {
      tunnelSrc = readAddress6(one, slotPayload)
      continue
    }
    const decoded = kind === slot.setTunnel6 ? decodeTunnel6(one, tunnelSrc) : decodeSlot(kind, one)
    if (decoded === undefined) return undefined
    actions.push(...decoded)
  }
  return actions
}

function decodeSlot(kind: number, bytes: Uint8Array): readonly Action[] | undefined {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const at = slotPayload
  const word = (index: number): number => view.getUint32(at + 4 * index, true)
  switch (kind) {
    case slot.outputs:
      return Array.from({ length: bytes[1] ?? 0 }, (_, index) => ({
        kind: 'output',
        port: word(index),
      }))
    case slot.last:
    case slot.lastPeer:
      return [{ kind: 'output', port: word(0) }]
    case slot.setEth:
      return [{ kind: 'setEth', dst: readU48(bytes, at), src: readU48(bytes, at + 6) }]
    case slot.setTtl:
      return [{ kind: 'setTtl', ttl: view.getUint8(at) }]
    case slot.setTos:
      return [{ kind: 'setTos', tos: view.getUint8(at) }]
    case slot.setIpSrc:
      return [{ kind: 'setIpSrc', address: readU32(bytes, at) }]
    case slot.setIpDst:
      return [{ kind: 'setIpDst', address: readU32(bytes, at) }]
    case slot.setIpv6Src:
      return [{ kind: 'setIpv6Src', address: readAddress6(bytes, at) }]
    case slot.setIpv6Dst:
      return [{ kind: 'setIpv6Dst', address: readAddress6(bytes, at) }]
    case slot.setTpSrc:
      return [{ kind: 'setTpSrc', port: view.getUint16(at) }]
    case slot.setTpDst:
      return [{ kind: 'setTpDst', port: view.getUint16(at) }]
    case slot.setArp:
      return [decodeArp(bytes, view.getUint16(at))]
    case slot.pushVlan:
      return [{ kind: 'pushVlan', tci: word(0) }]
    case slot.popVlan:
      return [{ kind: 'popVlan' }]
    case slot.setTunnel:
      return [{ kind: 'setTunnel', id: word(0), dst: word(1), src: word(2) }]
    case slot.meter:
      return [{ kind: 'meter', id: word(0) }]
    case slot.userspace:
      return [{ kind: 'userspace', reason: word(0) }]
    default:
      return undefined
  }
}

function decodeTunnel6(bytes: Uint8Array, src: bigint | undefined): readonly Action[] | undefined {
  if (src === undefined) return undefined
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const id = view.getUint32(slotPayload, true)
  return [{ kind: 'setTunnel', id, dst: readAddress6(bytes, slotPayload + 4), src }]
}

function decodeCheckLength(bytes: Uint8Array, lessEqual: readonly Action[]): Action {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const greater: readonly Action[] = bytes[1] === 0 ? [] : [{ kind: 'userspace', reason: 1 }]
  const length = view.getUint32(slotPayload, true)
  return { kind: 'checkPacketLength', length, greater, lessEqual }
}

function decodeArp(bytes: Uint8Array, op: number): Action {
  const at = slotPayload
  return {
    kind: 'setArp',
    op,
    sha: readU48(bytes, at + 2),
    spa: readU32(bytes, at + 8),
    tha: readU48(bytes, at + 12),
    tpa: readU32(bytes, at + 18),
  }
}

function readAddress6(bytes: Uint8Array, at: number): bigint {
  const [a, b, c, d] = [0, 4, 8, 12].map((offset) => readU32(bytes, at + offset))
  return addressOf6([a ?? 0, b ?? 0, c ?? 0, d ?? 0])
}

function readU48(bytes: Uint8Array, at: number): number {
  return readU16(bytes, at) * 0x1_0000_0000 + readU32(bytes, at + 2)
}
