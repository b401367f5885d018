/**
 * What must hold of every topology and every packet. A failure prints its seed: SEED=<seed> runs it
 * again, STORY=1 tells what led to it. RUNS=<n> looks n times as long.
 */
import test, { type ExecutionContext } from 'ava'
import fc from 'fast-check'
import type { Action } from '../../packet/action.ts'
import { createKey, type FlowKey, keyWords } from '../../packet/flow-key.ts'
import { formatFlow, formatKey } from '../../packet/text.ts'
import { flowActions } from '../../simulator/flow-actions.ts'
import { simulate } from '../../simulator/simulate.ts'
import { Simulation } from '../../simulator/simulation.ts'
import type { VirtualTopology } from '../../simulator/virtual-topology.ts'
import { packetKey } from './arbitrary.ts'
import { balanceChange, furnishBalance } from './balance-happening.ts'
import { bgpChange, furnishBgp, speech } from './bgp-happening.ts'
import { frameOf } from './frame.ts'
import { furnishGateway, gatewayChange } from './gateway-happening.ts'
import { aim, arrival, furnish, interfaces, topologyChange, upheaval } from './happening.ts'
import { mirrorChange } from './mirror-happening.ts'
import { furnishPeers, origin, peersChange } from './peers-happening.ts'
import { furnishPolicy, policyChange } from './policy-happening.ts'
import { redirectChange } from './redirect-happening.ts'
import { furnishServices, serviceChange } from './service-happening.ts'
import { World } from './world.ts'

const times = Number(process.env.RUNS ?? (process.env.MIDONET_LONG === '1' ? 20 : 1))

/** Runs a property; a failure says the seed, the smallest case's fault and what led to it. */
function check<T>(t: ExecutionContext, runs: number, property: fc.IProperty<T>): void {
  const given = process.env.SEED === undefined ? {} : { seed: Number(process.env.SEED) }
  const found = fc.check(property, {
    numRuns: runs * times,
    // A smaller case may take many minutes to find: whoever is there to wait gets it.
    endOnFailure: process.env.CI !== undefined,
    ...given,
  })
  const fault = found.errorInstance
  const reason = fault instanceof Error ? fault.message : String(fault)
  if (found.failed && process.env.STORY === '1') console.log(tell(found.counterexample))
  t.false(found.failed, `SEED=${found.seed} after ${found.numRuns} runs: ${reason}`)
}

/** STORY=1 tells what happened in the smallest failing case. */
function tell(example: unknown): string {
  const happenings = Array.isArray(example) && Array.isArray(example[0]) ? example[0] : []
  return happenings.map((one) => `  ${one?.text}`).join('\n')
}

/** JSON, with BigInts (addresses of IPv6) as texts. */
function write(all: unknown): string {
  return JSON.stringify(all, (_, value) => (typeof value === 'bigint' ? `${value}` : value))
}

/** What a simulation comes to, as text to compare. */
function verdict(topology: VirtualTopology, key: FlowKey): string {
  const sim = new Simulation()
  const outcome = simulate(topology, key, sim)
  const actions: readonly Action[] = outcome === 'drop' ? [] : flowActions(sim)
  const traces = sim.traces.map(({ id }) => id)
  const effects = sim.effects.map((effect) =>
    effect.kind === 'icmpError' ? `${effect.kind} ${effect.type} ${effect.code}` : effect.kind,
  )
  const missing = sim.missing?.tag ?? ''
  return write({ outcome, actions, effects, missing, traces, reason: sim.reason })
}

/** `key` with every bit outside `mask` taken from `noise`. */
function disturb(key: FlowKey, mask: FlowKey, noise: FlowKey): FlowKey {
  const other = createKey()
  for (let at = 0; at < keyWords; at++) {
    const bits = mask[at] ?? 0
    other[at] = ((key[at] ?? 0) & bits) | ((noise[at] ?? 0) & ~bits & validBits(at, key[8]))
  }
  if (((other[7] ?? 0) & 0x1000) === 0) other[7] = 0
  return other
}

/** The bits of a word that a frame can set: MAC addresses' high words have 16, a tag has 16. */
function validBits(at: number, ethType: number | undefined): number {
  if (at === 3 || at === 5 || at === 7 || at === 8) return 0xffff
  return (at === 11 || at === 15) && ethType === 0x0806 ? 0xffff : 0xffff_ffff
}

const anyChange = fc.oneof(
  { weight: 3, arbitrary: topologyChange },
  { weight: 3, arbitrary: policyChange },
  { weight: 3, arbitrary: serviceChange },
  { weight: 3, arbitrary: balanceChange },
  { weight: 1, arbitrary: mirrorChange },
  { weight: 2, arbitrary: redirectChange },
  { weight: 2, arbitrary: bgpChange },
  { weight: 2, arbitrary: gatewayChange },
  { weight: 3, arbitrary: peersChange },
)

const noise = fc.oneof(
  packetKey,
  fc.uint8Array({ minLength: 80, maxLength: 80 }).map((bytes) => new Uint32Array(bytes.buffer)),
)

