/** Deleting an object with what exists only as part of it. */
import { TopologyError } from './error.ts'
import type { Kind, ObjectOf } from './model.ts'
import type { Draft, Reader } from './store.ts'

/** By kind of the part: the field that names the whole, and the whole's kind. */
const parts: readonly { readonly kind: Kind; readonly field: string; readonly of: Kind }[] = [
  { kind: 'port', field: 'bridge', of: 'bridge' },
  { kind: 'port', field: 'router', of: 'router' },
  { kind: 'route', field: 'router', of: 'router' },
  { kind: 'route', field: 'port', of: 'port' },
  { kind: 'binding', field: 'id', of: 'port' },
  { kind: 'rule', field: 'chain', of: 'chain' },
  { kind: 'zoneMember', field: 'zone', of: 'tunnelZone' },
  { kind: 'portActive', field: 'id', of: 'port' },
  { kind: 'hostAlive', field: 'id', of: 'host' },
  { kind: 'dhcpSubnet', field: 'bridge', of: 'bridge' },
  { kind: 'dhcpHost', field: 'subnet', of: 'dhcpSubnet' },
  { kind: 'loadBalancer', field: 'router', of: 'router' },
  { kind: 'balancerPool', field: 'loadBalancer', of: 'loadBalancer' },
  { kind: 'vip', field: 'loadBalancer', of: 'loadBalancer' },
  { kind: 'vip', field: 'pool', of: 'balancerPool' },
  { kind: 'poolMember', field: 'pool', of: 'balancerPool' },
  { kind: 'bgpPeer', field: 'router', of: 'router' },
  { kind: 'bgpNetwork', field: 'router', of: 'router' },
]

/** Objects that one deletion may take along; more are refused. */
const deletedMax = 20_000

/**
 * Deletes an object and its parts: a router's ports and routes, a port's binding, a chain's rules.
 * A link to a port that goes is undone. What merely uses the object (a filter, a condition) still
 * keeps it from going: the rules of the topology refuse the transaction then.
 * @throws TopologyError INVALID when that would be more than 20 000 objects
 */
export function deleteWhole(draft: Draft, kind: Kind, id: string): void {
  const gone = new Set<string>()
  const waiting: { readonly kind: Kind; readonly id: string }[] = [{ kind, id }]
  for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
    const name = `${next.kind}/${next.id}`
    if (gone.has(name)) continue
    gone.add(name)
    if (gone.size > deletedMax) {
      const message = `${kind} ${id} has more than ${deletedMax} parts; delete some of them first`
      throw new TopologyError('INVALID', message)
    }
    if (next.kind === 'port') unlink(draft, next.id)
    waiting.push(...partsOf(draft, next.kind, next.id))
    draft.delete(next.kind, next.id)
  }
}

/** The objects that exist only as part of this one. */
export function partsOf(
  reader: Reader,
  kind: Kind,
  id: string,
): readonly { readonly kind: Kind; readonly id: string }[] {
  return parts
    .filter(({ of }) => of === kind)
    .flatMap(({ kind: part, field }) =>
      reader
        .list(part)
        .filter((value) => fieldOf(value, field) === id)
        .map((value) => ({ kind: part, id: value.id })),
    )
}

/** A field by its name, which not every kind has. */
function fieldOf(value: ObjectOf<Kind>, field: string): unknown {
  return Object.getOwnPropertyDescriptor(value, field)?.value
}

function unlink(draft: Draft, id: string): void {
  const other = draft.get('port', draft.get('port', id)?.peer ?? '')
  if (other === undefined) return
  const { peer: _, ...rest } = other
  draft.put('port', rest)
}
