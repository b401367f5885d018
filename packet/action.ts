/**
 * What a datapath does to a packet, in order. An empty list drops.
 *
 * Actions are values: the simulator makes them, a datapath encodes them, the text form prints them.
 * Set actions rewrite the packet and its checksums. They carry whole values, never increments, as
 * the Open vSwitch kernel module does: a simulation that computes a value from the packet's own
 * (the TTL less one) must have that field in the flow's mask.
 */
import type { UnderlayAddress } from './tunnel-source.ts'

export type Action =
  /** Sends the packet as it is now out of a vport; later actions work on. */
  | { readonly kind: 'output'; readonly port: number }
  /** MAC addresses as 48-bit numbers. */
  | { readonly kind: 'setEth'; readonly dst: number; readonly src: number }
  /** Bit 0x1000 of `tci` is not looked at: a key's `vlan` can be given as it is. */
  | { readonly kind: 'pushVlan'; readonly tci: number }
  | { readonly kind: 'popVlan' }
  | { readonly kind: 'setIpSrc'; readonly address: number }
  | { readonly kind: 'setIpDst'; readonly address: number }
  | { readonly kind: 'setIpv6Src'; readonly address: bigint }
  | { readonly kind: 'setIpv6Dst'; readonly address: bigint }
  /** Of IPv4 or IPv6: time to live or hop limit, type of service or traffic class. */
  | { readonly kind: 'setTtl'; readonly ttl: number }
  | { readonly kind: 'setTos'; readonly tos: number }
  | { readonly kind: 'setTpSrc'; readonly port: number }
  | { readonly kind: 'setTpDst'; readonly port: number }
  /** Rewrites a whole Ethernet/IPv4 ARP body; turns a request into its reply. */
  | {
      readonly kind: 'setArp'
      readonly op: number
      readonly sha: number
      readonly spa: number
      readonly tha: number
      readonly tpa: number
    }
  /** Tunnel header for the outputs to tunnel vports that follow; both addresses of one family. */
  | {
      readonly kind: 'setTunnel'
      readonly id: number
      readonly dst: UnderlayAddress
      readonly src: UnderlayAddress
    }
  /** What exceeds the rate of a meter is dropped, and with it the actions that follow. */
  | { readonly kind: 'meter'; readonly id: number }
  /**
   * Goes on with `greater` when the frame is longer than `length` bytes, else with `lessEqual`. A
   * VLAN tag does not count; of a packet still to be cut into segments, one segment does.
   */
  | {
      readonly kind: 'checkPacketLength'
      readonly length: number
      readonly greater: readonly Action[]
      readonly lessEqual: readonly Action[]
    }
  /** Does actions to a copy of the packet; those that follow find it as it was. */
  | { readonly kind: 'clone'; readonly actions: readonly Action[] }
  /**
   * Has the kernel's connection tracking look at the packet, in a zone. What it finds is in the
   * packet's key (`ctState`) after `recirculate`. `commit` lets a new connection be remembered;
   * `mark` is written to the connection, those bits that its mask has.
   */
  | {
      readonly kind: 'ct'
      readonly zone: number
      readonly commit: boolean
      readonly mark?: { readonly value: number; readonly mask: number }
    }
  /**
   * Ends the actions: the packet as it is now is looked up anew, with this number (1 to 65535) as
   * the `recirculation` of its key.
   */
  | { readonly kind: 'recirculate'; readonly id: number }
  /** Hands the packet to the agent. */
  | { readonly kind: 'userspace'; readonly reason: number }

/** How deep actions may stand in other actions: `clone` and `checkPacketLength` hold lists. */
export const actionDepthMax = 4

/** The lists of actions in an action. */
export function innerActions(action: Action): readonly (readonly Action[])[] {
  switch (action.kind) {
    case 'clone':
      return [action.actions]
    case 'checkPacketLength':
      return [action.greater, action.lessEqual]
    default:
      return none
  }
}

const none: readonly (readonly Action[])[] = []

/** Levels of lists in a list of actions: 1 when none holds another. */
export function actionDepth(actions: readonly Action[]): number {
  let depth = 1
  for (const action of actions)
    for (const inner of innerActions(action)) depth = Math.max(depth, 1 + actionDepth(inner))
  return depth
}
