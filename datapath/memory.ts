/**
 * A datapath in memory, for tests: packets go in by `inject` and come out in `sent`. It keeps the
 * interface's promises with plain maps and the reference interpreter of actions.
 */
import { type Action, actionDepth, actionDepthMax } from '../packet/action.ts'
import { applyActions, type Tunnel } from '../packet/apply.ts'
import { extractKey } from '../packet/extract.ts'
import { createKey, type FlowKey } from '../packet/flow-key.ts'
import {
  arePlain,
  type Datapath,
  type DatapathCounters,
  DatapathError,
  type FlowId,
  type FlowMatch,
  type FlowStats,
  type InstalledFlow,
  type MeterRate,
  type MeterState,
  missingCapability,
  type Offload,
  type Upcall,
  type Vport,
} from './datapath.ts'
import { MatchTable } from './match-table.ts'

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
  readonly tunnel?: Tunnel
}

/** What a frame out of a tunnel says: `tunnelId` and `tunnelSrc` of its key. */
export interface Origin {
  readonly id: number
  readonly src: number
}

export class MemoryDatapath implements Datapath {
  readonly kind = 'memory'
  readonly capabilities = { meter: true, clone: true, checkPacketLength: true, ct: false }
  readonly features = []
  /** Every frame sent so far, oldest first; tests may empty it. */
  readonly sent: SentFrame[] = []

  readonly #options: Required<MemoryDatapathOptions>
  readonly #ports = new Map<number, Vport>()
  readonly #numbers = new Map<string, number>()
  readonly #missing = new Set<string>()
  readonly #matches = new MatchTable()
  /** By id: actions, and packets, bytes, time of the last packet. */
  readonly #actions: (readonly Action[] | undefined)[] = []
  readonly #stats: number[] = []
  readonly #freeIds: FlowId[] = []
  /** By id: the how manieth flow it was. */
  readonly #serials: number[] = []
  #serial = 0
  readonly #queue: Upcall[] = []
  /** `fullAt`: bits in the bucket at `sinceMs`. */
  readonly #meters = new Map<number, MeterRate & { fullAt: number; sinceMs: number }>()
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
  inject(interfaceName: string, frame: Uint8Array, origin?: Origin): void {
    const port = this.ports().find(({ name }) => name === interfaceName)
    if (port === undefined)
      throw new DatapathError('ENODEV', `${interfaceName} is not in the datapath: add it first`)
    const key = createKey()
    if (!extractKey(frame, port.number, key)) return
    noteOrigin(key, origin)
    const id = this.#lookup(key)
    if (id === undefined) {
      this.#misses++
      this.#upcall('miss', frame, key)
      return
    }
    this.#count(id, frame.length)
    this.#run(frame, port.number, this.#actions[id] ?? [], { origin })
  }

