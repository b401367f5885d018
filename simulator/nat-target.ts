/** Whether a translation that stands is one that its rule would give today. */
import { addressOf6 } from '../packet/address6.ts'
import type { NatTarget } from './compile-action.ts'
import type { StateEntry } from './state-entry.ts'

/** Whether the address and port that a connection was led to are still among a rule's targets. */
export function isTargeted(entry: StateEntry, targets: readonly NatTarget[]): boolean {
  const { ports } = entry.backward
  const src = entry.backward.src >>> 0
  const words = entry.book?.wordsOf(src)
  const address6 = words && addressOf6(words)
  return targets.some(({ base, firstAddress, lastAddress, firstPort, lastPort }) => {
    const port = ports & 0xffff
    if (firstPort !== 0 && (port < firstPort || port > lastPort)) return false
    if (base === undefined)
      return entry.book === undefined && src >= firstAddress && src <= lastAddress
    if (address6 === undefined) return false
    return address6 >= base && address6 <= base + BigInt(lastAddress)
  })
}
