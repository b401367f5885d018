/** How long it takes until 10 000 routes of a real router are known, by FRR and by an agent. */
import { rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { openRouteMonitor } from '../../datapath/route-monitor.ts'
import { bgpProtocol } from '../../gateway/bgp/learned.ts'
import type { Stage } from '../system/stage.ts'

const rounds = 3
const many = 10_000
const limits = { waitMs: 60_000 } as const

/** Something that should have come about did not. */
export class BenchError extends Error {
  override readonly name = 'BenchError'
  readonly code = 'BENCH'
}

export interface LearningWorld {
  /** The namespace of the router outside. */
  readonly router: string
  /** The namespace of our FRR. */
  readonly path: string
  sh(script: string): Promise<string>
  /** Learned routes that forwarding has taken in, at the host that matters; one before the first. */
  count(): Promise<number>
}

/** From the first route outside to the last one where it is used: our worker, or FRR's kernel. */
export async function measureLearning({ router, path, sh, count }: LearningWorld) {
  const monitor = openRouteMonitor(path, bgpProtocol)
  const file = join(tmpdir(), `midonet-routes-${process.pid}`)
  const lines = (verb: string) =>
    Array.from({ length: many }, (_, at) => {
      const dst = `100.${64 + (at >> 16)}.${(at >> 8) & 255}.${at & 255}/32`
      return `route ${verb} blackhole ${dst} proto static`
    })
  const [ours, peer]: [number[], number[]] = [[], []]
  try {
    for (let round = 0; round < rounds; round++) {
      writeFileSync(file, lines('add').join('\n'))
      const start = performance.now()
      await sh(`ip -n ${router} -batch ${file}`)
      const isLearned = async () => {
        monitor.poll()
        return monitor.routes.size > many
      }
      await until(isLearned, 'FRR to learn all', 5)
      peer.push(performance.now() - start)
      await until(async () => (await count()) > many, 'all to be told', 20)
      ours.push(performance.now() - start)
      writeFileSync(file, lines('del').join('\n'))
      await sh(`ip -n ${router} -batch ${file}`)
      await until(async () => (await count()) === 1, 'all to be gone', 50)
    }
  } finally {
    monitor.close()
    rmSync(file, { force: true })
  }
  return { ours: median(ours), peer: median(peer) }
}

/** The agent answers after its worker has taken in what came before. */
export async function countLearned(stage: Stage): Promise<number> {
  const status = await stage.ask('GET', '/status')
  const { store } = { store: undefined, ...Object(status) }
  return Number(Object(Object(store).objects).learnedRoute)
}

export async function until(
  isSo: () => Promise<boolean>,
  what: string,
  everyMs = 50,
): Promise<void> {
  const end = performance.now() + limits.waitMs
  while (!(await isSo())) {
    if (performance.now() > end) throw new BenchError(`${what} did not come about`)
    await sleep(everyMs)
  }
}

export function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1] ?? 0
}
