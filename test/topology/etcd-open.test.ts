/** Opening a store when what listens there is no etcd that answers: bounded, and said why. */
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { openEtcdStore } from '../../topology/etcd.ts'
import { openLevelReplica } from '../../topology/leveldb.ts'

/** The URL of a server that takes connections, and says nothing or ends them. */
async function silent(t: ExecutionContext, isEnding: boolean): Promise<string> {
  const sockets = new Set<Socket>()
  const server = createServer((socket) => {
    sockets.add(socket.on('error', () => {}))
    if (isEnding) socket.destroy()
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.teardown(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  const address = server.address()
  return `etcd://127.0.0.1:${typeof address === 'object' ? address?.port : 0}`
}

for (const isEnding of [false, true])
  test(`opening ends with an error where connections are ${isEnding ? 'ended' : 'taken'}`, async (t) => {
    t.timeout(30_000)
    const url = await silent(t, isEnding)
    const began = performance.now()
    await t.throwsAsync(openEtcdStore(url), { code: 'UNREACHABLE', message: /127\.0\.0\.1/ })
    t.true(performance.now() - began < 15_000)
  })

test('with a replica it opens nevertheless, soon, and closes', async (t) => {
  t.timeout(30_000)
  const dir = mkdtempSync(join(tmpdir(), 'midonet-replica-'))
  t.teardown(() => rmSync(dir, { recursive: true, force: true }))
  const replica = await openLevelReplica(dir)
  const bridge = { id: 'br', adminUp: true }
  const changes = [{ kind: 'bridge', id: 'br', value: bridge, before: undefined }] as const
  await replica.write(1, changes, '{"cluster":"a1","revision":7}')
  await replica.close()
  const url = await silent(t, false)
  const began = performance.now()
  const store = await openEtcdStore(url, { replicaDir: dir })
  t.truthy(store.get('bridge', 'br'))
  t.truthy(store.problem)
  // Nobody is refused for what another one wanted that is not done either.
  const put = (id: string) =>
    store.transact((draft) => draft.put('bridge', { id, name: 'one', adminUp: true }))
  const done = await Promise.allSettled([put('a'), put('b')])
  for (const one of done)
    t.is(one.status === 'rejected' ? Object(one.reason).code : one.status, 'UNREACHABLE')
  t.is((await store.transact((draft) => draft.get('bridge', 'br')?.id)).value, 'br')
  // What the replica does not know may have come after it was written.
  const absent = store.transact((draft) => draft.delete('bridge', 'unknown'))
  await t.throwsAsync(absent, { code: 'UNREACHABLE' })
  await store.close()
  t.true(performance.now() - began < 10_000)
})
