/** How fast the simulator is alone, without a kernel: one core, flow keys extracted each time. */
import { getHeapStatistics } from 'node:v8'
import { extractKey } from '../../packet/extract.ts'
import { createKey } from '../../packet/flow-key.ts'
import { simulate } from '../../simulator/simulate.ts'
import { Simulation } from '../../simulator/simulation.ts'
import { VirtualTopology } from '../../simulator/virtual-topology.ts'
import { frame } from '../simulator/frame.ts'
import { type Item, put, Topology } from '../simulator/world.ts'
import type { Row } from './row.ts'
import { ruleItems, snatItems, statefulItems } from './sim-policy.ts'

const stations = 64
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
  return [
    ...rows('sim-bridge', 500_000, topology, bridged),
    ...rows('sim-router', 250_000, topology, routed),
    ...filtered('sim-rules-100', ruleItems(100), routed),
    ...filtered('sim-rules-10000', ruleItems(10_000), routed),
    ...filtered('sim-stateful', statefulItems(), routed),
    ...filtered('sim-snat', snatItems(), routed),
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
    { name, unit: 'sim/s', ours, peer: null, goal, better: 'higher' },
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

/** A packet of the bench was not forwarded: what was measured is not what was meant. */
class BenchError extends Error {
  override readonly name = 'BenchError'
  readonly code = 'NOT_FORWARDED'
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

function twoBridgesAndRouter(policy: readonly Item[] = []): VirtualTopology {
  const chains = policy.length === 0 ? {} : { outboundChain: 'c' }
  const items: Item[] = [...policy, put('router', { id: 'r', adminUp: true, ...chains })]
  for (const net of [1, 2]) {
    const [bridge, inner, outer] = [`b${net}`, `b${net}-r`, `r-b${net}`]
    const onBridge = { kind: 'bridge', bridge, adminUp: true } as const
    items.push(put('bridge', { id: bridge, adminUp: true }))
    items.push(put('port', { ...onBridge, id: inner, peer: outer }))
    items.push(
      put('port', {
        id: outer,
        kind: 'router',
        router: 'r',
        adminUp: true,
        peer: inner,
        mac: `02:00:00:00:0${net}:fe`,
        addresses: [`10.${net}.0.254/24`],
      }),
    )
    for (let n = 0; n < stations; n++) {
      const station = { mac: mac(net, n), addresses: [ip(net, n)] }
      items.push(put('port', { ...onBridge, id: `p${net}-${n}`, stations: [station] }))
    }
  }
  const topology = new VirtualTopology('host')
  topology.apply(new Topology().put(...items))
  for (const net of [1, 2])
    for (let n = 0; n < stations; n++) topology.setVport(`p${net}-${n}`, net * 100 + n)
  return topology
}

function mac(net: number, n: number): string {
  return `02:00:00:00:0${net}:${n.toString(16).padStart(2, '0')}`
}

function ip(net: number, n: number): string {
  return `10.${net}.0.${n + 1}`
}

function packet(srcMac: string, dstMac: string, src: string, dst: string): string {
  const eth = `eth(src=${srcMac},dst=${dstMac}),eth_type(0x0800)`
  return `${eth},ipv4(src=${src},dst=${dst},proto=6,tos=0,ttl=64,frag=no),tcp(src=40000,dst=80)`
}
