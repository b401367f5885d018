/** What rules do, compiled. */
import { parseIp, parseIpv6 } from '../packet/address.ts'
import { parseCidr6, wordsOf6 } from '../packet/address6.ts'
import type { PrefixTranslation } from '../packet/prefix-translation.ts'
import type { RuleAction } from '../topology/model.ts'
import type { VirtualChain } from './policy.ts'
import type { VirtualPort } from './port.ts'
import { compileRedirect, type RedirectAction } from './redirect.ts'
import type { AnyAddress } from './tag.ts'

/**
 * Addresses and ports to translate to; `firstPort` 0 keeps the port. Addresses of IPv6 are counted
 * from `base` on.
 */
export interface NatTarget {
  readonly base: bigint | undefined
  readonly firstAddress: number
  readonly lastAddress: number
  readonly firstPort: number
  readonly lastPort: number
}

type Verdict = 'accept' | 'continue' | 'return'

export type CompiledAction =
  | { readonly kind: 'accept' | 'drop' | 'reject' | 'return' | 'continue' }
  | { readonly kind: 'jump'; readonly chain: VirtualChain }
  | RedirectAction
  | NatAction

export type NatAction =
  | {
      readonly kind: 'staticSnat' | 'staticDnat'
      readonly address: AnyAddress
      readonly verdict: Verdict
    }
  | {
      readonly kind: 'snat' | 'dnat' | 'masquerade'
      readonly targets: readonly NatTarget[]
      readonly verdict: Verdict
    }
  | {
      readonly kind: 'prefixSnat' | 'prefixDnat'
      readonly prefix: PrefixTranslation
      readonly verdict: Verdict
    }
  | { readonly kind: 'reverseSnat' | 'reverseDnat'; readonly verdict: Verdict }

/** `chain` finds the chain of a jump, `port` the port of a redirection when it is needed. */
export function compileAction(
  action: RuleAction,
  chain: (id: string) => VirtualChain,
  port: (id: string) => VirtualPort | undefined,
): CompiledAction {
  switch (action.kind) {
    case 'accept':
    case 'drop':
    case 'reject':
    case 'return':
    case 'continue':
      return { kind: action.kind }
    case 'jump':
      return { kind: 'jump', chain: chain(action.chain) }
    case 'redirect':
      return compileRedirect(action, port)
    case 'staticSnat':
    case 'staticDnat':
      return { ...action, address: addressOf(action.address) }
    case 'prefixSnat':
    case 'prefixDnat': {
      const { kind, verdict } = action
      return { kind, prefix: prefixOf(action.from, action.to), verdict }
    }
    case 'masquerade': {
      const { first: firstPort, last: lastPort } = action.ports
      const targets = [{ base: undefined, firstAddress: 0, lastAddress: 0, firstPort, lastPort }]
      return { kind: 'masquerade', targets, verdict: action.verdict }
    }
    case 'snat':
    case 'dnat': {
      const targets = action.targets.map(({ first, last, ports }) => ({
        ...rangeOf(first, last),
        firstPort: ports?.first ?? 0,
        lastPort: ports?.last ?? 0,
      }))
      return { kind: action.kind, targets, verdict: action.verdict }
    }
    case 'reverseSnat':
    case 'reverseDnat':
      return action
  }
}

function rangeOf(first: string, last: string) {
  const base = parseIpv6(first)
  if (base === undefined)
    return { base, firstAddress: parseIp(first) ?? 0, lastAddress: parseIp(last) ?? 0 }
  return { base, firstAddress: 0, lastAddress: Number((parseIpv6(last) ?? base) - base) }
}

function addressOf(text: string): AnyAddress {
  const address = parseIpv6(text)
  return address === undefined ? (parseIp(text) ?? 0) : wordsOf6(address)
}

function prefixOf(from: string, to: string): PrefixTranslation {
  const [inner, outer] = [parseCidr6(from), parseCidr6(to)]
  return {
    from: wordsOf6(inner?.address ?? 0n),
    to: wordsOf6(outer?.address ?? 0n),
    length: inner?.prefixLength ?? 0,
  }
}
