/**
 * A process to be killed: writes numbered transactions into the store in argv[2], from number
 * argv[3] on, each on several objects that must agree, and prints a number when it is acknowledged.
 */
import { writeSync } from 'node:fs'
import { openLevelDbStore } from '../../topology/leveldb.ts'
import type { Draft } from '../../topology/store.ts'

/** Objects that one transaction touches, all of them with its number. */
export const partCount = 5
/** Transactions that are on their way together: some share a write, some do not. */
const togetherCount = 3

/** The transaction with this number. */
export function writeNumber(draft: Draft, number: number): void {
  for (let part = 0; part < partCount; part += 1) {
    draft.put('host', { id: `part${part}`, name: String(number) })
  }
  draft.put('bridge', { id: `n${number}`, adminUp: true })
  // What a transaction deletes must agree as well.
  if (number > 10) draft.delete('bridge', `n${number - 10}`)
}

async function main(dir: string, first: number): Promise<void> {
  const store = await openLevelDbStore(dir)
  for (let number = first; ; number += togetherCount) {
    const numbers = Array.from({ length: togetherCount }, (_, index) => number + index)
    await Promise.all(
      numbers.map(async (one) => {
        await store.transact((draft) => writeNumber(draft, one))
        writeSync(1, `${one}\n`)
      }),
    )
  }
}

const [, , dir, first] = process.argv
if (dir !== undefined && first !== undefined) await main(dir, Number(first))
