/** What delivery has in hand: a packet, and what it works on. */

import type { Datapath, Offload } from '../datapath/datapath.ts'
import { extractKey } from '../packet/extract.ts'
import { createKey, type FlowKey } from '../packet/flow-key.ts'
import type { AnswerCounters } from './answer.ts'
import type { FlowInstaller } from './flow-installer.ts'
import type { Learning } from './learning.ts'
import { type ParkedPacket, limits as parkingLimits } from './parking.ts'
import type { VirtualPort } from './port.ts'
import type { Missing, Simulation } from './simulation.ts'
import type { StateSharing } from './state-sharing.ts'
import type { VirtualTopology } from './virtual-topology.ts'

export interface DeliveryCounters extends AnswerCounters {
  readonly packets: number
  readonly simulations: number
  readonly parked: number
  /** Packets that wait for flow state of other hosts. */
  readonly awaited: number
  /** Packets dropped by reason; flows drop more without the agent seeing them. */
  readonly drops: Readonly<Record<string, number>>
  readonly executeFailures: number
}

/** Where a walk begins: at `port` if it does not where the packet was received. */
export interface WalkStart {
  readonly port?: VirtualPort | undefined
  readonly generated?: boolean
  readonly unreachable?: Missing | undefined
  /** Whether the packet may wait for flow state. */
  readonly isPatient?: boolean
}

/** A packet off its port, which may have overtaken its state. */
export const asReceived: WalkStart = { isPatient: true }

/** `key` belongs to the caller. */
export interface PacketInHand {
  readonly packet: Uint8Array
  readonly offload: Offload | undefined
  readonly key: FlowKey
  /** Port where its walk starts; undefined for a vport that is no port's. */
  readonly start: string | undefined
  readonly generated: boolean
  readonly installable: boolean
  /** When it stops waiting; undefined when it has not begun to. */
  readonly endsMs: number | undefined
}

/** The packet as it can be kept, `start` being where its walk begins again. */
export function parkedOf(hand: PacketInHand, start: string, nowMs: number): ParkedPacket {
  const { packet, offload, key, generated, endsMs } = hand
  return {
    packet: packet.slice(),
    offload: offload?.slice(),
    key: key.slice(),
    start,
    generated,
    endsMs: endsMs ?? nowMs + parkingLimits.waitMs,
  }
}

/** A packet that the agent made, to leave by port `start`; undefined when it is none. */
export function generatedPacket(
  frame: Uint8Array,
  start: string,
  nowMs: number,
): ParkedPacket | undefined {
  const key = createKey()
  if (!extractKey(frame, 0, key)) return undefined
  const endsMs = nowMs + parkingLimits.waitMs
  return { packet: frame, offload: undefined, key, start, generated: true, endsMs }
}

/** What delivery works on. */
export interface DeliveryWorld {
  readonly datapath: Datapath
  readonly topology: VirtualTopology
  readonly flows: FlowInstaller
  readonly learning: Learning
  readonly sim: Simulation
  readonly states: StateSharing
  readonly now: () => number
}
