/** What it costs to remove the flows of one tag among a million: as much as they are, no more. */
import { FlowTable } from '../../simulator/flow-table.ts'
import { macTag, neighborTag, portTag, stateTag, type Tag } from '../../simulator/tag.ts'
import type { Row } from './row.ts'

const many = 1_000_000
const few = 10_000
const rounds = 9

/**
 * `invalidate-1m`: µs for each flow removed by a tag that a thousand flows carry, among a million
 * (ours) and among ten thousand (peer). `invalidate-1m-each`: the same among a million for a tag of
 * a hundred thousand flows (ours) and one of a thousand (peer).
 */
export function benchFlows(): Row[] {
  // So that all is compiled before it is measured.
  costEach(fill(few), few, 1000)
  const large = fill(many)
  const [thousand, most] = [1000, 100_000].map((count) => costEach(large, many, count))
  const small = costEach(fill(few), few, 1000)
  const row = { unit: 'us', goal: 4, better: 'lower' } as const
  return [
    { ...row, name: 'invalidate-1m', ours: thousand ?? 0, peer: small },
    { ...row, name: 'invalidate-1m-each', ours: most ?? 0, peer: thousand ?? 0 },
  ]
}

const sources = [] as const
/** Groups of flows that share one more tag. */
const [one, others] = [portTag('one'), portTag('others')]

/** Flows as of routed connections: facts that many share, and one that is its own. */
function fill(count: number): FlowTable {
  const table = new FlowTable()
  for (let n = 0; n < count; n++) add(table, n, others)
  return table
}

function add(table: FlowTable, n: number, group: Tag): void {
  const tags = [
    portTag(`in-${n % 64}`),
    neighborTag('r', n % 4096),
    macTag('b', n % 5000, 0),
    portTag(`out-${n % 61}`),
    stateTag(1, n, 0, 0),
    group,
  ]
  const basis = { tags, tagCount: tags.length, sources, endsMs: undefined }
  table.add(n, basis, 0, 30_000)
}

/** The least of several rounds, in µs for each flow; the flows are spread over the table. */
function costEach(table: FlowTable, size: number, count: number): number {
  let least = Number.POSITIVE_INFINITY
  for (let round = 0; round < rounds; round++) {
    const step = Math.floor(size / count)
    for (let n = 0; n < count; n++) add(table, n * step + (round % step), one)
    let removed = 0
    const start = performance.now()
    table.invalidate(one, () => removed++)
    least = Math.min(least, ((performance.now() - start) * 1000) / removed)
    for (let n = 0; n < count; n++) add(table, n * step + (round % step), others)
  }
  return least
}
