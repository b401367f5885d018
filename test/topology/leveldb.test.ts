import { cp, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { ClassicLevel } from 'classic-level'
import { StoreError } from '../../topology/error.ts'
import { openLevelDbStore } from '../../topology/leveldb.ts'
import { writeNumber } from './crash-writer.ts'
import { putNetwork } from './fixture.ts'

async function folder(t: ExecutionContext): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'midonet-leveldb-'))
  t.teardown(() => rm(dir, { recursive: true }))
  return join(dir, 'store')
}

/** A store with a network in it, closed, and changed behind its back. */
async function damaged(
  t: ExecutionContext,
  damage: (level: ClassicLevel<string, string>) => Promise<void>,
): Promise<string> {
  const dir = await folder(t)
  const store = await openLevelDbStore(dir)
  await store.transact(putNetwork)
  await store.close()
  const level = new ClassicLevel<string, string>(dir)
  await damage(level)
  await level.close()
  return dir
}

test('what was committed stands after closing and opening', async (t) => {
  const dir = await folder(t)
  const first = await openLevelDbStore(dir)
  await first.transact(putNetwork)
  await first.transact((draft) => {
    draft.delete('binding', 'web')
    draft.put('qosPolicy', { id: 'gold', dscp: 46 })
  })
  const ports = first.list('port')
  await first.close()

  const second = await openLevelDbStore(dir)
  t.teardown(() => second.close())
  t.is(second.revision, 2)
  t.deepEqual(second.list('port'), ports)
  t.is(second.get('binding', 'web'), undefined)
  t.deepEqual(second.get('qosPolicy', 'gold'), { id: 'gold', dscp: 46 })
  await t.throwsAsync(
    second.transact((draft) => draft.delete('bridge', 'br')),
    { code: 'IN_USE' },
  )
})

test('the folder is for its owner alone', async (t) => {
  const dir = await folder(t)
  const store = await openLevelDbStore(dir)
  t.teardown(() => store.close())
  t.is((await stat(dir)).mode & 0o777, 0o700)
})

test('a store that is open already says so, and a folder that cannot be made too', async (t) => {
  const dir = await folder(t)
  const store = await openLevelDbStore(dir)
  t.teardown(() => store.close())
  await t.throwsAsync(openLevelDbStore(dir), { code: 'LOCKED', message: /another process/ })
  await t.throwsAsync(openLevelDbStore('/dev/null/store'), { code: 'OPEN_FAILED' })
})

test('a store of a newer format is left alone', async (t) => {
  const dir = await damaged(t, (level) => level.put('/midonet/meta/format', '2'))
  await t.throwsAsync(openLevelDbStore(dir), { code: 'FORMAT', message: /format 2/ })
  await t.throwsAsync(openLevelDbStore(dir), { code: 'FORMAT' })
})

const damages: readonly (readonly [
  title: string,
  key: string,
  value: string | undefined,
  message: RegExp,
])[] = [
  ['is no JSON', '/midonet/v1/bridge/br', '{"id":', /bridge\/br: .*restore the folder/],
  ['does not fit its schema', '/midonet/v1/bridge/br', '{"id":"br"}', /adminUp/],
  ['has the wrong id', '/midonet/v1/bridge/x', '{"id":"br","adminUp":true}', /has the id br/],
  ['is of an unknown kind', '/midonet/v1/tenant/x', '{"id":"x"}', /no kind this version knows/],
  ['is lost', '/midonet/v1/binding/web', undefined, /not those of revision 1/],
  ['is another one', '/midonet/v1/bridge/br', '{"id":"br","adminUp":false}', /not those/],
  ['is no revision', '/midonet/meta/revision', 'one', /meta\/revision/],
  ['is no format', '/midonet/meta/format', 'one', /meta\/format/],
  ['is unknown metadata', '/midonet/meta/lease', '7', /meta\/lease does not belong/],
]

for (const [title, key, value, message] of damages) {
  test(`a damaged store is refused, naming what: ${key} ${title}`, async (t) => {
    const dir = await damaged(t, (level) =>
      value === undefined ? level.del(key) : level.put(key, value),
    )
    await t.throwsAsync(openLevelDbStore(dir), { code: 'CORRUPT', message })
  })
}

test('a store whose files are damaged whole does not begin anew', async (t) => {
  const dir = await folder(t)
  const store = await openLevelDbStore(dir)
  await store.transact(putNetwork)
  await store.close()
  for (const name of (await readdir(dir)).filter((one) => one.endsWith('.log')))
    await writeFile(join(dir, name), 'damaged on purpose')
  const message = /nothing of what it held can be read/
  // LevelDB has thrown the log away by the second time.
  await t.throwsAsync(openLevelDbStore(dir), { code: 'CORRUPT', message })
  await t.throwsAsync(openLevelDbStore(dir), { code: 'CORRUPT', message })
})

/** LevelDB itself goes on without the records it cannot read. */
test('a bit turned over in the log is found, or leaves an earlier whole state', async (t) => {
  const dir = await folder(t)
  const store = await openLevelDbStore(dir)
  for (let number = 1; number <= 100; number += 1) {
    await store.transact((draft) => writeNumber(draft, number))
  }
  await store.close()
  const log = (await readdir(dir)).find((name) => name.endsWith('.log')) ?? ''
  const bytes = await readFile(join(dir, log))

  const found = { refused: 0, earlier: 0 }
  for (let at = 5; at < bytes.length; at += bytes.length >> 5) {
    const copy = `${dir}-${at}`
    await cp(dir, copy, { recursive: true })
    await writeFile(
      join(copy, log),
      bytes.map((byte, index) => (index === at ? byte ^ 0x10 : byte)),
    )
    try {
      const opened = await openLevelDbStore(copy)
      const names = new Set(opened.list('host').map(({ name }) => name))
      t.deepEqual([...names], opened.revision === 0 ? [] : [String(opened.revision)])
      found.earlier += 1
      await opened.close()
    } catch (error) {
      t.true(error instanceof StoreError && error.code === 'CORRUPT', String(error))
      found.refused += 1
    }
  }
  t.log(found)
  t.true(found.refused > found.earlier)
})
