/** A forwarder over a datapath in memory, with a clock of its own, for tests. */

import type { Datapath } from '../../datapath/datapath.ts'
import {
  MemoryDatapath,
  type MemoryDatapathOptions,
  type Origin,
  type SentFrame,
} from '../../datapath/memory.ts'
import { extractKey } from '../../packet/extract.ts'
import { createKey } from '../../packet/flow-key.ts'
import type { UnderlayAddress } from '../../packet/tunnel-source.ts'
import { Forwarder } from '../../simulator/forwarder.ts'
import { stateKey } from '../../simulator/peers.ts'
import { noDevices } from '../../simulator/tunnels.ts'
import { type Kind, type ObjectOf, schemas } from '../../topology/model.ts'
import type { Change, ChangeBatch } from '../../topology/store.ts'

export const host = 'host-1'

/** An object to be put: its kind and value. */
export type Item = { [K in Kind]: { readonly kind: K; readonly value: ObjectOf<K> } }[Kind]

/** A put, checked against the schema so that tests cannot say what no store would hold. */
export function put<K extends Kind>(kind: K, value: ObjectOf<K>): Item {
  // The schema of a kind gives an object of that kind; the index does not show it.
  return { kind, value: schemas[kind].parse(value) } as Item
}

/** The objects of a topology and the batches that change them. */
export class Topology {
  readonly #objects = new Map<string, Item>()
  #revision = 0

  /** Puts all items in one batch. */
  put(...items: readonly Item[]): ChangeBatch {
    return this.#batch(items.map((item) => this.#putOne(item)))
  }

  remove(kind: Kind, id: string): ChangeBatch {
    const before = this.#objects.get(`${kind} ${id}`)
    this.#objects.delete(`${kind} ${id}`)
    if (before === undefined) return this.#batch([])
    return this.#batch([change(before, id, undefined, before.value)])
  }

  get<K extends Kind>(kind: K, id: string): ObjectOf<K> | undefined {
    // Keys are made of the kind, so what is found is of the kind.
    return this.#objects.get(`${kind} ${id}`)?.value as ObjectOf<K> | undefined
  }

  list<K extends Kind>(kind: K): ObjectOf<K>[] {
    const found = [...this.#objects.values()].filter((item) => item.kind === kind)
    return found.map(({ value }) => value as ObjectOf<K>)
  }

  /** All objects as one batch, as an agent that starts gets them. */
  snapshot(): ChangeBatch {
    return this.#batch(
      [...this.#objects.values()].map((item) => change(item, item.value.id, item.value, undefined)),
    )
  }

  #putOne(item: Item): Change {
    const key = `${item.kind} ${item.value.id}`
    const before = this.#objects.get(key)?.value
    this.#objects.set(key, item)
    return change(item, item.value.id, item.value, before)
  }

  #batch(changes: readonly Change[]): ChangeBatch {
    return { revision: ++this.#revision, changes }
  }
}

function change(
  { kind }: Item,
  id: string,
  value: Item['value'] | undefined,
  before: Item['value'] | undefined,
): Change {
  // Values under one key are of one kind.
  return { kind, id, value, before } as Change
}

/** A frame that left by an interface; by a tunnel's with a header. */
export interface Sent extends Omit<SentFrame, 'port'> {
  readonly interface: string
}

export interface WorldOptions extends MemoryDatapathOptions {
  readonly flowLimit?: number
  /** Puts something between forwarder and datapath. */
  readonly between?: (datapath: MemoryDatapath) => Datapath
}

export class World {
  nowMs = 1_000_000
  readonly topology = new Topology()
  /** What the underlay's paths to other hosts carry. */
  readonly paths = new Map<UnderlayAddress, number>()
  readonly datapath: MemoryDatapath
  forwarder: Forwarder
  readonly #flowLimit: number | undefined
  readonly #forwarded: Datapath
  #isDead = false
  readonly #names = new Map<number, string>()

  constructor(options: WorldOptions = {}) {
    this.datapath = new MemoryDatapath({ ...options, now: () => this.nowMs })
    this.#flowLimit = options.flowLimit
    this.#forwarded = options.between?.(this.datapath) ?? this.datapath
    this.forwarder = this.#start()
  }

  #start(): Forwarder {
    const limit = this.#flowLimit === undefined ? {} : { flowLimit: this.#flowLimit }
    const now = () => this.nowMs
    const tunnels = { ...noDevices, pathMtu: (to: UnderlayAddress) => this.paths.get(to) ?? 0 }
    return new Forwarder({ datapath: this.#forwarded, host, now, epoch: 1, tunnels, ...limit })
  }

  put(...items: readonly Item[]): void {
    const batch = this.topology.put(...items)
    if (!this.#isDead) this.forwarder.apply(batch)
  }

  remove(kind: Kind, id: string): void {
    const batch = this.topology.remove(kind, id)
    if (!this.#isDead) this.forwarder.apply(batch)
  }

  /**
   * As if the agent had died and a new one had started over the same datapath; with `isRemembered`
   * after it had written down what it knew of connections.
   */
  restart(meanwhile: () => void = () => undefined, isRemembered = false): void {
    const [thenMs, pages] = [this.nowMs, isRemembered ? [...this.forwarder.statePages()] : []]
    this.#isDead = true
    meanwhile()
    this.#isDead = false
    this.forwarder = this.#start()
    this.forwarder.apply(this.topology.snapshot())
    this.forwarder.adopt(isRemembered ? { pages, agoMs: this.nowMs - thenMs } : undefined)
  }

  /** Receives a frame on an interface, handles it, and says what left. */
  send(interfaceName: string, frame: Uint8Array, origin?: Origin): Sent[] {
    this.datapath.inject(interfaceName, frame, origin)
    while (this.forwarder.round(64) > 0);
    return this.takeSent()
  }

  /** Lets time pass in steps, as the worker's loop does. */
  wait(ms: number, stepMs = 100): Sent[] {
    for (let left = ms; left > 0; left -= stepMs) {
      this.nowMs += Math.min(stepMs, left)
      this.forwarder.tick()
      this.forwarder.round(64)
    }
    return this.takeSent()
  }

  /** The interface of a vport, also of one that has gone. */
  nameOf(vport: number): string {
    for (const { number, name } of this.datapath.ports()) this.#names.set(number, name)
    return this.#names.get(vport) ?? `vport ${vport}`
  }

  /** What left, but for what agents tell each other of flow state. */
  takeSent(): Sent[] {
    return this.datapath.sent
      .splice(0)
      .filter(({ tunnel }) => tunnel?.id !== stateKey)
      .map(({ port, ...rest }) => ({ interface: this.nameOf(port), ...rest }))
  }
}

/** The key of a frame. */
export function keyOf(frame: Uint8Array, inPort = 0): Uint32Array {
  const key = createKey()
  extractKey(frame, inPort, key)
  return key
}