const aimed = fc
  .tuple(
    fc.oneof(
      {
        weight: 5,
        arbitrary: fc.record({
          key: packetKey,
          on: fc.constantFrom(...interfaces, 'mt-vxlan', 'mt-vxlan'),
          pick: fc.option(fc.nat({ max: 3 }), { nil: undefined }),
        }),
      },
      { weight: 1, arbitrary: speech },
    ),
    origin,
    fc.array(noise, { minLength: 6, maxLength: 6 }),
  )
  .map(([packet, from, noises]) => ({ ...packet, from, noises }))

test('a packet that differs only outside the mask fares the same', (t) => {
  check(
    t,
    200,
    fc.property(
      fc.array(fc.oneof({ weight: 2, arbitrary: anyChange }, { weight: 1, arbitrary: arrival }), {
        maxLength: 80,
        size: 'max',
      }),
      fc.array(aimed, { minLength: 20, maxLength: 20 }),
      fc.boolean(),
      (changes, packets, hasWayOut) => {
        const world = new World()
        furnish(world)
        furnishPolicy(world)
        furnishServices(world)
        furnishBalance(world)
        furnishBgp(world)
        furnishPeers(world)
        if (hasWayOut) furnishGateway(world)
        for (const change of changes) change.run(world)
        for (const { key, on, from, pick, noises } of packets) {
          key[0] = world.datapath.ports().find(({ name }) => name === on)?.number ?? 99
          if (on === 'mt-vxlan') key.set([from.id, from.src], 1)
          if (pick !== undefined && key[8] === 0x0800) aim(world, key, on, pick)
          const sim = new Simulation()
          simulate(world.forwarder.topology, key, sim)
          if (sim.passage.unkeyed) continue
          const expected = verdict(world.forwarder.topology, key)
          for (const one of noises) {
            const other = disturb(key, sim.mask, one)
            const found = verdict(world.forwarder.topology, other)
            if (found !== expected)
              throw new MismatchError(formatKey(key, sim.mask), expected, found)
          }
        }
      },
    ),
  )
})

/** Two simulations that should agree do not. */
class MismatchError extends Error {
  override readonly name = 'MismatchError'
  readonly code = 'MISMATCH'

  constructor(subject: string, expected: string, found: string) {
    super(`${subject}\n  expected ${expected}\n  found    ${found}`)
  }
}

/** Every installed flow does what a simulation of today would have it do. */
function checkFlows(world: World, noises: readonly FlowKey[]): void {
  const { topology } = world.forwarder
  const sim = new Simulation()
  for (const { key, mask, actions } of world.datapath.flows()) {
    for (const other of [key, ...noises.map((one) => disturb(key, mask, one))]) {
      const outcome = simulate(topology, other, sim)
      const now = outcome === 'drop' ? [] : flowActions(sim)
      const isFlow = outcome === 'forward' || outcome === 'drop'
      if (isFlow && write(sorted(now)) === write(sorted(actions ?? []))) continue
      throw new MismatchError(
        `${formatFlow({ key, mask }, actions ?? [])}\n  packet ${formatKey(other)}`,
        write(actions),
        `${outcome} ${write(now)} ${sim.reason}`,
      )
    }
  }
}

/** Actions with their properties in one order. */
function sorted(actions: readonly Action[]): unknown[] {
  return actions.map((action) => Object.entries(action).sort(([a], [b]) => (a < b ? -1 : 1)))
}

test('after any change no installed flow differs from a fresh simulation', (t) => {
  let flows = 0
  check(
    t,
    200,
    fc.property(
      fc.array(
        fc.oneof(
          { weight: 10, arbitrary: arrival },
          { weight: 8, arbitrary: anyChange },
          { weight: 1, arbitrary: upheaval },
        ),
        { maxLength: 80, size: 'max' },
      ),
      fc.array(noise, { minLength: 3, maxLength: 3 }),
      fc.boolean(),
      (happenings, noises, hasWayOut) => {
        const world = new World()
        furnish(world)
        furnishPolicy(world)
        furnishServices(world)
        furnishBalance(world)
        furnishBgp(world)
        furnishPeers(world)
        if (hasWayOut) furnishGateway(world)
        for (const one of happenings) {
          one.run(world)
          checkFlows(world, noises)
        }
        flows += world.forwarder.status().installed
      },
    ),
  )
  t.true(flows > 1000, `${flows} flows were installed`)
})

test('random bytes never throw, and leave nothing wrong behind', (t) => {
  check(
    t,
    300,
    fc.property(
      fc.array(fc.tuple(fc.nat({ max: 7 }), fc.uint8Array({ maxLength: 120 })), { maxLength: 30 }),
      (frames) => {
        const world = new World()
        furnish(world)
        for (const [n, frame] of frames) world.send(`if${n}`, frame)
        checkFlows(world, [])
      },
    ),
  )
})

test('true packets with damaged bytes never throw', (t) => {
  check(
    t,
    300,
    fc.property(
      fc.array(
        fc.tuple(
          packetKey,
          fc.nat({ max: 7 }),
          fc.nat({ max: 80 }),
          fc.nat({ max: 255 }),
          fc.nat({ max: 90 }),
        ),
        { maxLength: 30 },
      ),
      (packets) => {
        const world = new World()
        furnish(world)
        for (const [key, n, at, value, size] of packets) {
          const frame = frameOf(key)
          frame[at] = value
          world.send(`if${n}`, frame.subarray(0, Math.max(14, size)))
        }
        world.wait(5_000)
        checkFlows(world, [])
      },
    ),
  )
})
