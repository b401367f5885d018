/**
 * What telling two other hosts of its state adds to the first packet of a connection: from the
 * packet's arrival to its leaving, in the forwarder alone, over a datapath in memory.
 */
import type { Cluster } from '../simulator/cluster.ts'
import { addresses, cluster, frame, snatRules } from '../simulator/cluster-world.ts'
import type { Row } from './row.ts'

const connections = 500
const rounds = 8

export function benchStatePush(): Row[] {
  const worlds = [begin(true), begin(false)]
  const best = worlds.map(() => Number.POSITIVE_INFINITY)
  for (let round = 0; round <= rounds; round++) {
    const times: number[][] = worlds.map(() => [])
    // In turn, so that whatever else the machine does befalls both.
    for (let at = 0; at < connections; at++)
      for (const [which, world] of worlds.entries())
        times[which]?.push(open(world, round * connections + at))
    // The first round warms up; of the others the least disturbed one counts.
    if (round > 0)
      for (const [which, all] of times.entries()) best[which] = Math.min(best[which] ?? 0, p99(all))
  }
  const [told = 0, own = 0] = best
  const facts = { peer: null, goal: 1, better: 'lower' } as const
  return [{ name: 'state-push', unit: 'ms added, p99', ours: Math.max(0, told - own), ...facts }]
}

/** With all ports on one host nobody else has to know. */
function begin(isTold: boolean): Cluster {
  const world = cluster(snatRules(1024, 65_535))
  if (!isTold) for (const port of ['up2', 'up3']) world.bind(port, 'h1')
  world.run(100)
  return world
}

/** Milliseconds that the first packet of a connection takes. */
function open(world: Cluster, at: number): number {
  const { datapath, forwarder } = world.host('h1')
  const to = { src: addresses.in1 ?? '', dst: '8.8.8.8', srcPort: 1024 + at, dstPort: 80 }
  datapath.inject('in1', frame({ from: 'in1', ...to, flags: 2 }))
  const start = performance.now()
  forwarder.round(1)
  const ms = performance.now() - start
  // The others hear of it and acknowledge.
  world.run(5)
  return ms
}

function p99(times: readonly number[]): number {
  const sorted = [...times].sort((a, b) => a - b)
  return sorted[Math.floor(sorted.length * 0.99)] ?? 0
}
