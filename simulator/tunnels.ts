/** Keeps tunnel interfaces in the datapath as this host's zones say, and retries what could not be. */
import { type Datapath, DatapathError } from '../datapath/datapath.ts'
import type { UnderlayAddress } from '../packet/tunnel-source.ts'
import type { TunnelNeed } from './peers.ts'
import type { Tag } from './tag.ts'
import type { VirtualTopology } from './virtual-topology.ts'

export const limits = {
  /** Other hosts to which the path is looked at in one check. */
  pathsPerCheck: 32,
} as const

/** Makes tunnel interfaces and removes them. Errors have a `code` and say what to do. */
export interface TunnelDevices {
  /** Makes the interface of that name, or takes the one there is. */
  ensure(name: string, need: TunnelNeed): void
  /** One that is not there is no error. */
  remove(name: string): void
  /** Those there are, also of an agent before this one. */
  list(): readonly string[]
  /** The largest packet that the underlay's path to an address carries; 0 when nobody knows. */
  pathMtu(address: UnderlayAddress): number
}

/** A tunnel as it stands; `vport` undefined while it could not be made. */
export interface TunnelStatus {
  readonly interface: string
  readonly vport: number | undefined
  readonly problem: string | undefined
}

interface Made {
  vport: number
  problem: string | undefined
}

export class Tunnels {
  readonly #datapath: Datapath
  readonly #topology: VirtualTopology
  readonly #devices: TunnelDevices
  readonly #made = new Map<string, Made>()
  /** Whose path is looked at next. */
  #nextPath = 0

  constructor(datapath: Datapath, topology: VirtualTopology, devices: TunnelDevices) {
    this.#datapath = datapath
    this.#topology = topology
    this.#devices = devices
  }

  /** Vports that are tunnels'. */
  get vports(): ReadonlySet<number> {
    return new Set([...this.#made.values()].map(({ vport }) => vport))
  }

  /** Makes what the zones need now and has no vport. Returns the tags of what that changed. */
  sync(): Tag[] {
    const { needs } = this.#topology.peers
    const tags: Tag[] = []
    for (const [name, made] of this.#made) if (!needs.has(name)) this.#remove(name, made)
    for (const [name, need] of needs) {
      const made = this.#made.get(name) ?? { vport: 0, problem: undefined }
      this.#made.set(name, made)
      if (made.vport === 0) this.#make(name, need, made, tags)
    }
    return tags
  }

  /** Finds tunnels whose interface has gone, and makes them again. */
  check(): Tag[] {
    if (this.#made.size === 0) return []
    const tags: Tag[] = []
    const present = new Set(this.#datapath.ports().map(({ number }) => number))
    for (const [name, made] of this.#made) {
      if (made.vport === 0 || present.has(made.vport)) continue
      made.vport = 0
      made.problem = 'the interface has gone'
      tags.push(...this.#topology.setTunnel(name, 0))
    }
    return [...tags, ...this.sync(), ...this.#measurePaths()]
  }

  /** Hears what the kernel has learned of the paths to other hosts where nobody cuts a packet. */
  #measurePaths(): Tag[] {
    const ways = [...this.#topology.peers.ways.values()].filter(
      ({ dst }) => typeof dst === 'bigint',
    )
    const tags: Tag[] = []
    for (let left = Math.min(ways.length, limits.pathsPerCheck); left > 0; left--) {
      const way = ways[this.#nextPath++ % ways.length]
      if (way === undefined) continue
      tags.push(...this.#topology.setPathMtu(way.host, this.#devices.pathMtu(way.dst)))
    }
    return tags
  }

  /** Removes tunnel interfaces of an agent before this one that no zone needs now. */
  removeStrangers(): number {
    const strangers = this.#devices.list().filter((name) => !this.#made.has(name))
    for (const name of strangers) this.#devices.remove(name)
    return strangers.length
  }

  status(): TunnelStatus[] {
    return [...this.#made].map(([name, { vport, problem }]) => ({
      interface: name,
      vport: vport === 0 ? undefined : vport,
      problem,
    }))
  }

  #make(name: string, need: TunnelNeed, made: Made, tags: Tag[]): void {
    try {
      this.#devices.ensure(name, need)
      made.vport = this.#datapath.addPort(name).number
    } catch (error) {
      if (!(error instanceof DatapathError) && !isCoded(error)) throw error
      made.problem = `${error.code}: ${error.message}`
      return
    }
    made.problem = undefined
    tags.push(...this.#topology.setTunnel(name, made.vport))
  }

  #remove(name: string, { vport }: Made): void {
    this.#made.delete(name)
    if (vport !== 0) this.#datapath.removePort(vport)
    this.#devices.remove(name)
  }
}

function isCoded(error: unknown): error is Error & { readonly code: string } {
  return error instanceof Error && typeof Reflect.get(error, 'code') === 'string'
}

/** For datapaths whose interfaces need not be made. */
export const noDevices: TunnelDevices = {
  ensure() {},
  remove() {},
  list: () => [],
  pathMtu: () => 0,
}
