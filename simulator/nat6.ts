/**
 * What translation of IPv6 addresses has of its own: prefixes (RFC 6296), and numbers of the
 * address book instead of addresses.
 */
import { equalWords6, isLinkLocal6, type Words6, wordsOf6 } from '../packet/address6.ts'
import {
  isTranslated6,
  type PrefixTranslation,
  translatePrefix,
} from '../packet/prefix-translation.ts'
import type { NatTarget } from './compile-action.ts'
import type { NatOutcome } from './nat.ts'
import type { Zone } from './passage.ts'
import type { VirtualRule } from './policy.ts'
import { sourceFor6 } from './router-port6.ts'
import { type Simulation, word } from './simulation.ts'

/** One address for another. Of an ICMPv6 error, what it is about follows. */
export function translateStatic6(
  sim: Simulation,
  rule: VirtualRule,
  kind: 'staticSnat' | 'staticDnat',
  address: Words6,
): void {
  const isSource = kind === 'staticSnat'
  const old = addressAt(sim, isSource ? 10 : 14)
  const isMeant = rule.checks.some((one) => one.kind === 'icmpDataDst' && !one.not)
  const book = sim.passage.zone?.state.book
  const quote = sim.passage.errorQuoteOf(sim)
  if (quote !== undefined && book !== undefined) {
    const quoted = book.wordsOf(isSource ? quote.dst : quote.src)
    const isIt = quoted !== undefined && equalWords6(quoted, old)
    if (isSource && (isIt || isMeant)) quote.dst = book.numberOf(...address)
    if (!isSource && isIt) quote.src = book.numberOf(...address)
  }
  rewrite(sim, isSource, address)
}

/** One prefix for another. Of an ICMPv6 error, what it is about follows. */
export function translatePrefix6(
  sim: Simulation,
  kind: 'prefixSnat' | 'prefixDnat',
  prefix: PrefixTranslation,
): NatOutcome {
  const isSource = kind === 'prefixSnat'
  const old = addressAt(sim, isSource ? 10 : 14)
  if (isSource) sim.seeIpv6Src(128)
  else sim.seeIpv6Dst(128)
  if (!isTranslated6(prefix, old)) return 'skip'
  const address = translatePrefix(prefix, old)
  if (address === undefined) {
    sim.drop('address cannot be translated: RFC 6296 has no room for its checksum')
    return 'drop'
  }
  const book = sim.passage.zone?.state.book
  const quote = sim.passage.errorQuoteOf(sim)
  if (quote !== undefined && book !== undefined) {
    // The packet in question came the other way.
    const quoted = book.wordsOf(isSource ? quote.dst : quote.src)
    const inner = quoted && isTranslated6(prefix, quoted) && translatePrefix(prefix, quoted)
    if (inner && isSource) quote.dst = book.numberOf(...inner)
    if (inner && !isSource) quote.src = book.numberOf(...inner)
  }
  rewrite(sim, isSource, address)
  return 'done'
}

function rewrite(sim: Simulation, isSource: boolean, address: Words6): void {
  if (isSource) {
    sim.rewriteIpv6Src(address)
    return
  }
  sim.rewriteIpv6Dst(address)
  sim.passage.frame.dstRewritten = true
}

/** Gives the packet the source that a number in the address book stands for. */
export function rewriteSrc6(sim: Simulation, number: number): void {
  const words = sim.passage.zone?.state.book.wordsOf(number)
  if (words !== undefined) sim.rewriteIpv6Src(words)
}

/** Gives the packet the destination that a number in the address book stands for. */
export function rewriteDst6(sim: Simulation, number: number): void {
  const words = sim.passage.zone?.state.book.wordsOf(number)
  if (words !== undefined) sim.rewriteIpv6Dst(words)
}

/** The number in the address book of the address `counted` beyond `base`. */
export function numberIn({ state }: Zone, base: bigint, counted: number): number {
  return state.book.numberOf(...wordsOf6(base + BigInt(counted)))
}

/** The addresses of the router port that the packet leaves by, of them the nearest. */
export function ownTargets6(
  sim: Simulation,
  targets: readonly NatTarget[],
): readonly NatTarget[] | undefined {
  const port = sim.passage.frame.outPort
  if (port?.kind !== 'router') return undefined
  sim.seeIpv6Dst(128)
  const own = sourceFor6(port, addressAt(sim, 14))
  if (own === undefined || isLinkLocal6(own.words[0])) return undefined
  const base = own.address
  return targets.map((one) => ({ ...one, base, firstAddress: 0, lastAddress: 0 }))
}

function addressAt({ work }: Simulation, at: 10 | 14): Words6 {
  return [word(work, at), word(work, at + 1), word(work, at + 2), word(work, at + 3)]
}
