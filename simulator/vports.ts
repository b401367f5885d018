/** Keeps the datapath's ports as the bindings of this host say, and retries what could not be. */
import { type Datapath, DatapathError } from '../datapath/datapath.ts'
import type { Sharing } from './sharing.ts'
import type { Tag } from './tag.ts'
import type { VirtualTopology } from './virtual-topology.ts'

interface Plug {
  readonly interfaceName: string
  /** 0 while the interface does not exist. */
  vport: number
  /** Why it has none. */
  problem: string | undefined
}

/** A binding of this host as it stands; `vport` undefined while its interface does not exist. */
export interface PortStatus {
  readonly port: string
  readonly interface: string
  readonly vport: number | undefined
  /** Why there is no vport. */
  readonly problem: string | undefined
}

export class Vports {
  readonly #datapath: Datapath
  readonly #topology: VirtualTopology
  readonly #sharing: Pick<Sharing, 'putActive'>
  readonly #plugs = new Map<string, Plug>()
  #pending = 0

  constructor(datapath: Datapath, topology: VirtualTopology, sharing: Pick<Sharing, 'putActive'>) {
    this.#datapath = datapath
    this.#topology = topology
    this.#sharing = sharing
  }

  get size(): number {
    return this.#plugs.size
  }

  get pending(): number {
    return this.#pending
  }

  /** Follows bindings that changed. Returns the tags of what that changed for flows. */
  change(ports: readonly string[]): Tag[] {
    const tags: Tag[] = []
    // First what goes: an interface may pass from one port to another.
    for (const id of ports) {
      const plug = this.#plugs.get(id)
      const wanted = this.#topology.bindings.get(id)?.interface
      if (plug === undefined || plug.interfaceName === wanted) continue
      this.#unplug(id, plug, tags)
      this.#plugs.delete(id)
    }
    for (const id of ports) {
      const wanted = this.#topology.bindings.get(id)?.interface
      if (wanted === undefined || this.#plugs.has(id)) continue
      const plug = { interfaceName: wanted, vport: 0, problem: undefined }
      this.#plugs.set(id, plug)
      this.#pending++
      this.#plug(id, plug, tags)
    }
    return tags
  }

  /** Tries again the bindings whose interface did not exist. */
  retry(): Tag[] {
    const tags: Tag[] = []
    if (this.#pending === 0) return tags
    for (const [id, plug] of this.#plugs) if (plug.vport === 0) this.#plug(id, plug, tags)
    return tags
  }

  /** Says of all ports whether they are active. */
  shareAll(): void {
    for (const [id, { vport }] of this.#plugs) this.#sharing.putActive(id, vport !== 0)
  }

  /** Finds vports whose interface has gone. */
  check(): Tag[] {
    const present = new Set(this.#datapath.ports().map(({ number }) => number))
    const tags: Tag[] = []
    for (const [id, plug] of this.#plugs)
      if (plug.vport !== 0 && !present.has(plug.vport)) this.#lose(id, plug, tags)
    return tags
  }

  /** The interface behind a vport has gone; its port waits for another. */
  lose(vport: number): Tag[] {
    const tags: Tag[] = []
    for (const [id, plug] of this.#plugs) if (plug.vport === vport) this.#lose(id, plug, tags)
    return tags
  }

  /** Removes the datapath's ports that no binding names, but for `others`. */
  removeStrangers(others: ReadonlySet<number>): number {
    const known = new Set([...this.#plugs.values()].map(({ vport }) => vport))
    const strangers = this.#datapath
      .ports()
      .filter(({ number }) => !known.has(number) && !others.has(number))
    for (const { number } of strangers) this.#datapath.removePort(number)
    return strangers.length
  }

  status(): PortStatus[] {
    return [...this.#plugs].map(([port, { interfaceName, vport, problem }]) => ({
      port,
      interface: interfaceName,
      vport: vport === 0 ? undefined : vport,
      problem,
    }))
  }

  #plug(id: string, plug: Plug, tags: Tag[]): void {
    try {
      plug.vport = this.#datapath.addPort(plug.interfaceName).number
    } catch (error) {
      // The interface is not there yet, or the kernel does not take it now: tried again later.
      if (!(error instanceof DatapathError)) throw error
      plug.problem = `${error.code}: ${error.message}`
      return
    }
    plug.problem = undefined
    this.#pending--
    tags.push(...this.#topology.setVport(id, plug.vport))
    this.#sharing.putActive(id, true)
  }

  #unplug(id: string, plug: Plug, tags: Tag[]): void {
    if (plug.vport === 0) {
      this.#pending--
      return
    }
    tags.push(...this.#topology.setVport(id, 0))
    this.#sharing.putActive(id, false)
    this.#datapath.removePort(plug.vport)
  }

  #lose(id: string, plug: Plug, tags: Tag[]): void {
    tags.push(...this.#topology.setVport(id, 0))
    this.#sharing.putActive(id, false)
    plug.vport = 0
    plug.problem = 'the interface has gone'
    this.#pending++
  }
}
