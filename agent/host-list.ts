/** `midonet host list`: the hosts of the store, how they reach each other, what they have. */
import type { Binding, Host, TunnelZone, ZoneMember } from '../topology/model.ts'

export interface HostsKnown {
  readonly hosts: readonly Host[]
  readonly zones: readonly TunnelZone[]
  readonly members: readonly ZoneMember[]
  readonly bindings: readonly Binding[]
  /** Ids of hosts whose agent runs. */
  readonly alive: ReadonlySet<string>
}

/** A line for each host, in order of name. */
export function formatHosts({ hosts, zones, members, bindings, alive }: HostsKnown): string {
  const zoneName = new Map(zones.map(({ id, name }) => [id, name ?? id]))
  const rows = hosts
    .toSorted((a, b) => (a.name === b.name ? order(a.id, b.id) : order(a.name, b.name)))
    .map(({ id, name }) => [
      id,
      name,
      alive.has(id) ? 'alive' : 'away',
      String(bindings.filter(({ host }) => host === id).length),
      members
        .filter(({ host }) => host === id)
        .map(({ zone, address }) => `${zoneName.get(zone) ?? zone} ${address}`)
        .sort()
        .join(', ') || '-',
    ])
  const all = [['HOST', 'NAME', 'AGENT', 'PORTS', 'TUNNEL ZONES'], ...rows]
  const widths = [0, 1, 2, 3].map((at) => Math.max(...all.map((row) => row[at]?.length ?? 0)))
  return all
    .map((row) =>
      row
        .map((cell, at) => cell.padEnd(widths[at] ?? 0))
        .join('  ')
        .trimEnd(),
    )
    .join('\n')
}

function order(a: string, b: string): number {
  return a < b ? -1 : 1
}
