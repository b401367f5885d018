/** A mirror changes nothing for the packets that it copies. A failure prints its seed. */
import test from 'ava'
import fc from 'fast-check'
import type { Action } from '../../packet/action.ts'
import { applyActions, type Output } from '../../packet/apply.ts'
import type { FlowKey } from '../../packet/flow-key.ts'
import { formatKey } from '../../packet/text.ts'
import { simulate } from '../../simulator/simulate.ts'
import { Simulation } from '../../simulator/simulation.ts'
import { packetKey } from './arbitrary.ts'
import { frameOf } from './frame.ts'
import { aim, arrival, furnish, interfaces, topologyChange } from './happening.ts'
import { device } from './mirror-happening.ts'
import { furnishPolicy, policyChange } from './policy-happening.ts'
import { redirectChange } from './redirect-happening.ts'
import { furnishServices, serviceChange } from './service-happening.ts'
import { host, put, World } from './world.ts'

/** Copies go over a link of a VLAN, so that their tags change. */
const access = { kind: 'bridge', adminUp: true, vlan: 9 } as const
const points = ['preIn', 'postIn', 'preOut', 'postOut'] as const
const change = fc.oneof(topologyChange, policyChange, serviceChange, redirectChange, arrival)
const packet = fc.record({
  key: packetKey,
  on: fc.constantFrom(...interfaces),
  pick: fc.option(fc.nat({ max: 3 }), { nil: undefined }),
})

/** What a packet leads to but for what leaves by `sink`. */
function fate(world: World, key: FlowKey, sink: number): string {
  const sim = new Simulation()
  simulate(world.forwarder.topology, key, sim)
  const actions: readonly Action[] = sim.actions.slice(0, sim.actionCount)
  const outputs = applyActions(frameOf(key), actions).filter(({ port }) => port !== sink)
  const { missing, consumed, effects, lengthMax, delivered } = sim
  const kinds = effects.map(({ kind }) => kind)
  const others = { missing: missing?.tag, consumed, kinds, lengthMax, delivered }
  return JSON.stringify({ outputs: outputs.map(showOutput), ...others })
}

function showOutput({ port, frame }: Output): string {
  return `${port} ${Buffer.from(frame).toString('hex')}`
}

test('a packet fares the same with mirrors and without', (t) => {
  let copies = 0
  const found = fc.check(
    fc.property(
      fc.array(change, { maxLength: 60, size: 'max' }),
      fc.array(fc.tuple(device, fc.constantFrom(...points)), { minLength: 4, maxLength: 12 }),
      fc.array(packet, { minLength: 10, maxLength: 10 }),
      (changes, mirrors, packets) => {
        const world = new World()
        furnish(world)
        furnishPolicy(world)
        furnishServices(world)
        for (const one of changes) one.run(world)
        world.put(
          ...['near', 'far'].map((id) => put('bridge', { id, adminUp: true })),
          put('port', { ...access, id: 'out', bridge: 'near', peer: 'in' }),
          put('port', { ...access, id: 'in', bridge: 'far', peer: 'out' }),
          put('port', { id: 'sink', kind: 'bridge', bridge: 'far', adminUp: true }),
          put('binding', { id: 'sink', host, interface: 'sink' }),
        )
        const sink = world.datapath.ports().find(({ name }) => name === 'sink')?.number ?? -1
        const before = packets.map(({ key, on, pick }) => {
          key[0] = world.datapath.ports().find(({ name }) => name === on)?.number ?? 99
          if (pick !== undefined && key[8] === 0x0800) aim(world, key, on, pick)
          return fate(world, key, sink)
        })
        for (const [at, [where, point]] of mirrors.entries())
          world.put(put('mirror', { id: `m${at}`, device: where, point, toPort: 'out' }))
        const sim = new Simulation()
        for (const [at, { key }] of packets.entries()) {
          const after = fate(world, key, sink)
          simulate(world.forwarder.topology, key, sim)
          copies += sim.copies
          if (after !== before[at])
            throw new ChangedError(`${formatKey(key)}\n  before ${before[at]}\n  after  ${after}`)
        }
      },
    ),
    {
      numRuns: process.env.MIDONET_LONG === '1' ? 2_000 : 100,
      // A smaller case may take many minutes to find: whoever is there to wait gets it.
      endOnFailure: process.env.CI !== undefined,
      ...(process.env.SEED === undefined ? {} : { seed: Number(process.env.SEED) }),
    },
  )
  const fault = found.errorInstance
  const reason = fault instanceof Error ? fault.message : String(fault)
  t.false(found.failed, `SEED=${found.seed} after ${found.numRuns} runs: ${reason}`)
  t.true(copies > 100, `${copies} copies`)
})

/** Mirrors changed what becomes of a packet. */
class ChangedError extends Error {
  override readonly name = 'ChangedError'
  readonly code = 'CHANGED'
}
