/**
 * A datapath in memory, for tests: packets go in by `inject` and come out in `sent`. It keeps the
 * interface's promises with plain maps and the reference interpreter of actions.
 */
import type { Action } from '../packet/action.ts'
import { applyActions } from '../packet/apply.ts'
import { extractKey } from '../packet/extract.ts'
import { createKey, equalKeys, type FlowKey, maskKey } from '../packet/flow-key.ts'
import {
  type Datapath,
  type DatapathCounters,
  DatapathError,
  type FlowId,
  type FlowMatch,
  type FlowStats,
  type InstalledFlow,
  type MeterRate,
  type Offload,
  type Upcall,
  type Vport,
} from './datapath.ts'

export interface MemoryDatapathOptions {
  /** Milliseconds; only differences matter. */
  readonly now?: () => number
  /** Flows beyond which `install` says ENOSPC. */
  readonly flowsMax?: number
  /** Masks beyond which `install` says E2BIG. */
  readonly masksMax?: number
  /** Actions in a flow beyond which `install` says E2BIG. */
  readonly actionsMax?: number
  /** Upcalls waiting beyond which they are lost. */
  readonly queueMax?: number
}

/** A frame that left by a vport. */
export interface SentFrame {
  readonly port: number
  readonly frame: Uint8Array
}

interface Flow {
  readonly id: FlowId
  readonly key: FlowKey
  readonly mask: FlowKey
  actions: readonly Action[]
  packets: number
  bytes: number
  usedAt: number
}

/** Flows of one mask by the text of their masked keys. */
interface Table {
  readonly mask: FlowKey
  readonly flows: Map<string, Flow>
}

export class MemoryDatapath implements Datapath {
  readonly kind = 'memory'
  /** Every frame sent so far, oldest first; tests may empty it. */
  readonly sent: SentFrame[] = []

  readonly #options: Required<MemoryDatapathOptions>
  readonly #ports = new Map<number, Vport>()
  readonly #numbers = new Map<string, number>()
  readonly #missing = new Set<string>()
  readonly #tables: Table[] = []
  readonly #flows = new Map<FlowId, Flow>()
  readonly #queue: Upcall[] = []
  /** `fullAt`: bits in the bucket at `sinceMs`. */
  readonly #meters = new Map<number, MeterRate & { fullAt: number; sinceMs: number }>()
  readonly #scratch = createKey()
  #nextFlow = 1
  #nextNumber = 1
  #upcalls = 0
  #lost = 0
  #misses = 0

