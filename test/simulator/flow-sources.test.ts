import test from 'ava'
import { MemoryDatapath } from '../../datapath/memory.ts'
import { createKey } from '../../packet/flow-key.ts'
import { FlowInstaller } from '../../simulator/flow-installer.ts'
import type { Lively } from '../../simulator/simulation.ts'

for (const count of [0, 1, 2, 3])
  test(`a flow keeps what it rests on, ${count} of it, while it carries packets`, (t) => {
    let nowMs = 1000
    const datapath = new MemoryDatapath({ now: () => nowMs })
    const flows = new FlowInstaller(datapath, () => nowMs, 100)
    const entries = Array.from({ length: count }, (): Lively => ({ lastSeenMs: 0 }))
    // The list is the simulation's, which uses it again.
    const sources = [...entries]
    const basis = { tags: [1], tagCount: 1, sources, endsMs: undefined }
    flows.install({ key: createKey(), mask: createKey(), actions: [], ...basis })
    sources.length = 0
    sources.push({ lastSeenMs: 0 })
    nowMs = 2000
    flows.sweep()
    t.deepEqual(
      entries.map(({ lastSeenMs }) => lastSeenMs),
      entries.map(() => 1000),
    )
    t.is(sources[0]?.lastSeenMs, 0)
  })
