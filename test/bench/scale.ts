/**
 * A simulated cluster of 1000 hosts and 100 000 ports (test/topology/scale.ts), and 150 hosts that
 * create an endpoint in the same moment. Prints all that was measured, and rows of what must stay
 * small. Takes minutes, and 4 GB of memory.
 */
import { measureContention, measureScale } from '../topology/scale-measure.ts'
import type { Row } from './row.ts'

const size = { hosts: 1000, ports: 100_000, networkPorts: 100, networkHosts: 20 }
const changes = 20
const contenders = 150

export async function benchScale(): Promise<Row[]> {
  const figures = await measureScale(size, changes)
  const contention = await measureContention(contenders)
  console.log({ ...size, ...figures, contention })
  const memory = figures.storeBytesPerPort + figures.compiledBytesPerPort
  const row = (name: string, unit: string, ours: number, goal: number): Row => ({
    ...{ name, unit, ours, peer: null, goal, better: 'lower' },
  })
  return [
    row('scale-port-memory', 'bytes of an agent', memory, 8_000),
    row('scale-change-bytes', 'bytes to each host', figures.changeBytes, 4_000),
    row('scale-change', 'ms to the last of 1000 hosts', figures.changeMs, 50),
    row('scale-contention', 'ms, 150 hosts at once', contention.ms, 10_000),
  ]
}
