/** A topology to text and back, and what is refused. */
import test from 'ava'
import { openMemoryStore } from '../../topology/memory.ts'
import { exportText, importText } from '../../topology/transfer.ts'
import { putNetwork } from './fixture.ts'

test('what was exported is the same after the import, but facts of hosts', async (t) => {
  const from = await openMemoryStore()
  await from.transact(putNetwork)
  const text = exportText(from)
  await from.transact((draft) =>
    draft.put('hostAlive', { id: 'h1', since: '2020-01-01T00:00:00Z' }),
  )
  t.is(exportText(from), text)
  const to = await openMemoryStore()
  t.is(await importText(to, text), text.split('\n').length - 2)
  t.is(exportText(to), text)
})

test('a full target, a cut file and a broken topology are refused as a whole', async (t) => {
  const from = await openMemoryStore()
  await from.transact(putNetwork)
  const text = exportText(from)
  await t.throwsAsync(importText(from, text), { code: 'NOT_EMPTY' })
  const to = await openMemoryStore()
  await t.throwsAsync(importText(to, text.slice(0, -20)), { code: 'FORMAT' })
  await t.throwsAsync(importText(to, 'x'), { code: 'FORMAT' })
  const without = text.replace(/^\{"kind":"bridge".*\n/m, '')
  await t.throwsAsync(importText(to, without), { code: 'MISSING_REFERENCE' })
  t.is(to.revision, 0)
})
