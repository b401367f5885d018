/**
 * The one interface to whatever forwards packets: the Open vSwitch kernel module, our eBPF program,
 * or memory in tests. Every call is synchronous: it belongs to the forwarding worker thread.
 */
import { type Action, innerActions } from '../packet/action.ts'
import type { FlowKey } from '../packet/flow-key.ts'

/** A port of the datapath: a network interface taken into it. */
export interface Vport {
  /** Never 0; stable while the interface lives, also over restarts of the agent. */
  readonly number: number
  readonly name: string
}

/** The datapath copies the key; its bits outside the mask are ignored. A mask that was given never changes. */
export interface FlowMatch {
  readonly key: FlowKey
  readonly mask: FlowKey
}

export interface FlowStats {
  readonly packets: number
  readonly bytes: number
  /** Milliseconds since the last packet, Infinity when there has been none. */
  readonly idleMs: number
}

/** Names an installed flow: an integer that the datapath may give again after the flow is removed. */
export type FlowId = number

export interface InstalledFlow extends FlowMatch {
  readonly id: FlowId
  /** As installed; undefined when the kernel holds actions that this version cannot read. */
  readonly actions: readonly Action[] | undefined
  readonly stats: FlowStats
}

/**
 * Work left undone on a packet by offloads of the sender (checksum to be completed, segments to be
 * cut). Goes with the packet's bytes to `execute`. In the form of struct virtio_net_hdr
 * (linux/virtio_net.h): u8 flags, u8 gso_type, u16 hdr_len, u16 gso_size, u16 csum_start,
 * u16 csum_offset; only a datapath that hands over packets with such work makes one.
 */
export type Offload = Readonly<Uint8Array>

const offloadSize = 10
const offloadChecksum = 1

/** What each segment carries that the packet is still to be cut into; 0 when it is to stay whole. */
export function segmentSizeOf(offload: Offload): number {
  if (offload.length < offloadSize || offload[1] === 0) return 0
  return u16(offload, 4)
}

/** Where in the frame a checksum is to be completed: from where on it counts, and where it stands. */
export function pendingChecksumOf(
  offload: Offload,
): { readonly start: number; readonly offset: number } | undefined {
  if (offload.length < offloadSize || ((offload[0] ?? 0) & offloadChecksum) === 0) return undefined
  return { start: u16(offload, 6), offset: u16(offload, 8) }
}

function u16(bytes: Offload, at: number): number {
  return (bytes[at] ?? 0) | ((bytes[at + 1] ?? 0) << 8)
}

/** A packet handed to the agent. Valid only until the handler returns: copy what is kept. */
export interface Upcall {
  readonly reason: 'miss' | 'action'
  /** Frame from the Ethernet header on, an 802.1Q tag in place. */
  readonly packet: Uint8Array
  readonly key: FlowKey
  /** False when the kernel knows more of this packet than `key` says: install no flow for it. */
  readonly keyComplete: boolean
  readonly offload: Offload | undefined
}

export interface DatapathCounters {
  readonly flows: number
  readonly masks: number
  readonly upcalls: number
  /** Upcalls lost for want of room between kernel and agent. */
  readonly lost: number
  /** Times that such a loss was seen, where the datapath tells: it was caught up with each time. */
  readonly overruns?: number
  /** Packets no flow matched; includes those that became upcalls. */
  readonly misses: number
}

/** What a meter lets pass. */
export interface MeterRate {
  /** 1000 bits a second. */
  readonly kbps: number
  /** What may come at once, in 1000 bits. */
  readonly burstKb: number
}

export interface MeterState {
  /** Undefined where the kernel does not tell it and another agent has set it. */
  readonly rate: MeterRate | undefined
  /** What has come to it and what of that it dropped, where the datapath counts. */
  readonly seen?: number
  readonly dropped?: number
}

/** Actions that not every datapath has: found out when it is opened. */
export interface Capabilities {
  readonly meter: boolean
  readonly clone: boolean
  readonly checkPacketLength: boolean
  /** `ct`, and `recirculate` with it. */
  readonly ct: boolean
}

