/**
 * Runs a packet through a chain. The first rule whose condition it meets acts; its end lets pass.
 * A jump runs another chain and goes on behind it, unless that one decides; a jump to a chain that
 * is running already is passed over, so that loops end.
 */
import { meets } from './condition.ts'
import { translate } from './nat.ts'
import type { VirtualChain, VirtualRule } from './policy.ts'
import { redirect } from './redirect.ts'
import type { Simulation } from './simulation.ts'

export const limits = {
  /** Chains that have jumped to each other and run at once. */
  depth: 32,
  /** Rules that one packet is compared with, on its whole walk. */
  rules: 100_000,
} as const

export type ChainVerdict = 'accept' | 'drop' | 'reject' | 'redirect'
type Result = ChainVerdict | 'return' | undefined

/** What a chain decides. */
export function runChain(sim: Simulation, chain: VirtualChain): ChainVerdict {
  const result = runRules(sim, chain, 0)
  return result === undefined || result === 'return' ? 'accept' : result
}

function runRules(sim: Simulation, chain: VirtualChain, depth: number): Result {
  sim.tag(chain.tag)
  if (depth >= limits.depth) {
    sim.drop('chains jump too deep')
    return 'drop'
  }
  chain.isRunning = true
  const result = chain.index === undefined ? runAll(sim, chain, depth) : runSome(sim, chain, depth)
  chain.isRunning = false
  return result
}

function runAll(sim: Simulation, chain: VirtualChain, depth: number): Result {
  for (const rule of chain.rules) {
    const result = runRule(sim, chain, rule, depth)
    if (result !== undefined) return result
  }
  return undefined
}

function runSome(sim: Simulation, chain: VirtualChain, depth: number): Result {
  const { index } = chain
  index?.start(sim, 0)
  let rule = index?.next(sim, undefined)
  while (rule !== undefined) {
    const result = runRule(sim, chain, rule, depth)
    if (result !== undefined) return result
    rule = index?.next(sim, rule)
  }
  return undefined
}

function runRule(sim: Simulation, chain: VirtualChain, rule: VirtualRule, depth: number): Result {
  if (++sim.passage.rules > limits.rules) {
    sim.drop('more rules than a packet may be compared with')
    return 'drop'
  }
  if (!meets(sim, rule)) return undefined
  const { action } = rule
  sim.story?.push(`chain ${chain.name}: rule ${rule.id}: ${action.kind}`)
  switch (action.kind) {
    case 'accept':
    case 'reject':
    case 'return':
      return action.kind
    case 'drop':
      sim.drop('a rule drops it')
      return 'drop'
    case 'continue':
      return undefined
    case 'jump': {
      if (action.chain.isRunning) return undefined
      const result = runRules(sim, action.chain, depth + 1)
      return result === 'return' ? undefined : result
    }
    case 'redirect':
      return redirect(sim, action)
    default: {
      const outcome = translate(sim, rule, action)
      if (outcome === 'skip') return undefined
      if (outcome === 'drop') return 'drop'
      return action.verdict === 'continue' ? undefined : action.verdict
    }
  }
}
