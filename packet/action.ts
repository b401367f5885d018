/**
 * What a datapath does to a packet, in order. An empty list drops.
 *
 * Actions are values: the simulator makes them, a datapath encodes them, the text form prints them.
 * Set actions rewrite the packet and its checksums. They carry whole values, never increments, as
 * the Open vSwitch kernel module does: a simulation that computes a value from the packet's own
 * (the TTL less one) must have that field in the flow's mask.
 */
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
  /** Tunnel header for the outputs to tunnel vports that follow. IPv4 addresses as numbers. */
  | { readonly kind: 'setTunnel'; readonly id: number; readonly dst: number; readonly src: number }
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
  /** Hands the packet to the agent. */
  | { readonly kind: 'userspace'; readonly reason: number }
