/** What an invalidation asks of the datapath: as much as there are flows of its tag, and no more. */
import test from 'ava'
import type { Datapath } from '../../datapath/datapath.ts'
import { MemoryDatapath } from '../../datapath/memory.ts'
import { createKey } from '../../packet/flow-key.ts'
import { FlowInstaller } from '../../simulator/flow-installer.ts'

const [everyone, ours, unused] = [1, 2, 3]

test('invalidating one tag among 10 000 flows touches its flows and no others', (t) => {
  const memory = new MemoryDatapath()
  const calls: string[] = []
  const datapath: Datapath = new Proxy(memory, {
    get(target, name) {
      const value: unknown = Reflect.get(target, name)
      if (typeof value !== 'function') return value
      return (...given: readonly unknown[]): unknown => {
        calls.push(`${String(name)} ${String(given[0])}`)
        return Reflect.apply(value, target, given)
      }
    },
  })
  const flows = new FlowInstaller(datapath, () => 0, 65_000)
  const mask = createKey()
  mask[4] = 0xffff_ffff
  for (let index = 0; index < 10_000; index++) {
    const key = createKey()
    key[4] = index
    const tags = index % 1000 === 7 ? [everyone, ours] : [everyone]
    const basis = { tags, tagCount: tags.length, sources: [], endsMs: Number.POSITIVE_INFINITY }
    flows.install({ key, mask, actions: [{ kind: 'output', port: 1 }], ...basis })
  }
  const wanted = [...memory.flows()].filter(({ key }) => (key[4] ?? 0) % 1000 === 7)
  t.is(flows.table.size, 10_000)
  calls.length = 0
  flows.invalidate([ours])
  t.deepEqual(calls.toSorted(), wanted.map(({ id }) => `remove ${id}`).toSorted())
  t.is(calls.length, 10)
  t.is(flows.table.size, 9_990)
  t.is(flows.counters.invalidated, 10)
  t.is([...memory.flows()].length, 9_990)
  calls.length = 0
  flows.invalidate([ours, unused])
  t.deepEqual(calls, [])
})
