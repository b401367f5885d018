/**
 * The module's meters: each drops what is over its rate. The kernel neither lists them nor tells
 * their rates; those of an agent before are asked for by the numbers that they can have: those of
 * vports, also of vports that have gone since, and those that flows name.
 */
import { DatapathError, type MeterRate, type MeterState } from '../datapath.ts'
import { type Attribute, decodeAttributes, findAttribute } from '../netlink.ts'
import { attributesOf, type Module, readU64 } from './module.ts'
import { bandAttr, meterAttr, meterBandDrop, meterCommand } from './protocol.ts'

export const limits = {
  /** Numbers asked for beyond the highest vport's: of vports that went while no agent ran. */
  askedBeyond: 256,
} as const

export class MeterTable {
  readonly #module: Module
  /** How many there can be; 0 where the module has none. */
  readonly #max: number
  /** The rates of those that stand; undefined of those that another agent made. */
  readonly #rates = new Map<number, MeterRate | undefined>()

  /** @throws DatapathError */
  constructor(module: Module, max: number, highestVport: number) {
    this.#module = module
    this.#max = max
    const end = Math.min(max, highestVport + limits.askedBeyond)
    for (let id = 0; id < end; id++) this.adopt(id)
  }

  /** Takes over the meter with this number, if there is one. @throws DatapathError */
  adopt(id: number): void {
    if (!this.#rates.has(id) && this.read(id) !== undefined) this.#rates.set(id, undefined)
  }

  /** @throws DatapathError `EOPNOTSUPP` where the kernel has no meters, or none of this number */
  set(id: number, { kbps, burstKb }: MeterRate): void {
    if (id >= this.#max)
      throw new DatapathError(
        'EOPNOTSUPP',
        `meter ${id}: this kernel's module has ${this.#max === 0 ? 'no' : `only ${this.#max}`} meters`,
      )
    const payload = this.#module.payload(meterCommand.set).attributeU32(meterAttr.id, id)
    payload.attribute(meterAttr.kbps, new Uint8Array())
    payload.nest(meterAttr.bands, (bands) =>
      bands.nest(0, (band) =>
        band
          .attributeU32(bandAttr.type, meterBandDrop)
          .attributeU32(bandAttr.rate, kbps)
          .attributeU32(bandAttr.burst, burstKb),
      ),
    )
    this.#module.change(`set meter ${id}`, this.#module.families.meter, payload)
    this.#rates.set(id, { kbps, burstKb })
  }

  /** Unknown numbers are no error. @throws DatapathError */
  remove(id: number): void {
    if (this.#max === 0) return
    const payload = this.#module.payload(meterCommand.remove).attributeU32(meterAttr.id, id)
    this.#module.change(`remove meter ${id}`, this.#module.families.meter, payload, ['ENOENT'])
    this.#rates.delete(id)
  }

  /** Also those of an agent before this one. */
  ids(): readonly number[] {
    return [...this.#rates.keys()]
  }

  /** What it has counted; undefined for unknown numbers. @throws DatapathError */
  read(id: number): MeterState | undefined {
    if (id >= this.#max) return undefined
    const payload = this.#module.payload(meterCommand.get).attributeU32(meterAttr.id, id)
    const family = this.#module.families.meter
    const [reply] = this.#module.query(`read meter ${id}`, family, payload, ['ENOENT'])
    return reply === undefined ? undefined : readMeter(attributesOf(reply), this.#rates.get(id))
  }
}

function readMeter(
  attributes: readonly Attribute[],
  rate: MeterRate | undefined,
): MeterState | undefined {
  const bands = findAttribute(attributes, meterAttr.bands)
  const [band] = bands === undefined ? [] : decodeAttributes(bands)
  if (band === undefined) return undefined
  const inBand = decodeAttributes(band.payload)
  const stats = findAttribute(attributes, meterAttr.stats)
  const dropped = findAttribute(inBand, bandAttr.stats)
  return {
    rate,
    seen: stats === undefined ? 0 : readU64(stats, 0),
    dropped: dropped === undefined ? 0 : readU64(dropped, 0),
  }
}
