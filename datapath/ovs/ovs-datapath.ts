/**
 * The datapath of Open vSwitch's kernel module, owned by this process alone: no other program of
 * Open vSwitch runs. The datapath, its vports and flows stay when the process ends, and are
 * adopted by the next.
 *
 * The kernel hands over packets whole: it cuts segments and completes checksums first, so there is
 * never an offload to pass on.
 */
import createDebug from 'debug'
import type { Action } from '../../packet/action.ts'
import { extractKey } from '../../packet/extract.ts'
import { createKey, type FlowKey, keyWords } from '../../packet/flow-key.ts'
import type {
  Datapath,
  DatapathCounters,
  FlowId,
  FlowMatch,
  FlowStats,
  InstalledFlow,
  MeterRate,
  Offload,
  Upcall,
  Vport,
} from '../datapath.ts'
import { readCookie } from './action.ts'
import { Receiver, Sender } from './channel.ts'
import { FlowStore } from './flow-store.ts'
import { readKey } from './key.ts'
import { MeterTable } from './meter-table.ts'
import { Module } from './module.ts'
import { messageHeader, packetAttr, packetCommand } from './protocol.ts'
import { VportTable } from './vport-table.ts'

const debug = createDebug('midonet:datapath')

export interface OvsOptions {
  /** Names the datapath and its link; one of a name in a network namespace. */
  readonly name?: string
}

/** `wakeFd` ends `wait` when 8 bytes are written to it, by any thread; who writes closes it. */
export type OvsDatapath = Datapath & {
  readonly wakeFd: number
  /** Times that a socket for upcalls was full. */
  readonly overruns: number
}

/** Opens the datapath of the thread's network namespace. @throws DatapathError */
export function openOvsDatapath({ name = 'midonet' }: OvsOptions = {}): OvsDatapath {
  const module = new Module(name)
  const receiver = new Receiver()
  try {
    return new KernelDatapath(module, receiver, new VportTable(name, module, receiver))
  } catch (error) {
    receiver.close()
    module.close()
    throw error
  }
}

type Handler = (upcall: Upcall) => void

class KernelDatapath implements OvsDatapath {
  readonly kind = 'ovs'
  readonly wakeFd: number

  readonly #module: Module
  readonly #receiver: Receiver
  readonly #ports: VportTable
  readonly #meters: MeterTable
  readonly #sender = new Sender()
  readonly #flows: FlowStore
  /** The key as the packet's bytes say it, and as the kernel does. */
  readonly #key = createKey()
  readonly #told = createKey()
  #upcalls = 0
  #handled = 0

  constructor(module: Module, receiver: Receiver, ports: VportTable) {
    this.#module = module
    this.#receiver = receiver
    this.#ports = ports
    this.#meters = new MeterTable(module)
    this.wakeFd = receiver.wakeFd
    const portId = (vport: number): number => ports.portId(vport)
    this.#flows = new FlowStore({ module, sender: this.#sender, portId })
    debug('%d ports and %d flows found', ports.list().length, this.#flows.records.size)
  }

  get overruns(): number {
    return this.#receiver.overruns
  }

  addPort(interfaceName: string): Vport {
    return this.#ports.add(interfaceName)
  }

  removePort(number: number): void {
    this.#ports.remove(number)
  }

  ports(): readonly Vport[] {
    return this.#ports.list()
  }

  install(match: FlowMatch, actions: readonly Action[]): FlowId {
    return this.#flows.install(match, actions)
  }

  remove(id: FlowId): void {
    this.#flows.remove(id)
  }

  stats(id: FlowId): FlowStats | undefined {
    return this.#flows.stats(id)
  }

  flows(): Iterable<InstalledFlow> {
    return this.#flows.all()
  }

  setMeter(id: number, rate: MeterRate): void {
    this.#meters.set(id, rate)
  }

  removeMeter(id: number): void {
    this.#meters.remove(id)
  }

  meters(): readonly number[] {
    const numbers = this.#ports.list().map(({ number }) => number)
    return this.#meters.list(Math.max(0, ...numbers))
  }

  execute(
    packet: Uint8Array,
    _offload: Offload | undefined,
    inPort: number,
    actions: readonly Action[],
  ): void {
    this.#flows.execute(packet, inPort, actions)
  }

  receive(budget: number, handle: Handler): number {
    this.#handled = 0
    for (let left = budget; left > 0; ) {
      const sockets = this.#receiver.ready(0, false)
      if (sockets.length === 0) break
      left -= this.#flows.batch(() => this.#round(sockets, left, handle))
    }
    return this.#handled
  }

  /** A few messages from each socket. */
  #round(sockets: readonly number[], budget: number, handle: Handler): number {
    const take = (start: number, end: number): void => this.#take(start, end, handle)
    let count = 0
    for (const fd of sockets) {
      if (count >= budget) break
      count += this.#receiver.receive(fd, budget - count, take)
    }
    // A socket that was ready and gave nothing must not keep us here.
    return Math.max(1, count)
  }

