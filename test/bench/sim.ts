/** How fast the simulator is alone, without a kernel: one core, flow keys extracted each time. */
import { getHeapStatistics } from 'node:v8'
import { extractKey } from '../../packet/extract.ts'
import { createKey } from '../../packet/flow-key.ts'
import { simulate } from '../../simulator/simulate.ts'
import { Simulation } from '../../simulator/simulation.ts'
import type { VirtualTopology } from '../../simulator/virtual-topology.ts'
import { frame } from '../simulator/frame.ts'
import type { Item } from '../simulator/world.ts'
import type { Row } from './row.ts'
import { ruleItems, snatItems, statefulItems, vipAddress, vipItems } from './sim-policy.ts'
import { BenchError, ip, mac, packet, stations, twoBridgesAndRouter } from './sim-world.ts'

const rounds = 5
const perRound = 400_000

/** Simulations per second of bridged and of routed packets, and what each allocates. */
export async function benchSim(): Promise<Row[]> {
  const topology = twoBridgesAndRouter()
  const bridged = [...Array(stations).keys()].map((n) => ({
    frame: frame(
      packet(mac(1, n), mac(1, (n + 7) % stations), ip(1, n), ip(1, (n + 7) % stations)),
    ),
    vport: 100 + n,
  }))
  const routed = [...Array(stations).keys()].map((n) => ({
    frame: frame(packet(mac(1, n), '02:00:00:00:01:fe', ip(1, n), ip(2, (n + 7) % stations))),
    vport: 100 + n,
  }))
  const balanced = [...Array(stations).keys()].map((n) => ({
    frame: frame(packet(mac(1, n), '02:00:00:00:01:fe', ip(1, n), vipAddress)),
    vport: 100 + n,
  }))
  return [
    ...rows('sim-bridge', 500_000, topology, bridged),
    ...rows('sim-router', 250_000, topology, routed),
    ...filtered('sim-rules-100', ruleItems(100), routed),
    ...filtered('sim-rules-10000', ruleItems(10_000), routed),
    ...filtered('sim-stateful', statefulItems(), routed),
    ...filtered('sim-snat', snatItems(), routed),
    ...filtered('sim-vip', vipItems(16), balanced),
  ]
}

/** Routed packets through a chain on the router's way out, their connections known. */
function filtered(name: string, policy: readonly Item[], samples: readonly Sample[]): Row[] {
  const topology = twoBridgesAndRouter(policy)
  runner(topology, samples, true)(samples.length)
  return rows(name, 150_000, topology, samples).slice(0, 1)
}

interface Sample {
  readonly frame: Uint8Array
  readonly vport: number
}

function rows(
  name: string,
  goal: number,
  topology: VirtualTopology,
  samples: readonly Sample[],
): Row[] {
  const run = runner(topology, samples)
  run(perRound)
  const rates: number[] = []
  for (let round = 0; round < rounds; round++) {
    const start = performance.now()
    run(perRound)
    rates.push((perRound * 1000) / (performance.now() - start))
  }
  const ours = rates.sort((a, b) => a - b)[rounds >> 1] ?? 0
  return [
    { name: `${name}-rate`, unit: 'sim/s', ours, peer: null, goal, better: 'higher' },
    {
      name: `${name}-bytes`,
      unit: 'B',
      ours: bytesEach(run),
      peer: null,
      goal: 16,
      better: 'lower',
    },
  ]
}

function runner(
  topology: VirtualTopology,
  samples: readonly Sample[],
  commits = false,
): (count: number) => void {
  const sim = new Simulation()
  const key = createKey()
  return (count) => {
    for (let done = 0; done < count; done++) {
      const sample = samples[done % samples.length]
      if (sample === undefined) return
      extractKey(sample.frame, sample.vport, key)
      if (simulate(topology, key, sim) !== 'forward') throw new BenchError(sim.reason)
      if (commits) topology.state.commit(sim.effects, 0)
    }
  }
}

/** Heap growth per simulation, the least of several runs: a collection in between shows as shrinking. */
function bytesEach(run: (count: number) => void): number {
  const count = 20_000
  let least = Number.POSITIVE_INFINITY
  for (let attempt = 0; attempt < 20; attempt++) {
    const before = getHeapStatistics().used_heap_size
    run(count)
    const grown = getHeapStatistics().used_heap_size - before
    if (grown >= 0) least = Math.min(least, grown / count)
  }
  return least
}
