/** Transactions that a rule refuses, as rows of tables. */
import test from 'ava'
import { TopologyError } from '../../topology/error.ts'
import { openMemoryStore } from '../../topology/memory.ts'
import type { Draft } from '../../topology/store.ts'
import { putNetwork } from './fixture.ts'

export type Refusal = readonly [
  title: string,
  work: (draft: Draft) => void,
  code: TopologyError['code'],
  message: RegExp,
]

/** One test a row: the work is refused on the network of the fixture, and nothing of it stays. */
export function testRefusals(rows: readonly Refusal[]): void {
  for (const [title, work, code, message] of rows) {
    test(title, async (t) => {
      const store = await openMemoryStore()
      await store.transact(putNetwork)
      const error = await t.throwsAsync(store.transact(work), { instanceOf: TopologyError })
      t.is(error?.code, code)
      t.regex(error?.message ?? '', message)
      t.is(store.revision, 1)
    })
  }
}
