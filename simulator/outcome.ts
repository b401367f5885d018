/** What a simulation comes to. */
import type { VirtualRouterPort } from './router.ts'
import type { AnyAddress, Tag } from './tag.ts'

/** What lives as long as packets show that it does. */
export interface Lively {
  lastSeenMs: number
}

/** The fact a parked packet waits for: the MAC address of a next hop. */
export interface Missing {
  readonly port: VirtualRouterPort
  readonly address: AnyAddress
  readonly tag: Tag
}

/**
 * What became of a packet. `forward` and `drop` make flows; `park` waits for a fact; `consumed` was
 * answered by the agent, and the next packet like it comes to the agent too.
 */
export type OutcomeKind = 'forward' | 'drop' | 'park' | 'consumed'
