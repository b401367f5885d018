/** The file of flow state: written a little at a time or at once, read whole, cut or strange. */
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'ava'
import { limits, readStateFile, StateFile } from '../../agent/state-file.ts'

const folder = mkdtempSync(join(tmpdir(), 'midonet-state-'))
test.after.always(() => rmSync(folder, { recursive: true }))

const pages = Array.from({ length: 40 }, (_, at) => Uint8Array.from({ length: at }, () => at))

function knowing(known: readonly Uint8Array[]) {
  return { hasState: known.length > 0, statePages: () => known.values() }
}

function read(path: string): number[][] | undefined {
  const found = readStateFile(path)
  return found && [...found.pages].map((page) => [...page])
}

const all = pages.map((page) => [...page])

test('what is written at the end is read, for root only, and how long ago it was', (t) => {
  const path = join(folder, 'end')
  t.is(readStateFile(path), undefined)
  new StateFile(path, knowing(pages)).close()
  t.deepEqual(read(path), all)
  t.is(statSync(path).mode & 0o777, 0o600)
  const agoMs = readStateFile(path)?.agoMs ?? -1
  t.true(agoMs >= 0 && agoMs < 60_000)
})

test('it is made beside forwarding, takes its place whole, and is made anew', (t) => {
  const path = join(folder, 'beside')
  const file = new StateFile(path, knowing(pages))
  let nowMs = 1000
  for (; !existsSync(path); nowMs = file.nextMs) {
    t.true(nowMs < 1000 + limits.intervalMs)
    file.tick(nowMs)
  }
  t.deepEqual(read(path), all)
  rmSync(path)
  file.tick(nowMs - 1)
  t.false(existsSync(`${path}.new`))
  for (; !existsSync(path); nowMs = file.nextMs) file.tick(nowMs)
  t.deepEqual(read(path), all)
})

test('an end in the middle of it writes all again', (t) => {
  const path = join(folder, 'middle')
  const file = new StateFile(path, knowing(pages))
  file.tick(limits.intervalMs)
  t.false(existsSync(path))
  file.close()
  t.deepEqual(read(path), all)
  t.false(existsSync(`${path}.new`))
})

test('with nothing to be kept one empty file is written, and no more', (t) => {
  const path = join(folder, 'empty')
  const file = new StateFile(path, knowing([]))
  file.tick(limits.intervalMs)
  t.deepEqual(read(path), [])
  rmSync(path)
  file.tick(file.nextMs)
  t.false(existsSync(path))
})

test('a file that is cut gives what came before; a strange one nothing', (t) => {
  const path = join(folder, 'cut')
  new StateFile(path, knowing(pages.slice(1, 3))).close()
  const whole = readFileSync(path)
  for (let length = 0; length < whole.length; length++) {
    writeFileSync(path, whole.subarray(0, length))
    const found = read(path)
    t.true(found === undefined || found.length <= 2, `${length} bytes`)
  }
  writeFileSync(path, 'something else that is long enough to be a head')
  t.is(readStateFile(path), undefined)
  // As from a clock that has not come so far: before a reboot.
  whole.writeDoubleLE(Number.MAX_VALUE, whole.indexOf('\n') + 1)
  writeFileSync(path, whole)
  t.is(readStateFile(path), undefined)
})

test('a folder that is not there is no harm', (t) => {
  const path = join(folder, 'missing', 'file')
  const file = new StateFile(path, knowing(pages))
  t.notThrows(() => file.tick(limits.intervalMs))
  t.notThrows(() => file.close())
})
