/**
 * What is measured in a guest that counts instructions: a nanosecond there is one, so that figures
 * repeat on any machine. The kernel module's flows against ovs-vswitchd, and simulations alone.
 */
import { ensurePackages } from '../system/packages.ts'
import { runInVm } from '../vm/vm.ts'
import type { Row } from './row.ts'
import { BenchError } from './sim-world.ts'

/** What flow-load.ts prints, as far as it is a figure here. */
interface FlowLoad {
  readonly flowsPerSecond: number
  readonly firstPacketUs: number
  readonly rssMb: number
  readonly newFlows: number
  readonly misses: number
  readonly adoptMs: number
}

/** New flows, their first packets, memory and adoption, ours and ovs-vswitchd in one guest. */
export async function benchOvs(): Promise<Row[]> {
  ensurePackages(['openvswitch-switch'])
  const loads: FlowLoad[] = []
  for (const args of ['ours', 'peer', 'ours acl', 'peer acl', 'ours adopt']) {
    const [line] = await jsonLines(`node build/test/guest/flow-load.js ${args}`)
    loads.push(readLoad(line))
  }
  const [ours, peer, oursAcl, peerAcl, adopt] = loads
  if (!ours || !peer || !oursAcl || !peerAcl || !adopt)
    throw new BenchError('a guest did not say what it measured')
  const lower = { peer: null, better: 'lower' } as const
  return [
    versus('ovs-new-flows', 'flows/s', ours.flowsPerSecond, peer.flowsPerSecond, 1.5, 'higher'),
    versus('ovs-first-packet', 'us', ours.firstPacketUs, peer.firstPacketUs, 1, 'lower'),
    ...(await benchSteady()),
    versus(
      'ovs-acl-new-flows',
      'flows/s',
      oursAcl.flowsPerSecond,
      peerAcl.flowsPerSecond,
      1.5,
      'higher',
    ),
    { name: 'ovs-memory', unit: 'MB', ours: adopt.rssMb, goal: 100, ...lower },
    { name: 'ovs-adopt', unit: 'ms', ours: adopt.adoptMs, goal: 2000, ...lower },
  ]
}

/** A TCP stream and round trips whose flows are all there. */
async function benchSteady(): Promise<Row[]> {
  const lines: unknown[] = []
  for (const side of ['ours', 'peer'])
    lines.push((await jsonLines(`node build/test/guest/steady-load.js ${side}`))[0])
  const [ours, peer] = lines
  const row = (name: string, unit: string, figure: string): Row =>
    versus(name, unit, numberOf(ours, figure), numberOf(peer, figure), 0.98, 'higher')
  return [row('ovs-tcp-stream', 'Mbit/s', 'mbitPerSecond'), row('ovs-rr', '1/s', 'tripsPerSecond')]
}

function versus(
  name: string,
  unit: string,
  ours: number,
  peer: number,
  goal: number,
  better: Row['better'],
): Row {
  return { name, unit, ours, peer, goal, better }
}

/** @throws BenchError when not every packet was a new flow */
function readLoad(line: unknown): FlowLoad {
  const load = {
    flowsPerSecond: numberOf(line, 'flowsPerSecond'),
    firstPacketUs: numberOf(line, 'firstPacketUs'),
    rssMb: numberOf(line, 'rssMb'),
    newFlows: numberOf(line, 'newFlows'),
    misses: numberOf(line, 'misses'),
    adoptMs: numberOf(line, 'adoptMs'),
  }
  if (load.misses < load.newFlows)
    throw new BenchError(`only ${load.misses} of ${load.newFlows} flows were new`)
  return load
}

/** @throws BenchError */
function numberOf(line: unknown, name: string): number {
  const value: unknown = typeof line === 'object' && line !== null ? Reflect.get(line, name) : line
  if (typeof value !== 'number') throw new BenchError(`the guest did not say ${name}`)
  return value
}

const simGoals = {
  'sim-bridge': 4_000,
  'sim-router': 10_000,
  'sim-rules-100': 20_000,
  'sim-stateful': 20_000,
  'sim-snat': 25_000,
  'sim-vip': 25_000,
} as const

/** Instructions of a simulation whose flow goes into the datapath in memory. */
export async function benchSimCost(): Promise<Row[]> {
  const [line] = await jsonLines('node build/test/guest/sim-cost.js')
  const costOf = (name: string): number => numberOf(line, name)
  return [
    ...Object.entries(simGoals).map(([name, goal]) => ({
      name,
      unit: 'instructions',
      ours: costOf(name),
      peer: null,
      goal,
      better: 'lower' as const,
    })),
    versus(
      'sim-rules-10000',
      'instructions',
      costOf('sim-rules-10000'),
      costOf('sim-rules-100'),
      2,
      'lower',
    ),
  ]
}

/** Runs a command in a counting guest; its lines of JSON. @throws BenchError */
async function jsonLines(command: string): Promise<readonly unknown[]> {
  const { status, output } = await runInVm(command, { icount: true, timeoutS: 1800 })
  if (status !== 0) throw new BenchError(`${command} ended with ${status} in the guest: ${output}`)
  return output
    .split('\n')
    .filter((line) => line.startsWith('{'))
    .map((line) => JSON.parse(line))
}
