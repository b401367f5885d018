/** An uplink's chains in the store: compared with what they should be, and put right. */
import { isDeepStrictEqual } from 'node:util'
import type { Rule } from '../topology/model.ts'
import type { Draft, Reader } from '../topology/store.ts'
import { uplinkChains } from '../topology/uplink.ts'
import type { LinkPublication } from './publication.ts'
import { echoRules, type LinkEnds, uplinkRules } from './uplink-rule.ts'
import { type Link6, uplinkRules6 } from './uplink6.ts'

/** A link whose one port translates. */
export interface TranslatingLink extends LinkEnds {
  readonly publications: readonly LinkPublication[]
  /** Subnets behind it that mean the same to the host. */
  readonly reached?: readonly string[]
  readonly link6?: Link6 | undefined
}

/** Whether the link's port has its chains, and they hold just what they should. */
export function hasItsRules(reader: Reader, link: TranslatingLink): boolean {
  const chains = uplinkChains(link.id)
  const port = reader.get('port', link.id)
  if (port?.inboundChain !== chains.inbound || port.outboundChain !== chains.outbound) return false
  const wanted = wantedRules(link)
  return (
    wanted.every((rule) => isDeepStrictEqual(reader.get('rule', rule.id), rule)) &&
    standingRules(reader, link.id).length === wanted.length
  )
}

/** Writes the link's chains. The port must be there. */
export function completeRules(draft: Draft, link: TranslatingLink): void {
  if (hasItsRules(draft, link)) return
  const chains = uplinkChains(link.id)
  const port = draft.get('port', link.id)
  if (port === undefined) return
  for (const id of Object.values(chains))
    if (draft.get('chain', id) === undefined) draft.put('chain', { id })
  const wanted = wantedRules(link)
  const ids = new Set(wanted.map(({ id }) => id))
  for (const { id } of standingRules(draft, link.id)) if (!ids.has(id)) draft.delete('rule', id)
  for (const rule of wanted)
    if (!isDeepStrictEqual(draft.get('rule', rule.id), rule)) draft.put('rule', rule)
  draft.put('port', {
    ...port,
    inboundChain: chains.inbound,
    outboundChain: chains.outbound,
  })
}

function wantedRules(link: TranslatingLink): readonly Rule[] {
  return [
    ...uplinkRules(link, link.publications),
    ...echoRules(link.id, link.reached ?? []),
    ...uplinkRules6(link.id, link.link6, link.publications),
  ]
}

function standingRules(reader: Reader, id: string): readonly Rule[] {
  const chains: readonly string[] = Object.values(uplinkChains(id))
  return reader.list('rule').filter(({ chain }) => chains.includes(chain))
}
