/** What a walk notes of each device on its way. */
import { createKey, type FlowKey } from '../packet/flow-key.ts'
import type { Balance } from './load-balancer.ts'
import type { VirtualPort } from './port.ts'

/** The passage of one device. */
export interface Frame {
  inPort: VirtualPort | undefined
  outPort: VirtualPort | undefined
  /** Whether the device's chains gave the packet another destination. */
  dstRewritten: boolean
  /** Whether the header has changed since it came to the device; how it was is in `entered` then. */
  isChanged: boolean
  readonly entered: FlowKey
  /** What a load balancer has still to do. */
  balance: Balance | undefined
}

export function createFrame(): Frame {
  return {
    inPort: undefined,
    outPort: undefined,
    dstRewritten: false,
    isChanged: false,
    entered: createKey(),
    balance: undefined,
  }
}
