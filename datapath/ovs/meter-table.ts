/**
 * The module's meters: each drops what is over its rate. The kernel cannot list them, so those of
 * an agent before are asked for by number.
 */
import { DatapathError, type MeterRate } from '../datapath.ts'
import { findAttribute, payloadU32 } from '../netlink.ts'
import { header, type Module } from './module.ts'
import { bandAttr, bandDrops, meterAttr, meterCommand } from './protocol.ts'

export const limits = {
  /** Numbers asked for beyond the highest vport's: of vports that went while no agent ran. */
  askedBeyond: 256,
} as const

export class MeterTable {
  readonly #module: Module
  readonly #family: number
  /** How many there can be; 0 where the module has none. */
  readonly #max: number
  /** Those that stand; undefined until the kernel was asked. */
  #known: Set<number> | undefined

  constructor(module: Module) {
    this.#module = module
    this.#family = module.families.meter
    this.#max = this.#family === 0 ? 0 : this.#readMax()
  }

  /** @throws DatapathError `EOPNOTSUPP` where the kernel has no meters, or none of this number */
  set(id: number, { kbps, burstKb }: MeterRate): void {
    if (id >= this.#max)
      throw new DatapathError(
        'EOPNOTSUPP',
        `meter ${id}: this kernel's module has ${this.#max === 0 ? 'no' : `only ${this.#max}`} meters`,
      )
    const payload = this.#payload(meterCommand.set).attributeU32(meterAttr.id, id)
    payload.attribute(meterAttr.kbps, new Uint8Array())
    payload.nest(meterAttr.bands, (bands) =>
      bands.nest(0, (band) =>
        band
          .attributeU32(bandAttr.type, bandDrops)
          .attributeU32(bandAttr.rate, kbps)
          .attributeU32(bandAttr.burst, burstKb),
      ),
    )
    this.#module.change(`set meter ${id}`, this.#family, payload)
    this.#known?.add(id)
  }

  /** Unknown numbers are no error. @throws DatapathError */
  remove(id: number): void {
    if (this.#max === 0) return
    const payload = this.#payload(meterCommand.remove).attributeU32(meterAttr.id, id)
    this.#module.change(`remove meter ${id}`, this.#family, payload, ['ENOENT'])
    this.#known?.delete(id)
  }

  /** Also those of an agent before this one. @throws DatapathError */
  list(highestVport: number): readonly number[] {
    this.#known ??= this.#find(Math.min(this.#max, highestVport + limits.askedBeyond))
    return [...this.#known]
  }

  #find(end: number): Set<number> {
    const found = new Set<number>()
    for (let id = 0; id < end; id++) {
      const payload = this.#payload(meterCommand.get).attributeU32(meterAttr.id, id)
      const reply = this.#module.ask(`read meter ${id}`, this.#family, payload, 'ENOENT')
      if (reply !== undefined) found.add(id)
    }
    return found
  }

  #readMax(): number {
    const payload = this.#payload(meterCommand.features)
    const reply = this.#module.ask('ask for meters', this.#family, payload, 'EOPNOTSUPP')
    return payloadU32(findAttribute(reply ?? [], meterAttr.max)) ?? 0
  }

  #payload(command: number) {
    return header(command, 1, this.#module.datapath)
  }
}
