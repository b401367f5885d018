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
import { etherTypeIpv4, extractKey, protoTcp, protoUdp } from '../../packet/extract.ts'
import { createKey, equalKeys, type FlowKey, fragNone } from '../../packet/flow-key.ts'
import type {
  Capabilities,
  Datapath,
  DatapathCounters,
  FlowId,
  FlowMatch,
  FlowStats,
  InstalledFlow,
  MeterRate,
  MeterState,
  Offload,
  Upcall,
  Vport,
} from '../datapath.ts'
import { readCookie } from './action-read.ts'
import { limits, Receiver, Sender } from './channel.ts'
import { FlowStore } from './flow-store.ts'
import { readKey } from './key.ts'
import { MeterTable } from './meter-table.ts'
import { Module } from './module.ts'
import { readPlainKey } from './plain-key.ts'
import { probeModule } from './probe.ts'
import { messageHeader, packetAttr, packetCommand } from './protocol.ts'
import { VportTable } from './vport-table.ts'
import { WireSender } from './wire.ts'

const debug = createDebug('midonet:datapath')

export interface OvsOptions {
  /** Names the datapath and its link; one of a name in a network namespace. */
  readonly name?: string
}

/** `wakeFd` ends `wait` when 8 bytes are written to it, by any thread; who writes closes it. */
export type OvsDatapath = Datapath & {
  readonly wakeFd: number
  /** Makes an interface of the host's own: what it sends comes in here. @throws DatapathError */
  addInternalPort(interfaceName: string): Vport
}

/** Opens the datapath of the thread's network namespace. @throws DatapathError */
export function openOvsDatapath({ name = 'midonet' }: OvsOptions = {}): OvsDatapath {
  const module = new Module(name)
  const sender = new Sender()
  const receiver = new Receiver(sender.fd)
  let wire: WireSender | undefined
  try {
    wire = new WireSender()
    const ports = new VportTable(name, module, receiver)
    return new KernelDatapath({ module, sender, receiver, ports, wire })
  } catch (error) {
    wire?.close()
    receiver.close()
    sender.close()
    module.close()
    throw error
  }
}

type Handler = (upcall: Upcall) => void

interface Parts {
  readonly module: Module
  readonly sender: Sender
  readonly receiver: Receiver
  readonly ports: VportTable
  readonly wire: WireSender
}

class KernelDatapath implements OvsDatapath {
  readonly kind = 'ovs'
  readonly capabilities: Capabilities
  readonly features: readonly string[]
  readonly wakeFd: number

  readonly #module: Module
  readonly #receiver: Receiver
  readonly #ports: VportTable
  readonly #sender: Sender
  readonly #wire: WireSender
  readonly #flows: FlowStore
  readonly #meters: MeterTable
  /** The key as the packet's bytes say it, and as the kernel does. */
  readonly #key = createKey()
  readonly #told = createKey()
  /** Sockets that the last wait found ready. */
  #waiting: readonly number[] | undefined
  #handler: Handler | undefined
  #upcalls = 0
  #handled = 0

