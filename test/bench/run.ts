/**
 * `npm run bench [sim|guest|ovs|flows|state|endpoints|cli|bgp|bgp-hosts|docker|hosts|commit|plugin|swarm|
 * scale]`, or several of them: a table, and build/bench.json. `scale` takes minutes and is measured only
 * when it is named.
 */
import { mkdirSync, writeFileSync } from 'node:fs'
import { ensurePackages } from '../system/packages.ts'
import { pluginPackages } from '../system/plugin-machine.ts'
import { benchBgp } from './bgp.ts'
import { benchBgpHosts } from './bgp-hosts.ts'
import { benchCli } from './cli.ts'
import { benchCommit } from './commit.ts'
import { benchDocker } from './docker.ts'
import { benchEndpoints } from './endpoints.ts'
import { benchFlows } from './flows.ts'
import { benchOvs, benchSimCost } from './guest.ts'
import { benchHosts } from './hosts.ts'
import type { Row } from './row.ts'
import { benchScale } from './scale.ts'
import { benchSim } from './sim.ts'
import { benchStatePush } from './state-push.ts'
import { benchPlugin, benchSwarm } from './swarm.ts'

interface Bench {
  /** Those it is run by, besides by none. */
  readonly names: readonly string[]
  /** Debian's packages besides those of all. */
  readonly packages?: readonly string[]
  readonly run: () => readonly Row[] | Promise<readonly Row[]>
}

const benches: readonly Bench[] = [
  { names: ['sim'], run: benchSim },
  { names: ['sim', 'flows'], run: benchFlows },
  { names: ['state'], packages: [], run: benchStatePush },
  { names: ['guest'], run: benchSimCost },
  { names: ['ovs'], run: benchOvs },
  { names: ['endpoints'], packages: [], run: benchEndpoints },
  { names: ['cli'], run: benchCli },
  { names: ['bgp'], packages: ['frr'], run: benchBgp },
  { names: ['bgp-hosts'], packages: ['frr'], run: benchBgpHosts },
  { names: ['docker'], packages: [], run: benchDocker },
  { names: ['hosts'], packages: [], run: benchHosts },
  { names: ['swarm', 'plugin'], run: benchPlugin },
  { names: ['swarm'], packages: pluginPackages, run: benchSwarm },
  { names: ['commit'], packages: [], run: benchCommit },
]

const asked = process.argv.slice(2)
const known = [...benches, { names: ['scale'], run: benchScale }]
for (const name of asked)
  if (!known.some(({ names }) => names.includes(name)))
    throw new RangeError(
      `there is no benchmark ${name}; there are ${[...new Set(known.flatMap((one) => one.names))].join(', ')}`,
    )
const chosen =
  asked.length === 0
    ? benches
    : known.filter(({ names }) => names.some((one) => asked.includes(one)))
const rows: Row[] = []
for (const { names, packages, run } of chosen) {
  try {
    if (packages !== undefined) ensurePackages(packages)
    rows.push(...(await run()))
  } catch (error) {
    // What others have measured is not lost with it.
    console.error(`${names.join(', ')}: not measured:`, error)
    process.exitCode = 1
  }
}
print(rows)
const folder = new URL('../../', import.meta.url)
mkdirSync(folder, { recursive: true })
writeFileSync(new URL('bench.json', folder), `${JSON.stringify(rows, null, 2)}\n`)

function print(measured: readonly Row[]): void {
  const table = [
    ['row', 'unit', 'ours', 'peer', 'ratio', 'goal', ''],
    ...measured.map(({ name, unit, ours, peer, goal, better }) => {
      const ratio = peer === null ? ours : ours / peer
      const met = better === 'higher' ? ratio >= goal : ratio <= goal
      const sign = better === 'higher' ? '>=' : '<='
      return [
        name,
        unit,
        figure(ours),
        figure(peer),
        figure(ratio),
        `${sign} ${goal}`,
        met ? 'met' : 'MISSED',
      ]
    }),
  ]
  const widths =
    table[0]?.map((_, column) => Math.max(...table.map((row) => row[column]?.length ?? 0))) ?? []
  for (const row of table)
    console.log(
      row
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join('  ')
        .trimEnd(),
    )
}

function figure(value: number | null): string {
  if (value === null) return '-'
  return value >= 1000 ? Math.round(value).toLocaleString('en') : value.toPrecision(4)
}