  wait(timeoutMs: number): void {
    this.#flows.flush()
    this.#receiver.ready(Math.max(0, Math.ceil(timeoutMs)), true)
  }

  counters(): DatapathCounters {
    const { misses, lost } = this.#module.stats()
    const { records } = this.#flows
    return { flows: records.size, masks: records.masks.size, upcalls: this.#upcalls, lost, misses }
  }

  close(): void {
    this.#flows.flush()
    this.#ports.close()
    this.#sender.close()
    this.#receiver.close()
    this.#module.close()
  }

  /** One message: the packet, the kernel's key of it, and the cookie of the action if one sent it. */
  #take(start: number, end: number, handle: Handler): void {
    const { bytes } = this.#receiver
    if (((bytes[start + 4] ?? 0) | ((bytes[start + 5] ?? 0) << 8)) !== this.#module.families.packet)
      return
    let packet: Uint8Array | undefined
    let cookie: Uint8Array | undefined
    let complete = false
    for (let at = start + messageHeader; at + 4 <= end; ) {
      const size = (bytes[at] ?? 0) | ((bytes[at + 1] ?? 0) << 8)
      if (size < 4 || at + size > end) break
      const type = ((bytes[at + 2] ?? 0) | ((bytes[at + 3] ?? 0) << 8)) & 0x3fff
      if (type === packetAttr.packet) packet = bytes.subarray(at + 4, at + size)
      else if (type === packetAttr.userdata) cookie = bytes.subarray(at + 4, at + size)
      else if (type === packetAttr.key)
        complete = readKey(bytes, at + 4, at + size, false, this.#told)
      at += (size + 3) & ~3
    }
    if (packet === undefined) return
    const isMiss = bytes[start + 16] === packetCommand.miss
    if (!isMiss && cookie !== undefined && this.#actSlowly(packet, cookie, handle)) return
    this.#handOver(isMiss ? 'miss' : 'action', packet, complete, handle)
  }

  /** Carries out the actions that the kernel could not; false when the cookie holds none. */
  #actSlowly(packet: Uint8Array, cookie: Uint8Array, handle: Handler): boolean {
    const read = readCookie(cookie)
    if (read?.kind !== 'actions') return false
    const inPort = this.#told[0] ?? 0
    this.#flows.executeSlowly(packet, inPort, read.actions, (frame) =>
      this.#handOver('action', frame, false, handle),
    )
    return true
  }

  #handOver(
    reason: Upcall['reason'],
    packet: Uint8Array,
    complete: boolean,
    handle: Handler,
  ): void {
    const [key, told] = [this.#key, this.#told]
    if (!extractKey(packet, told[0] ?? 0, key)) return
    key[1] = told[1] ?? 0
    key[2] = told[2] ?? 0
    this.#upcalls++
    this.#handled++
    const keyComplete = complete && agree(key, told)
    handle({ reason, packet, key, keyComplete, offload: undefined })
  }
}

/** Whether the kernel reads the packet as we do: flows for it match what we think they match. */
function agree(key: FlowKey, told: FlowKey): boolean {
  for (let word = 3; word < keyWords; word++) if (key[word] !== told[word]) return false
  return true
}