  constructor(options: MemoryDatapathOptions = {}) {
    this.#options = {
      now: options.now ?? (() => performance.now()),
      flowsMax: options.flowsMax ?? 65_536,
      masksMax: options.masksMax ?? 64,
      actionsMax: options.actionsMax ?? 128,
      queueMax: options.queueMax ?? 4096,
    }
  }

  /** As if the kernel had lost this interface, and its vport with it. */
  loseInterface(name: string): void {
    this.#missing.add(name)
    const number = this.#numbers.get(name)
    if (number !== undefined) this.#ports.delete(number)
    this.#numbers.delete(name)
  }

  /** As if a lost interface were there again, with a new vport number when taken in. */
  gainInterface(name: string): void {
    this.#missing.delete(name)
  }

  /** As if an interface that is a vport received a frame. @throws DatapathError `ENODEV` */
  inject(interfaceName: string, frame: Uint8Array): void {
    const port = this.ports().find(({ name }) => name === interfaceName)
    if (port === undefined)
      throw new DatapathError('ENODEV', `${interfaceName} is not in the datapath: add it first`)
    const key = createKey()
    if (!extractKey(frame, port.number, key)) return
    const flow = this.#lookup(key)
    if (flow === undefined) {
      this.#misses++
      this.#upcall('miss', frame, key)
      return
    }
    flow.packets++
    flow.bytes += frame.length
    flow.usedAt = this.#options.now()
    this.#run(frame, port.number, flow.actions, true)
  }

  addPort(interfaceName: string): Vport {
    if (this.#missing.has(interfaceName))
      throw new DatapathError('ENODEV', `no interface ${interfaceName}: create it first`)
    const known = this.ports().find(({ name }) => name === interfaceName)
    if (known !== undefined) return known
    // An interface keeps its number while it lives, also when it leaves the datapath in between.
    const number = this.#numbers.get(interfaceName) ?? this.#nextNumber++
    const vport = { number, name: interfaceName }
    this.#numbers.set(interfaceName, number)
    this.#ports.set(number, vport)
    return vport
  }

  removePort(number: number): void {
    this.#ports.delete(number)
  }

  ports(): readonly Vport[] {
    return [...this.#ports.values()]
  }

  install({ key, mask }: FlowMatch, actions: readonly Action[]): FlowId {
    if (actions.length > this.#options.actionsMax)
      throw new DatapathError('E2BIG', `${actions.length} actions: execute instead of installing`)
    const known = this.#tables.find((table) => equalKeys(table.mask, mask))
    const masked = createKey()
    maskKey(key, mask, masked)
    const text = masked.join()
    const flow = known?.flows.get(text)
    if (flow !== undefined) {
      flow.actions = structuredClone(actions)
      return flow.id
    }
    if (this.#flows.size >= this.#options.flowsMax)
      throw new DatapathError('ENOSPC', `${this.#flows.size} flows: remove some first`)
    const table = known ?? this.#addTable(mask)
    const fresh = {
      id: this.#nextFlow++,
      key: masked,
      mask: table.mask,
      actions: structuredClone(actions),
      packets: 0,
      bytes: 0,
      usedAt: Number.NEGATIVE_INFINITY,
    }
    table.flows.set(text, fresh)
    this.#flows.set(fresh.id, fresh)
    return fresh.id
  }

  remove(id: FlowId): void {
    const flow = this.#flows.get(id)
    if (flow === undefined) return
    this.#flows.delete(id)
    const index = this.#tables.findIndex(({ mask }) => mask === flow.mask)
    const table = this.#tables[index]
    table?.flows.delete(flow.key.join())
    if (table?.flows.size === 0) this.#tables.splice(index, 1)
  }

  stats(id: FlowId): FlowStats | undefined {
    const flow = this.#flows.get(id)
    if (flow === undefined) return undefined
    const idleMs = this.#options.now() - flow.usedAt
    return { packets: flow.packets, bytes: flow.bytes, idleMs }
  }

  *flows(): Iterable<InstalledFlow> {
    for (const { id, key, mask, actions } of [...this.#flows.values()]) {
      const stats = this.stats(id)
      if (stats !== undefined) yield { id, key, mask, actions, stats }
    }
  }

  setMeter(id: number, rate: MeterRate): void {
    const { fullAt, sinceMs } = this.#meters.get(id) ?? { fullAt: 0, sinceMs: this.#options.now() }
    this.#meters.set(id, { ...rate, fullAt, sinceMs })
  }

  removeMeter(id: number): void {
    this.#meters.delete(id)
  }

  meters(): readonly number[] {
    return [...this.#meters.keys()]
  }

  /** A token bucket: whether so many bytes may pass now. */
  #passMeter(id: number, size: number): boolean {
    const meter = this.#meters.get(id)
    if (meter === undefined) return true
    const nowMs = this.#options.now()
    const drained = Math.max(0, meter.fullAt - (nowMs - meter.sinceMs) * meter.kbps)
    meter.sinceMs = nowMs
    meter.fullAt = drained
    if (drained > meter.burstKb * 1000) return false
    meter.fullAt += size * 8
    return true
  }

  execute(
    packet: Uint8Array,
    _offload: Offload | undefined,
    inPort: number,
    actions: readonly Action[],
  ): void {
    this.#run(packet, inPort, actions, false)
  }

  receive(budget: number, handle: (upcall: Upcall) => void): number {
    let count = 0
    while (count < budget) {
      const upcall = this.#queue.shift()
      if (upcall === undefined) break
      count++
      handle(upcall)
    }
    return count
  }

  /** Nothing can arrive while the caller waits, so this returns at once. */
  wait(_timeoutMs: number): void {}

  counters(): DatapathCounters {
    return {
      flows: this.#flows.size,
      masks: this.#tables.length,
      upcalls: this.#upcalls,
      lost: this.#lost,
      misses: this.#misses,
    }
  }

  close(): void {}

  #lookup(key: FlowKey): Flow | undefined {
    for (const { mask, flows } of this.#tables) {
      maskKey(key, mask, this.#scratch)
      const flow = flows.get(this.#scratch.join())
      if (flow !== undefined) return flow
    }
    return undefined
  }

  #run(frame: Uint8Array, inPort: number, actions: readonly Action[], upcalls: boolean): void {
    const toAgent = (packet: Uint8Array): void => {
      const key = createKey()
      if (upcalls && extractKey(packet, inPort, key)) this.#upcall('action', packet, key)
    }
    // As the kernel does, a frame to a port that has gone is dropped.
    const meter = (id: number, size: number): boolean => this.#passMeter(id, size)
    for (const { port, frame: sent } of applyActions(frame, actions, toAgent, meter))
      if (this.#ports.has(port)) this.sent.push({ port, frame: sent })
  }

  #upcall(reason: Upcall['reason'], frame: Uint8Array, key: FlowKey): void {
    if (this.#queue.length >= this.#options.queueMax) {
      this.#lost++
      return
    }
    this.#upcalls++
    const packet = frame.slice()
    this.#queue.push({ reason, packet, key, keyComplete: true, offload: undefined })
  }

  #addTable(mask: FlowKey): Table {
    if (this.#tables.length >= this.#options.masksMax)
      throw new DatapathError('E2BIG', `${this.#tables.length} masks: execute instead`)
    const table = { mask: mask.slice(), flows: new Map<string, Flow>() }
    this.#tables.push(table)
    return table
  }
}
