/** What the bench simulates: two bridges and a router, with chains or without, and packets for them. */
import type { FlowKey } from '../../packet/flow-key.ts'
import { flowActions } from '../../simulator/flow-actions.ts'
import type { FlowInstaller } from '../../simulator/flow-installer.ts'
import { empty } from '../../simulator/list.ts'
import { simulate } from '../../simulator/simulate.ts'
import { Simulation } from '../../simulator/simulation.ts'
import type { Tag } from '../../simulator/tag.ts'
import { VirtualTopology } from '../../simulator/virtual-topology.ts'
import { frame } from '../simulator/frame.ts'
import { type Item, put, Topology } from '../simulator/world.ts'
import { ruleItems, snatItems, statefulItems, vipAddress, vipItems } from './sim-policy.ts'

export const stations = 64

/** One row of the bench: packets by number, each of another flow for 4032 numbers. */
export interface SimWorld {
  readonly name: string
  readonly topology: VirtualTopology
  /** Valid until the next call. */
  packet(number: number): Uint8Array
  vport(number: number): number
}

const sim = new Simulation()
const changed: Tag[] = []

/** Each made when it is its turn, so that nobody pays for what connections others remember. */
export function* simWorlds(asked: readonly string[]): IterableIterator<SimWorld> {
  for (const [name, make] of Object.entries(worlds))
    if (asked.length === 0 || asked.includes(name)) yield make(name)
}

const worlds: Readonly<Record<string, (name: string) => SimWorld>> = {
  'sim-bridge': (name) => world(name, false),
  'sim-router': (name) => world(name, true),
  'sim-rules-100': (name) => world(name, true, ruleItems(100)),
  'sim-rules-10000': (name) => world(name, true, ruleItems(10_000)),
  'sim-stateful': (name) => world(name, true, statefulItems()),
  'sim-snat': (name) => world(name, true, snatItems()),
  'sim-vip': (name) => world(name, true, vipItems(16), vipAddress),
}

/** Simulates a packet, does what it leads to and installs its flow, as the forwarder does. */
export function installed({ topology }: SimWorld, key: FlowKey, flows: FlowInstaller): void {
  if (simulate(topology, key, sim) !== 'forward') throw new BenchError(sim.reason)
  if (sim.effects.length > 0) {
    empty(changed)
    flows.invalidate(topology.state.commit(sim.effects, 0, changed))
    sim.choices.settle(sim)
  }
  const { mask, tags, tagCount, sources } = sim
  const actions = flowActions(sim)
  flows.install({ key, mask, actions, tags, tagCount, sources, endsMs: undefined })
}

/** A packet of the bench was not forwarded: what was measured is not what was meant. */
export class BenchError extends Error {
  override readonly name = 'BenchError'
  readonly code = 'NOT_FORWARDED'
}

function world(
  name: string,
  isRouted: boolean,
  policy: readonly Item[] = [],
  vip?: string,
): SimWorld {
  const gateway = isRouted ? mac(1, 0xfe) : mac(1, 0)
  const bytes = frame(packet(mac(1, 0), gateway, ip(1, 0), vip ?? ip(2, 0)))
  const view = new DataView(bytes.buffer, bytes.byteOffset)
  return {
    name,
    topology: twoBridgesAndRouter(policy),
    vport: (number) => 100 + (number % stations),
    packet: (number) => {
      const from = number % stations
      const turn = Math.floor(number / stations)
      const to = isRouted ? turn % (stations - 1) : (from + 1 + (turn % (stations - 1))) % stations
      view.setUint8(11, from)
      if (!isRouted) view.setUint8(5, to)
      view.setUint8(29, from + 1)
      if (vip === undefined) view.setUint8(33, to + 1)
      // As systems choose them: a connection of another round has another one.
      view.setUint16(34, 32_768 + (Math.imul(number, 0x9e37_79b1) >>> 17))
      return bytes
    },
  }
}

/** Two bridges of 64 stations each, joined by a router whose way out is filtered by `policy`. */
export function twoBridgesAndRouter(policy: readonly Item[] = []): VirtualTopology {
  const chains = policy.some(({ kind }) => kind === 'chain') ? { outboundChain: 'c' } : {}
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

export function mac(net: number, n: number): string {
  return `02:00:00:00:0${net}:${n.toString(16).padStart(2, '0')}`
}

export function ip(net: number, n: number): string {
  return `10.${net}.0.${n + 1}`
}

export function packet(srcMac: string, dstMac: string, src: string, dst: string): string {
  const eth = `eth(src=${srcMac},dst=${dstMac}),eth_type(0x0800)`
  return `${eth},ipv4(src=${src},dst=${dst},proto=6,tos=0,ttl=64,frag=no),tcp(src=40000,dst=80)`
}
