/**
 * Takes over the flows of an agent before this one. A flow stays when a simulation of its key by
 * today's topology reads no bit that the flow leaves open and does the same; others are removed.
 *
 * What the agent before had learned is read off its flows: a flow from a MAC address tells its
 * port, a rewrite toward a next hop tells the next hop's MAC address, a rewrite of a source or
 * destination tells what NAT had given to the connection.
 */
import type { Datapath, InstalledFlow } from '../datapath/datapath.ts'
import type { Action } from '../packet/action.ts'
import { type FlowKey, keyWords } from '../packet/flow-key.ts'
import { flowActions } from './flow-actions.ts'
import type { FlowInstaller } from './flow-installer.ts'
import { type Learning, limits as learningLimits } from './learning.ts'
import type { Preferred } from './passage.ts'
import { simulate } from './simulate.ts'
import { type Missing, type OutcomeKind, type Simulation, word } from './simulation.ts'
import type { VirtualTopology } from './virtual-topology.ts'

/** What adoption works on. */
export interface AdoptionWorld {
  readonly datapath: Datapath
  readonly topology: VirtualTopology
  readonly flows: FlowInstaller
  readonly learning: Learning
  readonly sim: Simulation
  readonly nowMs: number
  /** Takes in what the agent before wrote down of connections. */
  readonly recall: () => void
}

/** Compares every flow in the datapath with a simulation of it; keeps it or removes it. */
export function adoptFlows(world: AdoptionWorld): { kept: number; removed: number } {
  // The flow used last comes last: of two places of one MAC address it has the right one.
  const installed = [...world.datapath.flows()].sort(byIdleness)
  for (const flow of installed) inheritMacs(world, flow)
  const undecided = installed.filter((flow) => !inheritState(world, flow))
  // Flows are newer than what was written: they come first. Those of ways back may need it.
  world.recall()
  let kept = installed.length - undecided.length
  for (const flow of undecided) {
    if (judge(world, flow)) kept++
    else world.datapath.remove(flow.id)
  }
  return { kept, removed: installed.length - kept }
}

/** Longest idle first. Never used is Infinity, which cannot be subtracted from itself. */
function byIdleness({ stats: a }: InstalledFlow, { stats: b }: InstalledFlow): number {
  return a.idleMs === b.idleMs ? 0 : a.idleMs > b.idleMs ? -1 : 1
}

function inheritMacs(world: AdoptionWorld, flow: InstalledFlow): void {
  if (flow.stats.idleMs >= learningLimits.macIdleMs) return
  const { topology, sim, learning, nowMs } = world
  simulate(topology, flow.key, sim)
  if (sim.looped || !covers(flow.mask, sim.mask)) return
  learning.commit(sim, Math.floor(nowMs - flow.stats.idleMs))
}

/**
 * Connections and translations whose way there a flow shows; ways back are found by them. True when
 * the flow is kept already: it passes no filter, so nothing that others show makes it another.
 */
function inheritState(world: AdoptionWorld, flow: InstalledFlow): boolean {
  const { topology, sim, nowMs } = world
  sim.passage.preferred = preferredBy(flow.actions ?? [])
  const isRight = agrees(world, flow)
  if (isRight && sim.delivered) topology.state.commit(sim.effects, nowMs)
  sim.passage.preferred = undefined
  return isRight && sim.passage.zone === undefined && take(world, flow)
}

function preferredBy(actions: readonly Action[]): Preferred {
  const preferred: { -readonly [K in keyof Preferred]: Preferred[K] } = {}
  for (const action of actions) {
    if (action.kind === 'setIpSrc') preferred.src = action.address
    if (action.kind === 'setIpDst') preferred.dst = action.address
    if (action.kind === 'setIpv6Src') preferred.src6 = action.address
    if (action.kind === 'setIpv6Dst') preferred.dst6 = action.address
    if (action.kind === 'setTpSrc') preferred.srcPort = action.port
    if (action.kind === 'setTpDst') preferred.dstPort = action.port
  }
  return preferred
}

/** Whether a simulation of today does what a flow does, and reads no more than it matches. */
function agrees(world: AdoptionWorld, { key, mask, actions }: InstalledFlow): boolean {
  const { sim } = world
  if (actions === undefined) return false
  const outcome = simulateKnowing(world, key, actions)
  if ((outcome !== 'forward' && outcome !== 'drop') || sim.passage.unkeyed) return false
  const wanted = outcome === 'drop' ? [] : flowActions(sim)
  return covers(mask, sim.mask) && equalLists(actions, wanted)
}

/** Whether the flow does what it should; if so it is ours from now on. */
function judge(world: AdoptionWorld, flow: InstalledFlow): boolean {
  return agrees(world, flow) && take(world, flow)
}

/** Answers for a flow that was just simulated, while there is room. */
function take({ sim, flows, nowMs }: AdoptionWorld, flow: InstalledFlow): boolean {
  if (flows.table.size >= flows.limit) return false
  const idleMs = Number.isFinite(flow.stats.idleMs) ? flow.stats.idleMs : 0
  const { tags, tagCount } = sim
  const { key, actions = [] } = flow
  const basis = { tags, tagCount, sources: sim.sources, endsMs: undefined }
  flows.take(flow.id, { key, actions, ...basis }, Math.floor(nowMs - idleMs))
  return true
}

/** Simulates; when a next hop is missing, once more with the MAC address that the flow wrote. */
function simulateKnowing(
  { topology, sim, learning, nowMs }: AdoptionWorld,
  key: FlowKey,
  actions: readonly Action[],
): OutcomeKind {
  const outcome = simulate(topology, key, sim)
  const { missing } = sim
  if (outcome !== 'park' || missing === undefined) return outcome
  const mac = macToward(missing, actions)
  if (mac === undefined) return outcome
  learning.inherit(missing.port, missing.address, mac, nowMs)
  return simulate(topology, key, sim)
}

function macToward({ port }: Missing, actions: readonly Action[]): number | undefined {
  for (const action of actions)
    if (action.kind === 'setEth' && action.src === port.mac) return action.dst
  return undefined
}

/** Whether a mask has every bit of another. */
function covers(mask: FlowKey, needed: FlowKey): boolean {
  for (let at = 0; at < keyWords; at++) if ((word(needed, at) & ~word(mask, at)) !== 0) return false
  return true
}

function equalLists(a: readonly Action[], b: readonly Action[]): boolean {
  return a.length === b.length && a.every((action, at) => equalActions(action, b[at]))
}

function equalActions(a: Action, b: Action | undefined): boolean {
  if (b === undefined || a.kind !== b.kind) return false
  if (a.kind === 'output' && b.kind === 'output') return a.port === b.port
  if (a.kind === 'checkPacketLength' && b.kind === 'checkPacketLength')
    return (
      a.length === b.length &&
      equalLists(a.greater, b.greater) &&
      equalLists(a.lessEqual, b.lessEqual)
    )
  return Object.entries(a).every(([name, value]) => Reflect.get(b, name) === value)
}
