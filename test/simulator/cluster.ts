/**
 * Several hosts in one process, each a forwarder over a datapath in memory, joined by tunnels over a
 * network that loses, repeats and delays; one clock, one topology.
 */
import { MemoryDatapath } from '../../datapath/memory.ts'
import { formatIp } from '../../packet/address.ts'
import { readU32, writeU32 } from '../../packet/bytes.ts'
import { Forwarder } from '../../simulator/forwarder.ts'
import { stateKey } from '../../simulator/peers.ts'
import type { Kind } from '../../topology/model.ts'
import type { ChangeBatch } from '../../topology/store.ts'
import { LossyNetwork, type LossyOptions } from './lossy-network.ts'
import { type Item, put, Topology } from './world.ts'

/** A frame that left the overlay. */
export interface Delivered {
  readonly host: string
  readonly interface: string
  readonly frame: Uint8Array
}

interface Host {
  readonly name: string
  readonly address: number
  readonly datapath: MemoryDatapath
  forwarder: Forwarder
  isDead: boolean
}

const tunnel = 'mt-vxlan'

export class Cluster {
  readonly network: LossyNetwork
  readonly topology = new Topology()
  readonly hosts: readonly Host[]
  readonly delivered: Delivered[] = []
  /** Says what the underlay loses, besides what is lost by chance. */
  isCut: (from: string, to: string, isState: boolean) => boolean = () => false
  /** Messages of flow state sent so far. */
  stateFrames = 0
  #epoch = 1

  constructor(names: readonly string[], options: Partial<LossyOptions> = {}) {
    this.network = new LossyNetwork({ seed: 1, loss: 0, repeat: 0, delayMs: 0, ...options })
    this.hosts = names.map((name, at) => {
      const datapath = new MemoryDatapath({ now: () => this.nowMs })
      const forwarder = this.#start(name, datapath)
      return { name, address: 0xac10_0001 + at, datapath, forwarder, isDead: false }
    })
    for (const host of this.hosts) {
      this.network.deliver(host.name, (bytes) => this.#arrive(host, bytes))
      host.forwarder.adopt()
    }
    this.put(
      put('tunnelZone', { id: 'zone', encapsulation: 'vxlan' }),
      ...names.flatMap((id) => [
        put('host', { id, name: id }),
        put('hostAlive', { id, since: '2026-01-01T00:00:00Z' }),
      ]),
      ...this.hosts.map(({ name, address }) =>
        put('zoneMember', {
          id: `zone_${name}`,
          zone: 'zone',
          host: name,
          address: formatIp(address),
        }),
      ),
    )
    this.run(50)
  }

  get nowMs(): number {
    return 1_000_000 + this.network.nowMs
  }

  host(name: string): Host {
    const found = this.hosts.find((one) => one.name === name)
    if (found === undefined) throw new ReferenceError(`no host ${name}`)
    return found
  }

  put(...items: readonly Item[]): void {
    this.#apply(this.topology.put(...items))
  }

  remove(kind: Kind, id: string): void {
    this.#apply(this.topology.remove(kind, id))
  }

  /** Binds a port to the interface of its name. */
  bind(port: string, host: string): void {
    const known = this.topology.get('binding', port)?.tunnelKey
    const tunnelKey = known ?? this.topology.list('binding').length + 1
    this.put(put('binding', { id: port, host, interface: port, tunnelKey }))
  }

  /** As if the agent had died and, after a while, another had started over the same datapath. */
  restart(name: string, meanwhile: () => void = () => undefined): void {
    const host = this.host(name)
    host.isDead = true
    meanwhile()
    host.isDead = false
    host.forwarder = this.#start(name, host.datapath)
    host.forwarder.apply(this.topology.snapshot())
    host.forwarder.adopt()
  }

  /** Receives a frame on a port of the overlay, and lets what follows from it happen at once. */
  send(port: string, frame: Uint8Array): void {
    const host = this.host(this.topology.get('binding', port)?.host ?? '')
    host.datapath.inject(port, frame)
    this.#pump()
  }

  /** The same, and what left the overlay until `ms` later. */
  exchange(port: string, frame: Uint8Array, ms = 20): Delivered[] {
    this.delivered.length = 0
    this.send(port, frame)
    this.run(ms)
    return this.delivered.splice(0)
  }

  /** Lets time pass. */
  run(ms: number, stepMs = 5): void {
    for (let left = ms; left > 0; left -= stepMs) {
      this.network.run(Math.min(stepMs, left))
      this.#pump()
      for (const { forwarder, isDead } of this.hosts) if (!isDead) forwarder.tick()
      this.#pump()
    }
  }

  #start(name: string, datapath: MemoryDatapath): Forwarder {
    return new Forwarder({ datapath, host: name, now: () => this.nowMs, epoch: this.#epoch++ })
  }

  #apply(batch: ChangeBatch): void {
    for (const { forwarder, isDead } of this.hosts) if (!isDead) forwarder.apply(batch)
  }

  #pump(): void {
    for (const host of this.hosts) {
      while (!host.isDead && host.forwarder.round(64) > 0);
      for (const { port, frame, tunnel: header } of host.datapath.sent.splice(0)) {
        if (header === undefined) this.#leave(host, port, frame)
        else this.#encapsulate(host, header, frame)
      }
    }
  }

  #leave(host: Host, vport: number, frame: Uint8Array): void {
    const found = host.datapath.ports().find(({ number }) => number === vport)
    this.delivered.push({ host: host.name, interface: found?.name ?? '', frame })
  }

  #encapsulate(
    host: Host,
    { id, dst, src }: { readonly id: number; readonly dst: unknown; readonly src: unknown },
    frame: Uint8Array,
  ): void {
    const to = this.hosts.find(({ address }) => address === dst)
    if (id === stateKey) this.stateFrames++
    if (to === undefined || src !== host.address) return
    if (this.isCut(host.name, to.name, id === stateKey)) return
    const bytes = new Uint8Array(8 + frame.length)
    writeU32(bytes, 0, id)
    writeU32(bytes, 4, host.address)
    bytes.set(frame, 8)
    this.network.send(to.name, bytes, id !== stateKey)
  }

  #arrive({ datapath }: Host, bytes: Uint8Array): void {
    const header = { id: readU32(bytes, 0), src: readU32(bytes, 4) }
    if (datapath.ports().some(({ name }) => name === tunnel))
      datapath.inject(tunnel, bytes.slice(8), header)
  }
}
