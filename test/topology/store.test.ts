import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'ava'
import { openStore } from '../../topology/open.ts'
import { storeCases } from './store-suite.ts'

for (const { title, run } of storeCases) {
  test(`memory: ${title}`, async (t) => {
    const store = await openStore('memory:')
    await run(t, store)
    await store.close()
  })

  test(`leveldb: ${title}`, async (t) => {
    const dir = await mkdtemp(join(tmpdir(), 'midonet-store-'))
    t.teardown(() => rm(dir, { recursive: true }))
    const store = await openStore(`leveldb:${dir}`)
    t.teardown(() => store.close())
    await run(t, store)
  })
}

test('a store that this version does not have is refused with what to use', async (t) => {
  await t.throwsAsync(openStore('etcd://user:secret@h1'), {
    code: 'UNSUPPORTED',
    message: /^name host and port/,
  })
  await t.throwsAsync(openStore('redis:x'), { code: 'UNSUPPORTED', message: /leveldb:<folder>/ })
  await t.throwsAsync(openStore('leveldb:'), { code: 'UNSUPPORTED', message: /name the folder/ })
})
