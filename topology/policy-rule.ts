/** Rules about the rules of chains: what makes no sense is refused when it is written. */
import { parseIp } from '../packet/address.ts'
import { TopologyError } from './error.ts'
import type { Condition, Rule, RuleAction } from './model.ts'

/** @throws TopologyError for the first thing about the rule that makes no sense. */
export function checkRule({ id, condition = {}, action }: Rule): void {
  checkCondition(`rule ${id}`, condition)
  checkFragments(id, condition, action)
  checkTargets(id, action)
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
  if (!isDynamic || fragments === 'unfragmented') return
  throw invalid(id, `condition.fragments: ${action.kind} takes unfragmented only; leave it out`)
}

function checkTargets(id: string, action: RuleAction): void {
  if (action.kind === 'masquerade') checkRange(id, 'action.ports', action.ports)
  if (action.kind !== 'snat' && action.kind !== 'dnat') return
  for (const [at, { first, last, ports }] of action.targets.entries()) {
    const field = `action.targets.${at}`
    if ((parseIp(first) ?? 0) > (parseIp(last) ?? 0))
      throw invalid(id, `${field}: last is before first; write ${last} first`)
    if (ports !== undefined) checkRange(id, `${field}.ports`, ports)
    else if (action.kind === 'snat')
      throw invalid(
        id,
        `${field}: snat needs ports to tell connections apart, such as 1024 to 65535; ` +
          'for one address instead of another use staticSnat',
      )
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
