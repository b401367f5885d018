/**
 * Translations over several hosts against what they promise, while messages of flow state are lost,
 * repeated and late, agents start again, ports move and the way out changes. A failure prints its
 * seed: SEED=<seed> runs it again.
 */
import test from 'ava'
import fc from 'fast-check'
import {
  addresses,
  cluster,
  defaultRoute,
  describe,
  frame,
  publicAddress,
  snatRules,
  sourceOf,
} from './cluster-world.ts'

const server = '8.8.8.8'

type Step =
  | { readonly kind: 'ask'; readonly from: 'in1' | 'in4'; readonly port: number }
  | { readonly kind: 'answer'; readonly by: 'up2' | 'up3'; readonly which: number }
  | { readonly kind: 'restart'; readonly host: string }
  | { readonly kind: 'move'; readonly port: string; readonly to: string }
  | { readonly kind: 'reroute'; readonly to: 'up2' | 'up3' }
  | { readonly kind: 'rest'; readonly ms: number }

const anyHost = fc.constantFrom('h1', 'h2', 'h3')
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.record({
      kind: fc.constant('ask' as const),
      from: fc.constantFrom('in1' as const, 'in4' as const),
      port: fc.integer({ min: 4000, max: 4004 }),
    }),
  },
  {
    weight: 8,
    arbitrary: fc.record({
      kind: fc.constant('answer' as const),
      by: fc.constantFrom('up2' as const, 'up3' as const),
      which: fc.nat(20),
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('restart' as const), host: anyHost }) },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant('move' as const),
      port: fc.constantFrom('in1', 'in4', 'up2', 'up3'),
      to: anyHost,
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant('reroute' as const),
      to: fc.constantFrom('up2' as const, 'up3' as const),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant('rest' as const),
      ms: fc.constantFrom(50, 1_000, 35_000),
    }),
  },
)

interface Connection {
  readonly from: 'in1' | 'in4'
  readonly port: number
  readonly nat: number
}

class Fault extends Error {
  override readonly name = 'Fault'
  readonly code = 'FAULT'
}

/** Runs the steps; returns how many answers came and how many were given. */
function run(steps: readonly Step[], seed: number): { came: number; given: number } {
  const world = cluster(snatRules(5000, 5047), { seed, loss: 0.05, repeat: 0.1, delayMs: 20 })
  const known = new Map<string, Connection>()
  const count = { came: 0, given: 0 }
  for (const one of steps) {
    switch (one.kind) {
      case 'ask': {
        const name = `${one.from}:${one.port}`
        const standing = known.get(name)
        const packet = { src: addresses[one.from] ?? '', dst: server, dstPort: 80 }
        const flags = standing === undefined ? 2 : 16
        const bytes = frame({ from: one.from, ...packet, srcPort: one.port, flags })
        const [out] = world.exchange(one.from, bytes, 2_500)
        if (out === undefined) throw new Fault(`${name}: nothing left`)
        const nat = sourceOf(out)
        if (standing !== undefined && standing.nat !== nat)
          throw new Fault(`${name} was ${standing.nat}, is ${nat}`)
        for (const [other, { nat: taken }] of known)
          if (taken === nat && other !== name) throw new Fault(`${name} and ${other} are ${nat}`)
        known.set(name, { from: one.from, port: one.port, nat })
        break
      }
      case 'answer': {
        const all = [...known.values()]
        const meant = all[one.which % Math.max(1, all.length)]
        if (meant === undefined) break
        const packet = { src: server, dst: publicAddress, srcPort: 80, dstPort: meant.nat }
        const came = world.exchange(one.by, frame({ from: one.by, ...packet, flags: 18 }), 2_500)
        count.given++
        if (came.length === 0) break
        count.came++
        const place = world.topology.get('binding', meant.from)?.host
        const wanted = `${place} ${meant.from}: ${server}:80 > ${addresses[meant.from]}:${meant.port}`
        if (came.map(describe).join() !== wanted)
          throw new Fault(`${came.map(describe).join()} instead of ${wanted}`)
        break
      }
      case 'restart':
        world.restart(one.host)
        break
      case 'move':
        world.bind(one.port, one.to)
        break
      case 'reroute':
        world.put(defaultRoute(one.to))
        break
      case 'rest':
        world.run(one.ms, one.ms > 10_000 ? 250 : 5)
    }
  }
  return count
}

test('there and back over hosts is identity, and no two connections share a tuple', (t) => {
  const all = { came: 0, given: 0 }
  const seed = process.env.SEED === undefined ? {} : { seed: Number(process.env.SEED) }
  const property = fc.property(
    fc.array(step, { minLength: 5, maxLength: 40 }),
    fc.nat(1_000_000),
    (steps, network) => {
      const { came, given } = run(steps, network)
      all.came += came
      all.given += given
    },
  )
  const numRuns = process.env.MIDONET_LONG === undefined ? 40 : 1_000
  const found = fc.check(property, { numRuns, ...seed })
  const fault = found.errorInstance
  const reason = fault instanceof Error ? fault.message : String(fault)
  const steps = JSON.stringify(found.counterexample)
  t.false(found.failed, `SEED=${found.seed} after ${found.numRuns} runs: ${reason}; ${steps}`)
  t.log(all)
  t.true(all.came >= all.given * 0.98, `${all.came} of ${all.given} answers came`)
})