/** Which of them some actions need that are not there. */
export function missingCapability(
  actions: readonly Action[],
  capabilities: Capabilities,
): keyof Capabilities | undefined {
  for (const action of actions) {
    const kind = action.kind === 'recirculate' ? 'ct' : action.kind
    if (isOptional(kind) && !capabilities[kind]) return kind
    for (const inner of innerActions(action)) {
      const missing = missingCapability(inner, capabilities)
      if (missing !== undefined) return missing
    }
  }
  return undefined
}

/** Whether no action holds others, and none is one that a datapath may lack. */
export function arePlain(actions: readonly Action[]): boolean {
  for (const { kind } of actions) {
    const isPlain = kind !== 'clone' && kind !== 'checkPacketLength'
    if (!isPlain || kind === 'meter' || kind === 'ct' || kind === 'recirculate') return false
  }
  return true
}

function isOptional(kind: Action['kind']): kind is keyof Capabilities {
  return kind === 'meter' || kind === 'clone' || kind === 'checkPacketLength' || kind === 'ct'
}

export interface Datapath {
  readonly kind: 'memory' | 'ebpf' | 'ovs'
  readonly capabilities: Capabilities
  /** What was found out about the kernel, for people: words that may each have a value. */
  readonly features: readonly string[]

  /** Takes an interface in; one already in is returned as it is. @throws DatapathError `ENODEV` */
  addPort(interfaceName: string): Vport
  /** Gives an interface back. Unknown numbers are no error: the kernel may have removed it first. */
  removePort(number: number): void
  ports(): readonly Vport[]

  /**
   * Installs a flow; one with the same masked key and mask is replaced in place, keeping its id.
   * The list of actions becomes the datapath's: it must not be changed any more.
   * Installed flows must not overlap with different actions: which one a packet takes is undefined.
   * @throws DatapathError code `ENOSPC` (flow table full), `E2BIG` (too many actions or masks; execute instead),
   * `EOPNOTSUPP` (an action that `capabilities` says is not there)
   */
  install(match: FlowMatch, actions: readonly Action[]): FlowId
  /** Removes a flow. Unknown ids are no error. */
  remove(id: FlowId): void
  /** Of many flows it costs more than `statsOf`. Undefined for unknown ids. */
  stats(id: FlowId): FlowStats | undefined
  /** Statistics of many flows, in their order, without a system call for each. */
  statsOf(ids: readonly FlowId[]): readonly (FlowStats | undefined)[]
  /** Every flow in the kernel, also those of an agent before this one. */
  flows(): Iterable<InstalledFlow>

  /**
   * Makes a meter or gives it another rate; ids are below 65536. Action `meter` with an id that has
   * no meter lets all pass. @throws DatapathError `EOPNOTSUPP` where there are none
   */
  setMeter(id: number, rate: MeterRate): void
  /** Unknown ids are no error. */
  removeMeter(id: number): void
  /** Ids of all meters, also those of an agent before this one. */
  meters(): readonly number[]
  /** How a meter is; undefined for unknown ids. */
  meter(id: number): MeterState | undefined

  /** Sends one packet through actions. `userspace` among them is ignored. `inPort` is the key's. */
  execute(
    packet: Uint8Array,
    offload: Offload | undefined,
    inPort: number,
    actions: readonly Action[],
  ): void

  /** Handles up to `budget` waiting upcalls without blocking; says how many. */
  receive(budget: number, handle: (upcall: Upcall) => void): number
  /** Blocks until an upcall waits, the wake descriptor is written to, or the time is over. */
  wait(timeoutMs: number): void

  counters(): DatapathCounters
  /** Lets go; flows and ports stay in the kernel and go on forwarding. */
  close(): void
}

/** The kernel or the datapath refused. `code` is the errno's name, such as `ENOSPC`. */
export class DatapathError extends Error {
  override readonly name = 'DatapathError'
  readonly code: string

  constructor(code: string, message: string, options?: ErrorOptions) {
    super(message, options)
    this.code = code
  }
}
