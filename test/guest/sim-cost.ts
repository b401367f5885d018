/**
 * Runs in a guest with `npm run vm -- --icount`, where a nanosecond is an instruction: what a
 * simulation costs whose flow goes into the datapath in memory, every packet a new flow. Prints a
 * line for each row, or for those named, and all of them as JSON.
 */
import { MemoryDatapath } from '../../datapath/memory.ts'
import { extractKey } from '../../packet/extract.ts'
import { createKey, type FlowKey } from '../../packet/flow-key.ts'
import { FlowInstaller } from '../../simulator/flow-installer.ts'
import { BenchError, installed, type SimWorld, simWorlds } from '../bench/sim-world.ts'

const batch = 4_032
const warmUps = 50
const measured = 9

const asked = process.argv.slice(2)
const costs: Record<string, number> = {}
for (const world of simWorlds(asked)) {
  costs[world.name] = Math.round(cost(world))
  console.log(`${world.name}: ${costs[world.name]}`)
}
console.log(JSON.stringify(costs))

/** Nanoseconds of one simulation and its flow; the making of the packet is taken off. */
function cost(world: SimWorld): number {
  const datapath = new MemoryDatapath({ flowsMax: batch * 2 })
  const flows = new FlowInstaller(datapath, () => 0, batch * 2)
  const key = createKey()
  let first = 0
  const taken: number[] = []
  let spoilt = 0
  for (let round = 0; round < warmUps + measured; round++) {
    const start = process.hrtime.bigint()
    readAll(world, first, key)
    const middle = process.hrtime.bigint()
    installAll(world, first, key, flows)
    const end = process.hrtime.bigint()
    first += batch
    const each = Number(end - middle) - Number(middle - start)
    // By chance a connection's tag is a port's or a route's, whose flows go then: in a round of 500.
    if (flows.table.size >= batch - 4) {
      if (round >= warmUps) taken.push(each / batch)
    } else if (++spoilt > 2) throw new BenchError(`${world.name}: ${flows.table.size} flows`)
    for (const flow of [...flows.table.next(batch)]) {
      flows.table.remove(flow.id)
      datapath.remove(flow.id)
    }
  }
  return taken.sort((a, b) => a - b)[taken.length >> 1] ?? 0
}

// Functions of their own, not closures made in each round: those the compiler would make anew each
// time while they run, in the time that is measured.

/** Reads the keys of a batch of packets. */
function readAll(world: SimWorld, first: number, key: FlowKey): void {
  for (let number = first; number < first + batch; number++)
    extractKey(world.packet(number), world.vport(number), key)
}

/** The same, and has each simulated and its flow installed. */
function installAll(world: SimWorld, first: number, key: FlowKey, flows: FlowInstaller): void {
  for (let number = first; number < first + batch; number++) {
    extractKey(world.packet(number), world.vport(number), key)
    installed(world, key, flows)
  }
}
