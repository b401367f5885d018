/**
 * Keeps the datapath's meters as policies say: one for each port of this host whose policy limits
 * bandwidth, under the number of its vport, so that a new agent finds the same.
 */
import { type Datapath, DatapathError, type MeterRate } from '../datapath/datapath.ts'
import type { VirtualPort } from './port.ts'
import { policyOf } from './qos.ts'
import type { Tag } from './tag.ts'
import type { VirtualTopology } from './virtual-topology.ts'

export const limits = {
  /**
   * Of a policy that says no burst: what comes in this time. Linux' TCP stands still for 200 ms when
   * the end of a window is lost, and this lets it make up for that,
   */
  burstMs: 300,
  /** and the longest packet: one still to be cut into segments counts whole in the module. */
  burstKbMin: 528,
} as const

export class Meters {
  readonly #datapath: Datapath
  readonly #topology: VirtualTopology
  /** Meters by number of the vport. */
  readonly #meters = new Map<number, { readonly port: VirtualPort; readonly rate: MeterRate }>()
  /** Why the datapath has none; undefined while it does. */
  #problem: string | undefined

  constructor(datapath: Datapath, topology: VirtualTopology) {
    this.#datapath = datapath
    this.#topology = topology
  }

  get count(): number {
    return this.#meters.size
  }

  get problem(): string | undefined {
    return this.#problem
  }

  /** Makes, changes and removes meters; returns the tags of ports whose packets go another way. */
  sync(): Tag[] {
    const tags: Tag[] = []
    if (!this.#topology.services.hasLimits && this.#meters.size === 0) return tags
    const wanted = new Map<number, VirtualPort>()
    for (const id of this.#topology.bindings.keys()) {
      const port = this.#topology.ports.get(id)
      if (port === undefined || port.vport === 0) continue
      if (policyOf(port)?.bandwidth !== undefined) wanted.set(port.vport, port)
    }
    for (const [vport, { port }] of this.#meters)
      if (wanted.get(vport) !== port) this.#remove(vport, port, tags)
    for (const [vport, port] of wanted) this.#set(vport, port, tags)
    return tags
  }

  /** Removes what an agent before has left and nobody needs; after the first `sync`. */
  removeStrangers(): void {
    for (const id of this.#datapath.meters())
      if (!this.#meters.has(id)) this.#datapath.removeMeter(id)
  }

  #set(vport: number, port: VirtualPort, tags: Tag[]): void {
    const bandwidth = policyOf(port)?.bandwidth
    if (bandwidth === undefined) return
    const { kbps } = bandwidth
    const burstMin = Math.max(limits.burstKbMin, Math.ceil((kbps * limits.burstMs) / 1000))
    const rate = { kbps, burstKb: bandwidth.burstKb ?? burstMin }
    const known = this.#meters.get(vport)?.rate
    if (known?.kbps === rate.kbps && known.burstKb === rate.burstKb) return
    try {
      this.#datapath.setMeter(vport, rate)
    } catch (error) {
      if (!(error instanceof DatapathError)) throw error
      this.#problem = error.message
      return
    }
    this.#problem = undefined
    this.#meters.set(vport, { port, rate })
    if (port.meter !== undefined) return
    port.meter = Object.freeze({ kind: 'meter', id: vport })
    tags.push(port.tag)
  }

  #remove(vport: number, port: VirtualPort, tags: Tag[]): void {
    this.#meters.delete(vport)
    this.#datapath.removeMeter(vport)
    port.meter = undefined
    tags.push(port.tag)
  }
}
