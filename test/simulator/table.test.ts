/** The tables against naive ones that do the same by looking at everything. */
import test, { type ExecutionContext } from 'ava'
import fc from 'fast-check'
import { formatCidr, parseCidr, prefixMask } from '../../packet/address.ts'
import { type Basis, FlowTable } from '../../simulator/flow-table.ts'
import { joinMac, MacTable } from '../../simulator/mac-table.ts'
import { type RouteEntry, type RouteObserver, RouteTable } from '../../simulator/route-table.ts'
import { routeTag, type Tag } from '../../simulator/tag.ts'
import { type Tuple, TupleTable } from '../../simulator/tuple-table.ts'

function check<T>(t: ExecutionContext, runs: number, property: fc.IProperty<T>): void {
  const given = process.env.SEED === undefined ? {} : { seed: Number(process.env.SEED) }
  const found = fc.check(property, { numRuns: runs, ...given })
  const fault = found.errorInstance
  const reason = fault instanceof Error ? fault.message : String(fault)
  const example = found.failed ? fc.stringify(found.counterexample) : ''
  t.false(found.failed, `SEED=${found.seed} after ${found.numRuns} runs: ${reason} ${example}`)
}

/** Notes what a lookup reads. */
class Notes implements RouteObserver {
  srcBits = 0
  dstBits = 0
  readonly tags: Tag[] = []
  readonly #hash: number

  constructor(hash = 0) {
    this.#hash = hash
  }

  seeIpSrc(bits: number): void {
    this.srcBits = Math.max(this.srcBits, bits)
  }

  seeIpDst(bits: number): void {
    this.dstBits = Math.max(this.dstBits, bits)
  }

  tag(tag: Tag): void {
    this.tags.push(tag)
  }

  hash(): number {
    return this.#hash
  }
}

/** Prefixes and addresses that share many bits, of a space of few addresses. */
const address = fc.nat({ max: 63 }).map((n) => ((n << 26) | (n >>> 2)) >>> 0)
const prefix = fc
  .tuple(address, fc.constantFrom(0, 1, 2, 3, 4, 5, 6, 29, 30, 31, 32))
  .map(([a, length]) => ({ network: (a & prefixMask(length)) >>> 0, length }))
const route = fc
  .record({ dst: prefix, src: prefix, weight: fc.constantFrom(1, 1, 2), id: fc.nat({ max: 30 }) })
  .map(
    ({ dst, src, weight, id }): RouteEntry => ({
      id: `route${id}`,
      dst: dst.network,
      dstLength: dst.length,
      src: src.network,
      srcLength: src.length,
      weight,
      action: 'blackhole',
      port: undefined,
      gateway: undefined,
    }),
  )

const inside = (value: number, network: number, length: number) =>
  ((value ^ network) & prefixMask(length)) === 0

function naive(routes: readonly RouteEntry[], src: number, dst: number, hash: number) {
  for (let length = 32; length >= 0; length--) {
    const found = routes
      .filter((one) => one.dstLength === length && inside(dst, one.dst, length))
      .filter((one) => inside(src, one.src, one.srcLength))
      .sort((a, b) => a.weight - b.weight || (a.id < b.id ? -1 : 1))
    const best = found.filter(({ weight }) => weight === found[0]?.weight)
    if (best.length > 0) return best[hash % best.length]
  }
  return undefined
}

/** Routes with ids of their own, then some of them taken out. */
const routeTables = fc.record({
  routes: fc.uniqueArray(route, { selector: ({ id }) => id, maxLength: 24, size: 'max' }),
  removed: fc.array(fc.nat({ max: 23 }), { maxLength: 8 }),
  lookups: fc.array(fc.tuple(address, address, fc.nat({ max: 5 })), {
    minLength: 10,
    maxLength: 10,
  }),
  noise: fc.integer({ min: 0, max: 0xffff_ffff }),
})

function build(routes: readonly RouteEntry[], removed: readonly number[]) {
  const table = new RouteTable('r')
  for (const one of routes) table.add(one)
  const gone = new Set(removed.map((at) => routes[at]))
  for (const one of gone) if (one !== undefined) table.remove(one)
  return { table, left: routes.filter((one) => !gone.has(one)) }
}

