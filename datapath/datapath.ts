/**
 * The one interface to whatever forwards packets: the Open vSwitch kernel module, our eBPF program,
 * or memory in tests. Every call is synchronous: it belongs to the forwarding worker thread.
 */
import type { Action } from '../packet/action.ts'
import type { FlowKey } from '../packet/flow-key.ts'

/** A port of the datapath: a network interface taken into it. */
export interface Vport {
  /** Never 0; stable while the interface lives, also over restarts of the agent. */
  readonly number: number
  readonly name: string
}

/** The datapath copies key and mask. Key bits outside the mask are ignored. */
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
 * cut). Opaque outside the datapath; goes with the packet's bytes to `execute`.
 */
export type Offload = Readonly<Uint8Array>

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
  /** Packets no flow matched; includes those that became upcalls. */
  readonly misses: number
}

export interface Datapath {
  readonly kind: 'memory' | 'ebpf' | 'ovs'

  /** Takes an interface in; one already in is returned as it is. @throws DatapathError `ENODEV` */
  addPort(interfaceName: string): Vport
  /** Gives an interface back. Unknown numbers are no error: the kernel may have removed it first. */
  removePort(number: number): void
  ports(): readonly Vport[]

  /**
   * Installs a flow; one with the same masked key and mask is replaced in place, keeping its id.
   * Installed flows must not overlap with different actions: which one a packet takes is undefined.
   * @throws DatapathError code `ENOSPC` (flow table full), `E2BIG` (too many actions or masks; execute instead)
   */
  install(match: FlowMatch, actions: readonly Action[]): FlowId
  /** Removes a flow. Unknown ids are no error. */
  remove(id: FlowId): void
  /** Statistics without a system call per flow where the datapath can. Undefined for unknown ids. */
  stats(id: FlowId): FlowStats | undefined
  /** Every flow in the kernel, also those of an agent before this one. */
  flows(): Iterable<InstalledFlow>

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
