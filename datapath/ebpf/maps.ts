/** The maps of one datapath: made anew, or found through the programs of an agent before. */
import { keyWords } from '../../packet/flow-key.ts'
import type { Arena } from '../syscall.ts'
import { type BpfMap, createMap, describeProgram, type MapShape, openMap } from './bpf.ts'
import {
  entriesMax,
  entry,
  flowKeySize,
  flowsMax,
  format,
  type MapName,
  meter,
  portsMax,
  table,
} from './layout.ts'

export interface Maps {
  readonly byName: Readonly<Record<MapName, BpfMap>>
  /** The memory of `table` and of `entries`. */
  readonly table: Arena
  readonly entries: Arena
}

const shapes: Readonly<Record<MapName, MapShape>> = {
  table: { name: 'table', type: 'array', keySize: 4, valueSize: table.size, count: 1 },
  flows: { name: 'flows', type: 'hash', keySize: flowKeySize, valueSize: 4, count: flowsMax },
  entries: { name: 'entries', type: 'array', keySize: 4, valueSize: entry.size, count: entriesMax },
  ports: { name: 'ports', type: 'hash', keySize: 4, valueSize: 8, count: portsMax },
  meters: { name: 'meters', type: 'hash', keySize: 4, valueSize: meter.size, count: portsMax },
}

/** Index of the mask's id in the words of a key of `flows`. */
export const maskIdWord = keyWords

/** @throws DatapathError */
export function createMaps(): Maps {
  const maps = withMemory({
    table: createMap(shapes.table),
    flows: createMap(shapes.flows),
    entries: createMap(shapes.entries),
    ports: createMap(shapes.ports),
    meters: createMap(shapes.meters),
  })
  maps.table.view.setUint32(table.format, format, true)
  return maps
}

/** The maps that a program uses; undefined when they are not as this version makes them. */
export function adoptMaps(programId: number): Maps | undefined {
  const opened = (describeProgram(programId)?.mapIds ?? [])
    .map((id) => openMap(id, Object.values(shapes)))
    .filter((map) => map !== undefined)
  const find = (name: MapName): BpfMap | undefined =>
    opened.find(({ shape }) => shape.name === name)
  const [tableMap, flows, entries, ports, meters] = [
    find('table'),
    find('flows'),
    find('entries'),
    find('ports'),
    find('meters'),
  ]
  if (tableMap && flows && entries && ports && meters) {
    const maps = withMemory({ table: tableMap, flows, entries, ports, meters })
    if (maps.table.view.getUint32(table.format, true) === format) return maps
  }
  for (const map of opened) map.close()
  return undefined
}

function withMemory(byName: Readonly<Record<MapName, BpfMap>>): Maps {
  return { byName, table: byName.table.share(), entries: byName.entries.share() }
}

export function closeMaps({ byName }: Maps): void {
  for (const map of Object.values(byName)) map.close()
}