test('a route table chooses as a look at every route does', (t) => {
  check(
    t,
    2000,
    fc.property(routeTables, ({ routes, removed, lookups }) => {
      const { table, left } = build(routes, removed)
      if (table.size !== left.length) return false
      return lookups.every(([src, dst, hash]) => {
        const found = table.lookup(src, dst, new Notes(hash))
        return found?.id === naive(left, src, dst, hash)?.id
      })
    }),
  )
})

test('a lookup sees every bit that it depends on', (t) => {
  check(
    t,
    2000,
    fc.property(routeTables, ({ routes, removed, lookups, noise }) => {
      const { table } = build(routes, removed)
      return lookups.every(([src, dst, hash]) => {
        const notes = new Notes(hash)
        const found = table.lookup(src, dst, notes)
        const otherDst =
          ((dst & prefixMask(notes.dstBits)) | (noise & ~prefixMask(notes.dstBits))) >>> 0
        const otherSrc =
          ((src & prefixMask(notes.srcBits)) | (noise & ~prefixMask(notes.srcBits))) >>> 0
        return table.lookup(otherSrc, otherDst, new Notes(hash))?.id === found?.id
      })
    }),
  )
})

test('a lookup that a new or removed route changes has left the tag that the change names', (t) => {
  check(
    t,
    2000,
    fc.property(routeTables, route, ({ routes, removed, lookups }, fresh) => {
      const { table } = build(routes, removed)
      const before = lookups.map(([src, dst, hash]) => {
        const notes = new Notes(hash)
        return { id: table.lookup(src, dst, notes)?.id, tags: notes.tags }
      })
      const added = { ...fresh, id: 'fresh' }
      const tag = table.add(added)
      const unchanged = lookups.every(([src, dst, hash], at) => {
        const notes = new Notes(hash)
        const id = table.lookup(src, dst, notes)?.id
        const old = before[at]
        const isTold = old?.tags.includes(tag) ?? false
        const mayRemove = id !== 'fresh' || notes.tags.includes(table.remove(added) ?? 0)
        if (id === 'fresh') table.add(added)
        return (id === old?.id || isTold) && mayRemove
      })
      table.remove(added)
      return (
        unchanged &&
        lookups.every(([src, dst, hash], at) => {
          return table.lookup(src, dst, new Notes(hash))?.id === before[at]?.id
        })
      )
    }),
  )
})

test('the tag of a prefix names router and prefix', (t) => {
  const table = new RouteTable('r')
  const entry = (text: string): RouteEntry => {
    const cidr = parseCidr(text)
    const [dst, dstLength] = [cidr?.address ?? 0, cidr?.prefixLength ?? 0]
    const rest = { src: 0, srcLength: 0, weight: 1, port: undefined, gateway: undefined }
    return {
      id: formatCidr({ address: dst, prefixLength: dstLength }),
      dst,
      dstLength,
      action: 'blackhole',
      ...rest,
    }
  }
  t.is(table.add(entry('10.0.0.0/8')), routeTag('r', 'none'))
  t.is(table.add(entry('10.1.0.0/16')), routeTag('r', '10.0.0.0/8'))
  t.is(table.add(entry('20.0.0.0/8')), routeTag('r', 'none'))
  t.is(table.remove(entry('10.1.0.0/16')), routeTag('r', '10.1.0.0/16'))
  t.is(table.remove(entry('30.0.0.0/8')), undefined)
})

const tagName = fc.constantFrom(1, 2, 1025, 1026, 1_073_741_823)
const flowStep = fc.oneof(
  fc.record({
    kind: fc.constant('add' as const),
    id: fc.nat({ max: 15 }),
    tags: fc.array(tagName, { maxLength: 4 }),
  }),
  fc.record({ kind: fc.constant('remove' as const), id: fc.nat({ max: 15 }) }),
  fc.record({ kind: fc.constant('invalidate' as const), tag: tagName }),
)

const basisOf = (tags: readonly Tag[], endsMs?: number): Basis => ({
  tags,
  tagCount: tags.length,
  sources: [],
  endsMs,
})

