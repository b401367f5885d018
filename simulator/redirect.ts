/**
 * Rules that send a packet by way of a service: it leaves by the service's port, and what comes
 * back from there goes on where the packet was.
 *
 *   machine ── port ▷ inbound chain: redirect out of s, pushing VLAN 10
 *   service ── s    ▷ inbound chain: VLAN 10: pop it, redirect in by port ▷ bridge …
 *
 * The chains of the port it is sent to are passed over: the service's may drop all else, and the
 * rule that sent a packet to the service does not see it again. While the service's port leads
 * nowhere, a rule that fails open is passed over, and others drop.
 */
import type { RuleAction } from '../topology/model.ts'
import { isActive, type VirtualPort } from './port.ts'
import { type Simulation, word } from './simulation.ts'
import { portTag } from './tag.ts'

/** Where a packet goes on when a chain has redirected it. */
export class Redirection {
  port: VirtualPort | undefined
  /** It comes in by the port rather than leaving by it. */
  isInward = false
}

export interface RedirectAction {
  readonly kind: 'redirect'
  readonly id: string
  readonly find: (id: string) => VirtualPort | undefined
  readonly isInward: boolean
  readonly failsOpen: boolean
  readonly pops: boolean
  /** The tag to push as the key has it; 0 for none. */
  readonly pushed: number
}

export function compileRedirect(
  action: Extract<RuleAction, { kind: 'redirect' }>,
  find: RedirectAction['find'],
): RedirectAction {
  const { port, direction, failOpen, popVlan, pushVlan, pushPriority = 0 } = action
  return {
    kind: 'redirect',
    id: port,
    find,
    isInward: direction === 'in',
    failsOpen: failOpen === true,
    pops: popVlan === true,
    pushed: pushVlan === undefined ? 0 : (pushPriority << 13) | 0x1000 | pushVlan,
  }
}

/** What a rule's redirection comes to; undefined passes the rule over. */
export function redirect(sim: Simulation, action: RedirectAction): 'redirect' | 'drop' | undefined {
  const port = action.find(action.id)
  sim.tag(port?.tag ?? portTag(action.id))
  if (port === undefined || !(action.isInward ? port.adminUp : isActive(port))) {
    if (!action.failsOpen) return dropped(sim, 'the port of a redirection leads nowhere')
    sim.story?.push(`port ${action.id} leads nowhere: the rule is passed over`)
    return undefined
  }
  if (action.pops || action.pushed !== 0) {
    sim.seeVlan()
    if (action.pops && sim.work[7] !== 0) sim.setVlan(0)
    if (action.pushed !== 0 && word(sim.work, 7) !== 0)
      return dropped(sim, 'a redirection would tag a tagged frame')
    if (action.pushed !== 0) sim.setVlan(action.pushed)
  }
  sim.redirection.port = port
  sim.redirection.isInward = action.isInward
  return 'redirect'
}

function dropped(sim: Simulation, reason: string): 'drop' {
  sim.drop(reason)
  return 'drop'
}
