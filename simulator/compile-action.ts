/** What rules do, compiled. */
import { parseIp } from '../packet/address.ts'
import type { RuleAction } from '../topology/model.ts'
import type { VirtualChain } from './policy.ts'

/** Addresses and ports to translate to; `firstPort` 0 keeps the port. */
export interface NatTarget {
  readonly firstAddress: number
  readonly lastAddress: number
  readonly firstPort: number
  readonly lastPort: number
}

type Verdict = 'accept' | 'continue' | 'return'

export type CompiledAction =
  | { readonly kind: 'accept' | 'drop' | 'reject' | 'return' | 'continue' }
  | { readonly kind: 'jump'; readonly chain: VirtualChain }
  | NatAction

export type NatAction =
  | {
      readonly kind: 'staticSnat' | 'staticDnat'
      readonly address: number
      readonly verdict: Verdict
    }
  | {
      readonly kind: 'snat' | 'dnat' | 'masquerade'
      readonly targets: readonly NatTarget[]
      readonly verdict: Verdict
    }
  | { readonly kind: 'reverseSnat' | 'reverseDnat'; readonly verdict: Verdict }

/** `chain` finds the chain of a jump. */
export function compileAction(
  action: RuleAction,
  chain: (id: string) => VirtualChain,
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
    case 'staticSnat':
    case 'staticDnat':
      return { ...action, address: parseIp(action.address) ?? 0 }
    case 'masquerade': {
      const { first: firstPort, last: lastPort } = action.ports
      const targets = [{ firstAddress: 0, lastAddress: 0, firstPort, lastPort }]
      return { kind: 'masquerade', targets, verdict: action.verdict }
    }
    case 'snat':
    case 'dnat': {
      const targets = action.targets.map(({ first, last, ports }) => ({
        firstAddress: parseIp(first) ?? 0,
        lastAddress: parseIp(last) ?? 0,
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
