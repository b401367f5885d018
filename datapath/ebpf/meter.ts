/**
 * Meters: the programs' side, and this process's. The generic cell rate algorithm: `emptyAt` is when
 * the bucket will have run empty; a packet passes while that is no further away than the depth, and
 * puts it off by its own cost. Processors add with one step, so that what passes is always counted;
 * two that look at once may pass one packet each where there was room for one.
 */
import type { MeterRate, MeterState } from '../datapath.ts'
import { type Assembler, r0, r1, r2, r3 } from './assembler.ts'
import type { BpfMap } from './bpf.ts'
import { context, helper, stack } from './kernel.ts'
import { meter, meterShift, slotPayload } from './layout.ts'

/** Action `meter`: goes on, or drops. r0 to r5 are lost. */
export function emitMeter(a: Assembler): void {
  a.label('meter').load(32, 1, 7, slotPayload).store(32, 10, stack.scratch, r1)
  a.map(1, 'meters').mov(2, { r: 10 }).op('add', 2, stack.scratch).helper(helper.mapLookup)
  a.when(0, 'eq', 0, 'advance').store(64, 10, stack.block, r0)
  a.helper(helper.ktime).mov(1, r0).load(64, 5, 10, stack.block)
  a.load(64, 2, 5, meter.emptyAt)
  // A bucket that has been empty for long holds no more than its depth.
  a.when(2, 'ge', r1, 'meterRuns').store(64, 5, meter.emptyAt, r1).mov(2, r1)
  a.label('meterRuns').load(64, 3, 5, meter.depth).op('add', 3, r1).when(2, 'gt', r3, 'drop')
  a.load(32, 1, 6, context.len).load(64, 2, 5, meter.byteCost).op('mul', 1, r2)
  a.op('shr', 1, meterShift).atomicAdd(5, meter.emptyAt, 1).jump('advance')
}

/** The meters of a map. */
export class MeterTable {
  readonly #map: BpfMap

  constructor(map: BpfMap) {
    this.#map = map
  }

  /** @throws DatapathError `ENOSPC` */
  set(id: number, { kbps, burstKb }: MeterRate): void {
    this.#map.keyWords[0] = id
    const { valueView: view } = this.#map
    const cost = BigInt(Math.round((8e6 / kbps) * 2 ** meterShift))
    const depth = BigInt(Math.round((burstKb / kbps) * 1e9))
    const isSame =
      this.#map.lookup() &&
      view.getBigUint64(meter.byteCost, true) === cost &&
      view.getBigUint64(meter.depth, true) === depth
    if (isSame) return
    // What is in the bucket was counted in time at the old rate: it begins anew, empty.
    view.setBigUint64(meter.emptyAt, 0n, true)
    view.setBigUint64(meter.byteCost, cost, true)
    view.setBigUint64(meter.depth, depth, true)
    this.#map.update()
  }

  remove(id: number): void {
    this.#map.keyWords[0] = id
    this.#map.remove()
  }

  /** The rate as it was set, up to rounding. */
  read(id: number): MeterState | undefined {
    this.#map.keyWords[0] = id
    if (!this.#map.lookup()) return undefined
    const { valueView: view } = this.#map
    const cost = Number(view.getBigUint64(meter.byteCost, true)) / 2 ** meterShift
    const kbps = Math.round(8e6 / cost)
    const burstKb = Math.round((Number(view.getBigUint64(meter.depth, true)) * kbps) / 1e9)
    return { rate: { kbps, burstKb } }
  }

  ids(): readonly number[] {
    return [...this.#map.keys()].map(([id = 0]) => id)
  }
}