  addPort(interfaceName: string): Vport {
    if (this.#missing.has(interfaceName))
      throw new DatapathError('ENODEV', `no interface ${interfaceName}: create it first`)
    // An interface keeps its number while it lives, also when it leaves the datapath in between.
    const number = this.#numbers.get(interfaceName) ?? this.#nextNumber++
    const known = this.#ports.get(number)
    if (known !== undefined) return known
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

  install(match: FlowMatch, actions: readonly Action[]): FlowId {
    const { actionsMax, flowsMax, masksMax } = this.#options
    const matches = this.#matches
    if (actions.length > actionsMax)
      throw new DatapathError('E2BIG', `${actions.length} actions: execute instead of installing`)
    if (!arePlain(actions)) this.#checkActions(actions)
    const isFull = matches.size >= flowsMax || matches.masks.size >= masksMax
    if (isFull && matches.find(match) === undefined) this.#checkRoom(match)
    const free = this.#freeIds.pop() ?? this.#nextFlow++
    const id = matches.findOrAdd(match, free)
    if (id !== free) {
      this.#actions[id] = actions
      this.#freeIds.push(free)
      return id
    }
    this.#actions[id] = actions
    this.#serials[id] = this.#serial++
    const at = id * 3
    this.#stats[at] = 0
    this.#stats[at + 1] = 0
    this.#stats[at + 2] = Number.NEGATIVE_INFINITY
    return id
  }

  #checkActions(actions: readonly Action[]): void {
    const missing = missingCapability(actions, this.capabilities)
    if (missing !== undefined || actionDepth(actions) > actionDepthMax)
      throw new DatapathError(
        'EOPNOTSUPP',
        `no ${missing ?? 'deeper lists'} in this datapath: send the packet to the agent instead`,
      )
  }

  #checkRoom({ mask }: FlowMatch): void {
    const { size, masks } = this.#matches
    if (size >= this.#options.flowsMax)
      throw new DatapathError('ENOSPC', `${size} flows: remove some first`)
    if (masks.find(mask) === undefined)
      throw new DatapathError('E2BIG', `${masks.size} masks: execute instead`)
  }

  remove(id: FlowId): void {
    if (!this.#matches.has(id)) return
    this.#matches.remove(id)
    this.#actions[id] = undefined
    this.#freeIds.push(id)
  }

  stats(id: FlowId): FlowStats | undefined {
    if (!this.#matches.has(id)) return undefined
    const [packets = 0, bytes = 0, usedAt = 0] = this.#stats.slice(id * 3, id * 3 + 3)
    return { packets, bytes, idleMs: this.#options.now() - usedAt }
  }

  statsOf(ids: readonly FlowId[]): readonly (FlowStats | undefined)[] {
    return ids.map((id) => this.stats(id))
  }

  /** Oldest first. */
  *flows(): Iterable<InstalledFlow> {
    const serials = this.#serials
    const ids = [...this.#actions.keys()].filter((id) => this.#matches.has(id))
    for (const id of ids.sort((a, b) => (serials[a] ?? 0) - (serials[b] ?? 0))) {
      const [actions, stats] = [this.#actions[id], this.stats(id)]
      if (actions === undefined || stats === undefined) continue
      const match = { key: createKey(), mask: createKey() }
      this.#matches.read(id, match)
      yield { id, ...match, actions, stats }
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

  meter(id: number): MeterState | undefined {
    const meter = this.#meters.get(id)
    return meter && { rate: { kbps: meter.kbps, burstKb: meter.burstKb } }
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
    this.#run(packet, inPort, actions)
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
      flows: this.#matches.size,
      masks: this.#matches.masks.size,
      upcalls: this.#upcalls,
      lost: this.#lost,
      misses: this.#misses,
    }
  }

  close(): void {}

  #lookup(key: FlowKey): FlowId | undefined {
    for (const mask of this.#matches.masks.all) {
      const id = this.#matches.findUnder(mask, key)
      if (id !== undefined) return id
    }
    return undefined
  }

  #count(id: FlowId, size: number): void {
    const at = id * 3
    this.#stats[at] = (this.#stats[at] ?? 0) + 1
    this.#stats[at + 1] = (this.#stats[at + 1] ?? 0) + size
    this.#stats[at + 2] = this.#options.now()
  }

  /** Without `upcalls` nothing is for the agent. */
  #run(
    frame: Uint8Array,
    inPort: number,
    actions: readonly Action[],
    upcalls?: { readonly origin: Origin | undefined },
  ): void {
    const toAgent = (packet: Uint8Array): void => {
      const key = createKey()
      if (upcalls === undefined || !extractKey(packet, inPort, key)) return
      noteOrigin(key, upcalls.origin)
      this.#upcall('action', packet, key)
    }
    // As the kernel does, a frame to a port that has gone is dropped.
    const meter = (id: number, size: number): boolean => this.#passMeter(id, size)
    for (const sent of applyActions(frame, actions, toAgent, meter))
      if (this.#ports.has(sent.port)) this.sent.push(sent)
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
}

function noteOrigin(key: FlowKey, origin: Origin | undefined): void {
  key[1] = origin?.id ?? 0
  key[2] = origin?.src ?? 0
}
