/** Rules about the rules of chains: what makes no sense is refused when it is written. */
import { parseIp, parseIpv6 } from '../packet/address.ts'
import { formatCidr6, networkOf6, parseCidr6 } from '../packet/address6.ts'
import { TopologyError } from './error.ts'
import type { Condition, Rule, RuleAction } from './model.ts'

/** @throws TopologyError for the first thing about the rule that makes no sense. */
export function checkRule({ id, condition = {}, action }: Rule): void {
  checkCondition(`rule ${id}`, condition)
  checkFragments(id, condition, action)
  checkTargets(id, action)
  checkRedirection(id, action)
}

/** @throws TopologyError for the first thing about `owner`'s condition that makes no sense. */
export function checkCondition(owner: string, condition: Condition = {}): void {
  for (const field of ['srcPorts', 'dstPorts'] as const) {
    const range = condition[field]?.is
    if (range === undefined || range.first <= range.last) continue
    throw refusal(owner, `condition.${field}: last is before first; write ${range.last} first`)
  }
  // Later fragments have no ports, so who asks for ports must not ask for them.
  const { fragments } = condition
  const asksPorts = condition.srcPorts !== undefined || condition.dstPorts !== undefined
  if (!asksPorts || (fragments !== 'any' && fragments !== 'nonHeader')) return
  const problem = `${fragments} have no ports; use header or leave it out`
  throw refusal(owner, `condition.fragments: ${problem}`)
}

function checkFragments(id: string, { fragments }: Condition, action: RuleAction): void {
  if (fragments === undefined) return
  const isDynamic = action.kind === 'snat' || action.kind === 'dnat' || action.kind === 'masquerade'
  if (!isDynamic || fragments !== 'header') return
  const problem = `${action.kind} of first fragments would lose the later ones; leave it out`
  throw invalid(id, `condition.fragments: ${problem}`)
}

function checkTargets(id: string, action: RuleAction): void {
  if (action.kind === 'prefixSnat' || action.kind === 'prefixDnat') checkPrefixes(id, action)
  if (action.kind === 'masquerade') checkRange(id, 'action.ports', action.ports)
  if (action.kind !== 'snat' && action.kind !== 'dnat') return
  const families = new Set(action.targets.map(({ first }) => parseIp(first) === undefined))
  if (families.size > 1)
    throw invalid(id, 'action.targets: they are of two families; write a rule for each')
  for (const [at, { first, last, ports }] of action.targets.entries()) {
    const field = `action.targets.${at}`
    const [low, high] = [numberOf(first), numberOf(last)]
    if ((parseIp(first) === undefined) !== (parseIp(last) === undefined))
      throw invalid(id, `${field}: ${first} and ${last} are of two families; give both of one`)
    if (low > high) throw invalid(id, `${field}: last is before first; write ${last} first`)
    if (parseIp(first) === undefined && high - low >= rangeMax6)
      throw invalid(id, `${field}: more than ${rangeMax6} addresses; give a shorter range`)
    if (ports !== undefined) checkRange(id, `${field}.ports`, ports)
    else if (action.kind === 'snat')
      throw invalid(
        id,
        `${field}: snat needs ports to tell connections apart, such as 1024 to 65535; ` +
          'for one address instead of another use staticSnat',
      )
  }
}

function checkRedirection(id: string, action: RuleAction): void {
  if (action.kind !== 'redirect' || action.pushPriority === undefined) return
  if (action.pushVlan !== undefined) return
  throw invalid(id, 'action.pushPriority: there is no tag to have it; give pushVlan as well')
}

/** Addresses of an IPv6 target; more would only be searched longer. */
const rangeMax6 = 65_536n

function numberOf(address: string): bigint {
  return BigInt(parseIp(address) ?? parseIpv6(address) ?? 0)
}

type PrefixAction = Extract<RuleAction, { kind: 'prefixSnat' | 'prefixDnat' }>

/** A longer prefix would leave no word to balance the checksum in. */
function checkPrefixes(id: string, action: PrefixAction): void {
  const [from, to] = [parseCidr6(action.from), parseCidr6(action.to)]
  if (from?.prefixLength !== to?.prefixLength)
    throw invalid(id, `action: ${action.from} and ${action.to} differ in length; give equal ones`)
  if ((from?.prefixLength ?? 0) > 64)
    throw invalid(id, `action.from: ${action.from} is longer than 64 bits; give 64 at most`)
  for (const [field, cidr] of [
    ['from', from],
    ['to', to],
  ] as const)
    if (cidr !== undefined && cidr.address !== networkOf6(cidr)) {
      const network = formatCidr6({ ...cidr, address: networkOf6(cidr) })
      throw invalid(id, `action.${field}: ${action[field]} has host bits; use ${network}`)
    }
}

function checkRange(id: string, field: string, ports: { first: number; last: number }): void {
  if (ports.first > ports.last)
    throw invalid(id, `${field}: last is before first; write ${ports.last} first`)
  if (ports.first === 0) throw invalid(id, `${field}: port 0 cannot be used; begin with 1`)
}

function invalid(rule: string, problem: string): TopologyError {
  return refusal(`rule ${rule}`, problem)
}

function refusal(owner: string, problem: string): TopologyError {
  return new TopologyError('INVALID', `${owner}: ${problem}`)
}
