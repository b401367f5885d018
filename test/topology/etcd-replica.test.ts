/** What a host keeps of etcd on its disk: gathered, in order, whole. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import test, { type ExecutionContext } from 'ava'
import { limits, openReplicaFile, ReplicaFile } from '../../topology/etcd-replica.ts'
import type { LevelReplica } from '../../topology/leveldb.ts'
import { Objects } from '../../topology/objects.ts'
import type { Change } from '../../topology/store.ts'

function put(id: string, name: string): Change {
  return { kind: 'bridge', id, value: { id, name, adminUp: true }, before: undefined }
}

function gone(id: string): Change {
  return { kind: 'bridge', id, value: undefined, before: { id, adminUp: true } }
}

function folder(t: ExecutionContext): string {
  const dir = mkdtempSync(join(tmpdir(), 'midonet-replica-'))
  t.teardown(() => rmSync(dir, { recursive: true, force: true }))
  return dir
}

test('what is written until it is closed is there afterwards, the last of each', async (t) => {
  const dir = folder(t)
  const { file } = await openReplicaFile(dir)
  for (let n = 1; n <= 20; n++) {
    file.write(n, [put('a', `n${n}`), n % 2 === 0 ? gone('b') : put('b', 'odd')], {
      cluster: 'c1',
      revision: 100 + n,
    })
    // Some come within one write, some after it, some while one is under way.
    if (n % 7 === 0) await sleep(limits.gatherMs + n)
  }
  await file.close()
  const { file: again, snapshot, origin } = await openReplicaFile(dir)
  t.deepEqual(origin, { cluster: 'c1', revision: 120 })
  t.is(snapshot.revision, 20)
  t.is(snapshot.objects.get('bridge', 'a')?.name, 'n20')
  t.is(snapshot.objects.get('bridge', 'b'), undefined)
  await again.close()
})

/** A disk that notes what it is to write, and does it when it is told to. */
class Disk implements LevelReplica {
  readonly snapshot = { revision: 0, objects: new Objects() }
  readonly origin = undefined
  readonly writes: {
    readonly revision: number
    readonly count: number
    readonly origin: string
  }[] = []
  isClosed = false
  failure: Error | undefined

  async write(revision: number, changes: readonly Change[], origin: string): Promise<void> {
    if (this.failure !== undefined) throw this.failure
    this.writes.push({ revision, count: changes.length, origin })
  }

  async close(): Promise<void> {
    this.isClosed = true
  }
}

test('changes of one moment go to the disk in one write', async (t) => {
  const disk = new Disk()
  const file = new ReplicaFile(disk)
  for (let n = 1; n <= 10; n++) file.write(n, [put('a', `n${n}`)], { cluster: 'c', revision: n })
  t.is(disk.writes.length, 0, 'who makes a change does not wait for the disk')
  await file.close()
  t.deepEqual(disk.writes, [{ revision: 10, count: 10, origin: '{"cluster":"c","revision":10}' }])
  t.true(disk.isClosed)
})

test('a disk that fails ends the copy, and it is said why', async (t) => {
  const disk = new Disk()
  disk.failure = new RangeError('no room')
  const file = new ReplicaFile(disk)
  file.write(1, [put('a', 'x')], { cluster: 'c', revision: 1 })
  for (const end = performance.now() + 10_000; !file.problem && performance.now() < end; )
    await sleep(5)
  t.regex(file.problem ?? '', /not written any more \(no room\)/)
  t.true(disk.isClosed)
  file.write(2, [put('a', 'y')], { cluster: 'c', revision: 2 })
  await file.close()
  t.deepEqual(disk.writes, [])
})
