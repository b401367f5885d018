/**
 * What uplinks consist of in the topology besides their router ports: names, and their removal. A
 * tenant's link to its provider's router is like an uplink, whose other end is that router's.
 */
import { createHash } from 'node:crypto'
import type { Draft } from './store.ts'

/** A tenant's router has one link to its provider's: the ids of its ends. */
export function tenantLink(router: string): { readonly id: string; readonly peer: string } {
  const id = createHash('sha256').update(`tenant/${router}`).digest('hex').slice(0, 32)
  return { id, peer: `${id}-provider` }
}

/** Removes the link of a tenant's router, if it has one. */
export function removeTenantLink(draft: Draft, router: string): void {
  const { id, peer } = tenantLink(router)
  if (draft.get('port', id) === undefined) return
  draft.delete('route', uplinkRoute(id))
  draft.delete('port', peer)
  removeLinkEnd(draft, id)
}

/** The chains of an uplink's port: what comes from the outside, what leaves, published ports. */
export interface UplinkChains {
  readonly inbound: string
  readonly outbound: string
  /** The inbound one jumps to it. */
  readonly published: string
}

export function uplinkChains(id: string): UplinkChains {
  return { inbound: `${id}-in`, outbound: `${id}-out`, published: `${id}-published` }
}

/** The router's default route by an uplink. */
export function uplinkRoute(id: string): string {
  return `${id}-default`
}

/** Removes an uplink and what it consists of. */
export function removeUplink(draft: Draft, id: string): void {
  draft.delete('route', uplinkRoute(id))
  draft.delete('route', `${uplinkRoute(id)}6`)
  draft.delete('binding', id)
  // Its host may not be there to take it back.
  draft.delete('portActive', id)
  draft.delete('uplink', id)
  removeLinkEnd(draft, id)
}

function removeLinkEnd(draft: Draft, id: string): void {
  draft.delete('port', id)
  const chains: readonly string[] = Object.values(uplinkChains(id))
  for (const rule of draft.list('rule'))
    if (chains.includes(rule.chain)) draft.delete('rule', rule.id)
  for (const chain of chains) draft.delete('chain', chain)
}
