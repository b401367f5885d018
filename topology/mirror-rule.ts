/** Rules about mirrors. */
import { TopologyError } from './error.ts'
import type { Condition, Mirror } from './model.ts'
import { checkCondition } from './policy-rule.ts'

/** What a condition cannot ask beside the chains: it would have to look connections up. */
const ofChains = ['flow', 'icmpDataSrc', 'icmpDataDst'] as const
/** What is known only once a device has decided. */
const ofEgress = ['outPorts', 'outPortGroup', 'dstRewritten'] as const

/** @throws TopologyError for the first thing about the mirror that makes no sense. */
export function checkMirror({ id, device, point, conditions = [], toPort }: Mirror): void {
  if (device?.kind === 'port' && device.id === toPort)
    throw invalid(`mirror ${id}: toPort: it is the mirrored port itself; name another port`)
  const isInward = point === 'preIn' || point === 'postIn'
  for (const [at, condition] of conditions.entries()) {
    const field = `condition ${at}`
    checkCondition(`mirror ${id}: ${field}`, condition)
    refuse(id, field, condition, ofChains, 'is not known to mirrors')
    if (isInward) refuse(id, field, condition, ofEgress, 'is not known where a packet enters')
  }
}

function refuse(
  id: string,
  at: string,
  condition: Condition,
  names: readonly (keyof Condition)[],
  why: string,
): void {
  const found = names.find((name) => Object.hasOwn(condition, name))
  if (found !== undefined)
    throw invalid(`mirror ${id}: ${at}: ${found} ${why}; ask for other fields`)
}

function invalid(message: string): TopologyError {
  return new TopologyError('INVALID', message)
}
