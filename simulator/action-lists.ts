/**
 * Lists of actions for flows to keep. Flows that leave by one port mostly do the same, or the same
 * as the one before: they share its list, where each would keep one of its own, with what is in it.
 */
import type { Action } from '../packet/action.ts'

export const limits = {
  /** Flows that leave by vports from this number on share no lists. */
  vports: 1024,
} as const

export class ActionLists {
  /** By the vport of the last action. */
  readonly #latest = new Array<readonly Action[] | undefined>(limits.vports).fill(undefined)

  /** The first `count` actions in a list that must not be changed. */
  listOf(actions: readonly Action[], count: number): readonly Action[] {
    const last = actions[count - 1]
    if (last?.kind !== 'output' || last.port >= limits.vports) return actions.slice(0, count)
    const latest = this.#latest[last.port]
    if (latest !== undefined && isFirstOf(latest, actions, count)) return latest
    const list = copyOf(actions, count)
    this.#latest[last.port] = list
    return list
  }
}

function isFirstOf(list: readonly Action[], actions: readonly Action[], count: number): boolean {
  if (list.length !== count) return false
  // From the end on, where the output and the rewrites that are made beforehand stand.
  for (let at = count - 1; at >= 0; at--) {
    const [one, other] = [list[at], actions[at]]
    if (one !== other && !isSame(one, other)) return false
  }
  return true
}

/** Of the actions that every simulation makes anew those that many make alike. */
function isSame(one: Action | undefined, other: Action | undefined): boolean {
  switch (one?.kind) {
    case 'output':
      return other?.kind === one.kind && other.port === one.port
    case 'setIpSrc':
    case 'setIpDst':
      return other?.kind === one.kind && other.address === one.address
    case 'setTpSrc':
    case 'setTpDst':
      return other?.kind === one.kind && other.port === one.port
    default:
      return false
  }
}

/** The short ones made without a call. */
function copyOf(actions: readonly Action[], count: number): readonly Action[] {
  const [first, second, third, fourth] = [actions[0], actions[1], actions[2], actions[3]]
  if (count === 1 && first) return [first]
  if (count === 3 && first && second && third) return [first, second, third]
  if (count === 4 && first && second && third && fourth) return [first, second, third, fourth]
  return actions.slice(0, count)
}
