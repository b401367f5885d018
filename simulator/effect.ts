/** What a simulation leads to besides forwarding. */
import type { Action } from '../packet/action.ts'
import type { Words6 } from '../packet/address6.ts'
import type { DhcpLease } from '../packet/dhcp-reply.ts'
import type { VirtualVip } from './balancer.ts'
import type { FragmentTrack } from './fragment-table.ts'
import type { Probe } from './health.ts'
import type { VirtualBridgePort, VirtualPort } from './port.ts'
import type { VirtualRouterPort } from './router.ts'
import type { StateEntry, StateKey } from './state-entry.ts'

/** What happens beside forwarding. Nothing of it is done before the forwarder commits it. */
export type Effect =
  | {
      readonly kind: 'learnMac'
      readonly port: VirtualBridgePort
      readonly mac: number
      readonly vlan: number
    }
  | {
      readonly kind: 'learnAddress'
      readonly port: VirtualBridgePort
      readonly address: number
      readonly mac: number
    }
  | {
      readonly kind: 'learnNeighbor'
      readonly port: VirtualRouterPort
      readonly address: number
      readonly mac: number
    }
  | {
      readonly kind: 'learnNeighbor6'
      readonly port: VirtualRouterPort
      readonly address: Words6
      readonly mac: number
    }
  /** Answers a neighbour solicitation, back through `port`: the target is at `mac`. */
  | {
      readonly kind: 'advertise'
      readonly port: VirtualPort
      readonly mac: number
      readonly isRouter: boolean
    }
  /** Answers a router solicitation. */
  | { readonly kind: 'advertiseRouter'; readonly port: VirtualRouterPort }
  /** Answers the packet as it was at `port`, after `changes`: an echo reply. */
  | {
      readonly kind: 'echo'
      readonly port: VirtualRouterPort
      readonly changes: readonly Action[]
    }
  /** Likewise, with an ICMP error from `source`. */
  | {
      readonly kind: 'icmpError'
      readonly port: VirtualRouterPort
      readonly changes: readonly Action[]
      readonly type: number
      readonly code: number
      readonly source: number
      /** Of the message, such as the MTU of the next hop. */
      readonly parameter: number
      /** Why the packet was dropped. */
      readonly reason: string
    }
  /** Likewise, with an ICMPv6 error. */
  | {
      readonly kind: 'icmp6Error'
      readonly port: VirtualRouterPort
      readonly changes: readonly Action[]
      readonly type: number
      readonly code: number
      readonly source: bigint
      readonly parameter: number
      readonly reason: string
    }
  /**
   * Likewise, in the name of the one it was for: a reset of a TCP connection, else an ICMP error;
   * with an `mtu`, that it is larger than that.
   */
  | {
      readonly kind: 'refusal'
      readonly port: VirtualPort
      readonly changes: readonly Action[]
      readonly mtu: number
      readonly reason: string
    }
  /** Answers a DHCP client, at its port. */
  | {
      readonly kind: 'dhcp'
      readonly port: VirtualBridgePort
      readonly lease: DhcpLease
      readonly serverMac: number
    }
  /** A connection or translation is to be remembered. */
  | {
      readonly kind: 'addState'
      readonly entry: StateEntry
      /** An older one in its place: its rule leads elsewhere now. */
      readonly instead?: StateEntry | undefined
    }
  /** Later fragments of a datagram are to follow its first one. */
  | { readonly kind: 'addFragment'; readonly track: FragmentTrack }
  /** A member of a pool has answered a health check. */
  | { readonly kind: 'probeAnswer'; readonly probe: Probe }
  /** A sticky VIP's client has gone to a member. */
  | {
      readonly kind: 'stick'
      readonly vip: VirtualVip
      readonly client: number
      readonly member: string
    }
  /** A connection was answered, closes, or goes on after that; `flags` are TCP's. */
  | { readonly kind: 'useState'; readonly key: StateKey; readonly flags: number }
