/** `npm run bench [sim|cli|docker]`: measures, prints a table, writes build/bench.json. */
import { mkdirSync, writeFileSync } from 'node:fs'
import { ensurePackages } from '../system/packages.ts'
import { benchCli } from './cli.ts'
import { benchDocker } from './docker.ts'
import type { Row } from './row.ts'
import { benchSim } from './sim.ts'

const only = process.argv[2]
const rows: Row[] = []
const all = only === undefined
if (all || only === 'sim') rows.push(...(await benchSim()))
if (all || only === 'cli') rows.push(...(await benchCli()))
if (all || only === 'docker') {
  ensurePackages()
  rows.push(...(await benchDocker()))
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
