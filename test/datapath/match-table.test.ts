/** The table of flows by match against a plain list, and how evenly it spreads them. */
import test, { type ExecutionContext } from 'ava'
import fc from 'fast-check'
import { MatchTable } from '../../datapath/match-table.ts'
import { createKey, equalKeys, type FlowKey, maskKey, matches } from '../../packet/flow-key.ts'

/** Few values and few masks, so that matches meet. */
const keys = fc
  .tuple(fc.nat(3), fc.nat(3), fc.constantFrom(0, 1, 0xffff_fffe))
  .map(([port, address, ports]) => {
    const key = createKey()
    key[0] = port
    key[10] = address
    key[18] = ports
    return key
  })
const masks = fc.subarray([0, 3, 10, 18]).map((words) => {
  const mask = createKey()
  for (const word of words) mask[word] = word === 18 ? 0xffff_0001 : 0xffff_ffff
  return mask
})
const steps = fc.array(
  fc.oneof(
    { weight: 3, arbitrary: fc.record({ key: keys, mask: masks }) },
    { weight: 1, arbitrary: fc.record({ remove: fc.nat(40) }) },
  ),
  { maxLength: 120 },
)

interface Known {
  readonly id: number
  readonly key: FlowKey
  readonly mask: FlowKey
}

test('a flow is found by its match, and by the packets that fall under it', (t) => {
  fc.assert(
    fc.property(steps, keys, (list, packet) => {
      const table = new MatchTable()
      let known: Known[] = []
      for (const step of list) {
        if ('remove' in step) {
          table.remove(step.remove)
          known = known.filter(({ id }) => id !== step.remove)
          continue
        }
        const { key, mask } = step
        const masked = createKey()
        maskKey(key, mask, masked)
        const old = known.find((one) => equalKeys(one.mask, mask) && equalKeys(one.key, masked))
        t.is(table.find(step), old?.id)
        let free = 0
        while (known.some(({ id }) => id === free)) free++
        const id = table.findOrAdd(step, free)
        t.is(id, old?.id ?? free)
        if (old === undefined) known.push({ id, key: masked, mask })
      }
      check(t, table, known, packet)
    }),
    { numRuns: 500 },
  )
})

function check(
  t: ExecutionContext,
  table: MatchTable,
  known: readonly Known[],
  packet: FlowKey,
): void {
  t.is(table.size, known.length)
  const used = known.filter(
    ({ mask }, at) => known.findIndex((one) => equalKeys(one.mask, mask)) === at,
  )
  t.is(table.masks.size, used.length)
  const match = { key: createKey(), mask: createKey() }
  for (const { id, key, mask } of known) {
    t.true(table.has(id))
    table.read(id, match)
    t.deepEqual(match, { key, mask })
  }
  for (const one of table.masks.all) {
    const hit = known.find(
      (flow) => equalKeys(flow.mask, one.mask) && matches(packet, flow.key, flow.mask),
    )
    t.is(table.findUnder(one, packet), hit?.id)
  }
}

test('many flows that differ in small numbers are found, and gone when removed', (t) => {
  const table = new MatchTable()
  const match = { key: createKey(), mask: createKey().fill(0xffff_ffff) }
  const count = 20_000
  for (let id = 0; id < count; id++) {
    match.key[18] = id
    t.is(table.findOrAdd(match, id), id)
  }
  for (let id = 0; id < count; id += 2) table.remove(id)
  t.is(table.size, count / 2)
  for (let id = 0; id < count; id++) {
    match.key[18] = id
    t.is(table.find(match), id % 2 === 0 ? undefined : id)
  }
  for (let id = 1; id < count; id += 2) table.remove(id)
  t.is(table.masks.size, 0)
})
