/** What the command line costs beyond Node itself, in turn in one run: start, and 10 000 ports. */
import { spawn } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createApi } from '../../driver/api.ts'
import { listenOnSocket } from '../../driver/socket.ts'
import { openMemoryStore } from '../../topology/memory.ts'
import type { Store } from '../../topology/store.ts'
import type { Row } from './row.ts'

const rounds = 15
const ports = 10_000
const cli = new URL('../../cli.js', import.meta.url).pathname

export async function benchCli(): Promise<Row[]> {
  const folder = mkdtempSync(join(tmpdir(), 'midonet-bench-'))
  const store = await openMemoryStore()
  const api = createApi({
    store: Promise.resolve(store),
    status: async () => ({}),
    trace: async () => ({}),
  })
  const server = await listenOnSocket(join(folder, 'agent.sock'), api)
  try {
    const line = (command: string) => [cli, 'cli', '-e', command]
    const start = await inTurn(folder, line('router list'))
    await fill(store)
    const list = await inTurn(folder, line('port list'))
    return [
      { name: 'cli-start', unit: 'ms', ...start, goal: 3, better: 'lower' },
      { name: 'cli-list-10k', unit: 'ms', ...list, goal: 10, better: 'lower' },
    ]
  } finally {
    await server.close()
    await store.close()
    rmSync(folder, { recursive: true, force: true })
  }
}

async function fill(store: Store): Promise<void> {
  await store.transact((draft) => {
    draft.put('bridge', { id: 'b', adminUp: true })
    for (let at = 0; at < ports; at++)
      draft.put('port', { id: `port-${at}`, kind: 'bridge', bridge: 'b', adminUp: true })
  })
}

/** Medians, each round one of either. */
async function inTurn(folder: string, command: readonly string[]) {
  const [ours, peer]: [number[], number[]] = [[], []]
  for (let round = 0; round < rounds; round++) {
    ours.push(await time(folder, command))
    peer.push(await time(folder, ['-e', '']))
  }
  return { ours: median(ours), peer: median(peer) }
}

function time(folder: string, args: readonly string[]): Promise<number> {
  const env = { ...process.env, MIDONET_RUN_DIR: folder }
  const startMs = performance.now()
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, args, { env, stdio: ['ignore', 'ignore', 'inherit'] })
    child.on('error', reject)
    child.on('exit', () => resolve(performance.now() - startMs))
  })
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1] ?? 0
}
