/** The actions of a flow: those of a simulation, and what becomes of packets too long for its way. */
import { type Offload, pendingChecksumOf, segmentSizeOf } from '../datapath/datapath.ts'
import type { Action } from '../packet/action.ts'
import { fragmentFrame, ipLength } from '../packet/fragment.ts'
import type { Simulation } from './simulation.ts'

/** Ports in one piece of a flood that is too long for the datapath. */
export const outputsPerPiece = 32
/** Of an Ethernet header; a VLAN tag does not count (see `checkPacketLength`). */
const headerSize = 14
/** Tells upcalls of packets that are too long from others. */
const tooLong: readonly Action[] = Object.freeze([Object.freeze({ kind: 'userspace', reason: 1 })])

/** What a flow for the packet does. */
export function flowActions(sim: Simulation): readonly Action[] {
  const actions = actionsOf(sim)
  return sim.lengthMax === 0 ? actions : limitLength(actions, sim.lengthMax, tooLong)
}

/** The actions of a simulation in a list that stays as it is. */
export function actionsOf({ lists, actions, actionCount }: Simulation): readonly Action[] {
  return lists.listOf(actions, actionCount)
}

/** The same for IP packets of up to `mtu` bytes; longer ones meet `greater`. */
export function limitLength(
  lessEqual: readonly Action[],
  mtu: number,
  greater: readonly Action[],
): Action[] {
  return [{ kind: 'checkPacketLength', length: mtu + headerSize, greater, lessEqual }]
}

/** Whether actions depend on the length of a packet. */
export function hasLengthLimit(actions: readonly Action[]): boolean {
  return actions[0]?.kind === 'checkPacketLength'
}

/** Cuts a long list of actions; every piece starts with the rewrites before it. */
export function pieces(actions: readonly Action[]): Action[][] {
  const list: Action[][] = []
  let rewrites: Action[] = []
  let piece: Action[] = []
  let outputs = 0
  for (const action of actions) {
    piece.push(action)
    if (action.kind !== 'output') {
      rewrites = [...rewrites, action]
      continue
    }
    if (++outputs < outputsPerPiece) continue
    list.push(piece)
    piece = [...rewrites]
    outputs = 0
  }
  if (outputs > 0) list.push(piece)
  return list
}

/** Bytes of the longest IP packet that will leave for a packet in hand. */
export function lengthOf(packet: Uint8Array, offload: Offload | undefined): number {
  return ipLength(packet, offload === undefined ? 0 : segmentSizeOf(offload))
}

/** A packet in fragments of at most `mtu` bytes. */
export function cut(
  packet: Uint8Array,
  offload: Offload | undefined,
  mtu: number,
): readonly Uint8Array[] {
  return fragmentFrame(packet, mtu, offload && pendingChecksumOf(offload)) ?? []
}