test('a flow table finds by tag what a look at every flow finds', (t) => {
  check(
    t,
    2000,
    fc.property(fc.array(flowStep, { maxLength: 60, size: 'max' }), (steps) => {
      const table = new FlowTable()
      const model = new Map<number, readonly Tag[]>()
      for (const step of steps) {
        if (step.kind === 'add') {
          table.add(step.id, basisOf(step.tags), 0, 30_000)
          model.set(step.id, step.tags)
        }
        if (step.kind === 'remove' && table.remove(step.id) !== model.delete(step.id)) return false
        if (step.kind === 'invalidate') {
          const removed: number[] = []
          // Bounded, so that a table that does not shrink fails instead of hanging.
          table.invalidate(step.tag, (id) => {
            if (removed.push(id) > 100) throw new RunawayError()
          })
          const expected = [...model].filter(([, tags]) => tags.includes(step.tag))
          for (const [id] of expected) model.delete(id)
          if (`${removed.sort()}` !== `${expected.map(([id]) => id).sort()}`) return false
        }
        const tags = new Set([...model.values()].flat())
        if (table.size !== model.size || table.tagCount !== tags.size) return false
        if ([...table.next(100)].length !== model.size) return false
      }
      return true
    }),
  )
})

/** An invalidation removed more flows than there are. */
class RunawayError extends Error {
  override readonly name = 'RunawayError'
  readonly code = 'RUNAWAY'
}

test('flows that end at a fixed time are told in time, others never', (t) => {
  const table = new FlowTable()
  table.add(1, basisOf([1]), 0, 30_000)
  table.add(2, basisOf([1], 100), 0, 30_000)
  table.add(3, basisOf([1], 200), 0, 30_000)
  t.deepEqual(
    [...table.ended(150)].map(({ id }) => id),
    [2],
  )
  t.is(table.nextEndMs(), 100)
  table.remove(2)
  t.is(table.nextEndMs(), 200)
  table.remove(3)
  t.is(table.nextEndMs(), Number.POSITIVE_INFINITY)
})

test('looking at flows in turn reaches all of them, also while they are removed', (t) => {
  const table = new FlowTable()
  for (let id = 0; id < 10; id++) table.add(id, basisOf([]), 0, 30_000)
  const seen = new Set<number>()
  for (let round = 0; round < 5; round++)
    for (const flow of table.next(3)) {
      seen.add(flow.id)
      if (flow.id % 2 === 0) table.remove(flow.id)
    }
  t.is(seen.size, 10)
  t.is(table.size, 5)
})

test('a MAC table holds what a map holds', (t) => {
  const mac = fc.tuple(fc.nat({ max: 3 }), fc.nat({ max: 12 }))
  const step = fc.record({ mac, isSet: fc.boolean(), value: fc.nat() })
  check(
    t,
    2000,
    fc.property(fc.array(step, { maxLength: 120, size: 'max' }), (steps) => {
      const table = new MacTable<{ value: number }>()
      const model = new Map<number, { value: number }>()
      for (const {
        mac: [high, low],
        isSet,
        value,
      } of steps) {
        const known = joinMac(high, low)
        if (isSet) {
          const entry = { value }
          table.set(high, low, entry)
          model.set(known, entry)
        } else if (table.delete(high, low) !== model.delete(known)) return false
        for (let h = 0; h < 4; h++)
          for (let l = 0; l < 13; l++)
            if (table.find(h, l) !== model.get(joinMac(h, l))) return false
      }
      return table.size === model.size && [...table.values()].length === model.size
    }),
  )
})

test('a tuple table holds what a map holds', (t) => {
  const small = fc.nat({ max: 3 })
  const tuple = fc.record({ zone: small, src: small, dst: small, ports: small })
  const step = fc.record({ tuple, isRemoval: fc.boolean() })
  check(
    t,
    300,
    fc.property(fc.array(step, { maxLength: 400, size: 'max' }), (steps) => {
      const table = new TupleTable<Tuple>()
      const map = new Map<string, Tuple>()
      const name = ({ zone, src, dst, ports }: Tuple) => [zone, src, dst, ports].join()
      for (const { tuple: one, isRemoval } of steps) {
        if (isRemoval && table.delete(one) !== map.delete(name(one))) return false
        if (isRemoval) continue
        if (table.add(one) === map.has(name(one))) return false
        if (!map.has(name(one))) map.set(name(one), one)
      }
      const isSame = [...map.values()].every(
        (one) => table.find(one.zone, one.src, one.dst, one.ports) === one,
      )
      return isSame && table.size === map.size && [...table.values()].length === map.size
    }),
  )
})