  constructor({ module, sender, receiver, ports, wire }: Parts) {
    this.#module = module
    this.#sender = sender
    this.#receiver = receiver
    this.#ports = ports
    this.#wire = wire
    this.wakeFd = receiver.wakeFd
    const { capabilities, features, metersMax } = probeModule(module)
    this.capabilities = capabilities
    this.features = features
    this.#flows = new FlowStore({
      module,
      sender,
      portId: (vport) => ports.portId(vport),
      wire,
      wireOf: (vport) => ports.wireOf(vport),
    })
    const highestVport = Math.max(0, ...ports.list().map(({ number }) => number))
    this.#meters = new MeterTable(module, metersMax, highestVport)
    debug('%d ports and %d flows found', ports.list().length, this.#flows.records.size)
  }

  addPort(interfaceName: string): Vport {
    return this.#ports.add(interfaceName)
  }

  addInternalPort(interfaceName: string): Vport {
    return this.#ports.addInternal(interfaceName)
  }

  removePort(number: number): void {
    // Its socket's number may be another's soon.
    this.#waiting = undefined
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

  statsOf(ids: readonly FlowId[]): readonly (FlowStats | undefined)[] {
    return this.#flows.statsOf(ids)
  }

  *flows(): Iterable<InstalledFlow> {
    for (const flow of this.#flows.all()) {
      for (const action of flow.actions ?? [])
        if (action.kind === 'meter') this.#meters.adopt(action.id)
      yield flow
    }
  }

  setMeter(id: number, rate: MeterRate): void {
    this.#meters.set(id, rate)
  }

  removeMeter(id: number): void {
    this.#meters.remove(id)
  }

  meters(): readonly number[] {
    return this.#meters.ids()
  }

  meter(id: number): MeterState | undefined {
    return this.#meters.read(id)
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
    this.#handler = handle
    let sockets = this.#waiting ?? this.#ready(0, false)
    this.#waiting = undefined
    for (let left = budget; left > 0 && sockets.length > 0; ) {
      const each = sockets.length === 1 ? limits.perVport : limits.perVportShared
      const count = this.#round(sockets, Math.min(left, each), left)
      left -= count
      // Every system call counts where packets come singly: what comes now, the next wait finds.
      if (count < sockets.length * each) break
      sockets = this.#ready(0, false)
    }
    return this.#handled
  }

  /** Up to `each` messages from each socket; says how many there were. */
  #round(sockets: readonly number[], each: number, budget: number): number {
    return this.#flows.batch(() => {
      let count = 0
      for (const fd of sockets) {
        if (count >= budget) break
        count += this.#receiver.receive(fd, Math.min(each, budget - count), this.#take)
        // The next socket's messages come to the same place.
        this.#flows.sendReceived()
      }
      return count
    })
  }

  #ready(timeoutMs: number, readsWake: boolean): readonly number[] {
    const sockets = this.#receiver.ready(timeoutMs, readsWake)
    if (this.#receiver.hasRefusals) this.#flows.listen()
    return sockets
  }

  wait(timeoutMs: number): void {
    this.#flows.flush()
    const sockets = this.#ready(Math.max(0, Math.ceil(timeoutMs)), true)
    this.#waiting = sockets.length === 0 ? undefined : sockets
  }

  counters(): DatapathCounters {
    const { misses, lost } = this.#module.stats()
    const { size: flows, masks } = this.#flows.records
    const { overruns } = this.#receiver
    return { flows, masks: masks.size, upcalls: this.#upcalls, lost, overruns, misses }
  }

  close(): void {
    this.#flows.flush()
    this.#ports.close()
    this.#wire.close()
    this.#sender.close()
    this.#receiver.close()
    this.#module.close()
  }

  /** One message: the packet, the kernel's key of it, and the cookie of the action if one sent it. */
  readonly #take = (start: number, end: number): void => {
    const { address, bytes, words } = this.#receiver.memory
    if (((words[(start >>> 2) + 1] ?? 0) & 0xffff) !== this.#module.families.packet) return
    let packet: Uint8Array | undefined
    let cookie: Uint8Array | undefined
    let complete = false
    for (let at = start + messageHeader; at + 4 <= end; ) {
      const head = words[at >>> 2] ?? 0
      const size = head & 0xffff
      if (size < 4 || at + size > end) break
      const type = (head >>> 16) & 0x3fff
      if (type === packetAttr.packet) {
        packet = this.#receiver.part(at + 4, size - 4)
        this.#flows.hold(packet, address + at + 4)
      } else if (type === packetAttr.userdata) cookie = bytes.subarray(at + 4, at + size)
      else if (type === packetAttr.key)
        complete =
          readPlainKey(words, at + 4, at + size, this.#told) ||
          readKey(bytes, at + 4, at + size, false, this.#told)
      at += (size + 3) & ~3
    }
    const handle = this.#handler
    if (packet === undefined || handle === undefined) return
    this.#flows.isUrgent = this.#receiver.together === 1
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
    const [own, told] = [this.#key, this.#told]
    const isAlike = complete && isReadAlike(packet, told)
    if (!isAlike) {
      if (!extractKey(packet, told[0] ?? 0, own)) return
      own[1] = told[1] ?? 0
      own[2] = told[2] ?? 0
      own[3] = (own[3] ?? 0) | ((told[3] ?? 0) & 0xffff_0000)
      own[5] = (own[5] ?? 0) | ((told[5] ?? 0) & 0xffff_0000)
    }
    this.#upcalls++
    this.#handled++
    // The kernel reads the packet as we do: flows for it match what we think they match.
    const keyComplete = isAlike || (complete && equalKeys(own, told))
    handle({ reason, packet, key: isAlike ? told : own, keyComplete, offload: undefined })
  }
}

/**
 * Whether we would read of a packet what the kernel has: it is whole TCP or UDP over IPv4 without
 * options, as nearly all are. Reading it all the same costs half as much as simulating it.
 */
function isReadAlike(packet: Uint8Array, key: FlowKey): boolean {
  const above = key[9] ?? 0
  if (key[8] !== etherTypeIpv4 || above >>> 24 !== fragNone || packet[14] !== 0x45) return false
  const protocol = above & 0xff
  if (protocol === protoUdp) return packet.length >= 42
  // The kernel reads nothing of TCP whose options are cut off: net/openvswitch/flow.c, tcphdr_ok.
  const words = (packet[46] ?? 0) >>> 4
  return protocol === protoTcp && words >= 5 && packet.length >= 34 + words * 4
}
