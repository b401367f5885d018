/**
 * The embedded datapath: eBPF programs at the vports, flows in maps that they share with this
 * process. It needs no kernel module beyond what distributions build in, and no compiler.
 *
 * Everything in the kernel outlives the process but the two interfaces to it. What an agent before
 * has left is found through the programs on the interfaces of this network namespace, and adopted.
 */
import createDebug from 'debug'
import type { Action } from '../../packet/action.ts'
import { extractKey } from '../../packet/extract.ts'
import { createKey, readField } from '../../packet/flow-key.ts'
import {
  type Datapath,
  type DatapathCounters,
  DatapathError,
  type FlowId,
  type FlowMatch,
  type FlowStats,
  type InstalledFlow,
  type MeterRate,
  type MeterState,
  type Offload,
  type Upcall,
  type Vport,
} from '../datapath.ts'
import { NetlinkSocket } from '../netlink.ts'
import { decodeTransmitDrops, queryLink, routeProtocol } from '../rtnetlink.ts'
import {
  type Arena,
  arena,
  check,
  close,
  eInterrupted,
  errnoName,
  eventfd,
  poll,
  read,
} from '../syscall.ts'
import { findLeft, type Left } from './adopt.ts'
import { attach, promote } from './attach.ts'
import { FlowStore } from './flow-store.ts'
import { table } from './layout.ts'
import { Programs, raiseMemoryLimit } from './load.ts'
import { closeMaps, createMaps, type Maps } from './maps.ts'
import { MeterTable } from './meter.ts'
import { PortTable } from './port-table.ts'
import { openTap, PacketSender, type Tap, UpcallReader } from './tap.ts'

const debug = createDebug('midonet:datapath')

export interface EbpfOptions {
  /** Names what is ours in the kernel; one datapath of a name in a network namespace. */
  readonly name?: string
  /** A port goes over to tcx when it has been one for so long. */
  readonly promoteAfterMs?: number
}

/**
 * `wakeFd` ends `wait` when 8 bytes are written to it, by any thread. It stays open when the datapath
 * is closed, since another thread may be about to write; who writes to it closes it.
 */
export type EbpfDatapath = Datapath & { readonly wakeFd: number }

/** Opens the datapath of the thread's network namespace. @throws DatapathError */
export function openEbpfDatapath({
  name = 'midonet',
  promoteAfterMs = 5_000,
}: EbpfOptions = {}): EbpfDatapath {
  raiseMemoryLimit()
  const links = new NetlinkSocket(routeProtocol)
  const opened: (() => void)[] = [() => links.close()]
  try {
    // First, since this fails while another agent runs.
    const upcalls = openTap(links, `${name}-up`)
    opened.push(() => close(upcalls.fd))
    const execute = openTap(links, `${name}-in`)
    opened.push(() => close(execute.fd))
    const left = findLeft(links, name)
    const maps = left.maps ?? createMaps()
    opened.push(() => closeMaps(maps))
    const programs = new Programs(name, maps, left.ports)
    opened.push(() => programs.close())
    // Now, since the first port is not to wait for the verifier.
    debug('%s: ports run program %d', name, programs.port.id)
    maps.table.view.setUint32(table.upcallPort, upcalls.index, true)
    const sending = {
      index: execute.index,
      interfaceName: `${name}-in`,
      direction: 'egress',
    } as const
    attach(links, sending, name, programs.execute)
    promote(links, sending, name, programs.execute)
    const parts = { name, promoteAfterMs, links, maps, programs, upcalls, execute, left }
    return new KernelDatapath(parts)
  } catch (error) {
    for (const undo of opened.toReversed()) undo()
    throw error
  }
}

interface Parts {
  readonly name: string
  readonly promoteAfterMs: number
  readonly links: NetlinkSocket
  readonly maps: Maps
  readonly programs: Programs
  readonly upcalls: Tap
  readonly execute: Tap
  readonly left: Left
}

// sys/eventfd.h: EFD_NONBLOCK, EFD_CLOEXEC; poll.h: POLLIN
const eventFlags = 0x800 | 0x80000
const pollIn = 1

class KernelDatapath implements EbpfDatapath {
  readonly kind = 'ebpf'
  /** A clone of outputs only is taken, since it needs no copy. */
  readonly capabilities = { meter: true, clone: false, checkPacketLength: true, ct: false }
  readonly features = ['meters', 'check_pkt_len', 'no clone', 'no ct']
  readonly wakeFd: number

  readonly #parts: Parts
  readonly #ports: PortTable
  readonly #flows: FlowStore
  readonly #meters: MeterTable
  readonly #reader: UpcallReader
  readonly #sender: PacketSender
  readonly #poll: Arena = arena(4096)
  readonly #key = createKey()
  readonly #peerOf = (port: number): number | undefined => this.#ports.peerOf(port)

  constructor(parts: Parts) {
    this.#parts = parts
    const { maps, links, name, promoteAfterMs, programs, left, upcalls, execute } = parts
    this.#flows = new FlowStore(maps, monotonicMs)
    this.#ports = new PortTable({ links, name, promoteAfterMs, programs, ports: maps.byName.ports })
    for (const port of left.ports) this.#ports.adopt(port)
    for (const [port, peer] of this.#flows.peers()) this.#ports.learn(port, peer)
    this.#meters = new MeterTable(maps.byName.meters)
    this.#reader = new UpcallReader(upcalls.fd)
    this.#sender = new PacketSender(execute.index)
    this.wakeFd = check('eventfd', eventfd(eventFlags))
    for (const [index, fd] of [upcalls.fd, this.wakeFd].entries()) {
      this.#poll.view.setInt32(index * 8, fd, true)
      this.#poll.view.setInt16(index * 8 + 4, pollIn, true)
    }
    debug('%s: %d ports and %d flows found', name, left.ports.length, this.#flows.flowCount)
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
    const id = this.#flows.install(match, actions, this.#peerOf)
    for (const port of this.#ports.takeMoved())
      for (const flow of this.#flows.outputsTo(port)) this.#rewrite(flow)
    return id
  }

  /** For a flow whose port's peer has moved since. It works as it is, only not as fast. */
  #rewrite(flow: FlowId): void {
    try {
      this.#flows.rewrite(flow, this.#peerOf)
    } catch (error) {
      if (!(error instanceof DatapathError) || error.code !== 'ENOSPC') throw error
    }
  }

  remove(id: FlowId): void {
    this.#flows.remove(id)
  }

  stats(id: FlowId): FlowStats | undefined {
    return this.#flows.stats(id)
  }

  statsOf(ids: readonly FlowId[]): readonly (FlowStats | undefined)[] {
    return ids.map((id) => this.stats(id))
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
    return this.#meters.ids()
  }

  meter(id: number): MeterState | undefined {
    return this.#meters.read(id)
  }

  execute(
    packet: Uint8Array,
    offload: Offload | undefined,
    _inPort: number,
    actions: readonly Action[],
  ): void {
    this.#flows.prepareExecute(actions)
    const sent = this.#sender.send(packet, offload, this.#reader.addressOf(packet))
    // ENOBUFS and the like: as anywhere in a network, the packet is lost. A broken one is refused.
    if (sent < 0) debug('packet of %d bytes not sent: %s', packet.length, errnoName(-sent))
  }

  receive(budget: number, handle: (upcall: Upcall) => void): number {
    let count = 0
    for (let round = 0; round < budget; round++) {
      const raw = this.#reader.next()
      if (raw === 'none') break
      if (raw === 'noise' || !extractKey(raw.packet, raw.inPort, this.#key)) continue
      this.#key[1] = raw.tunnelId
      this.#key[2] = raw.tunnelSrc
      const { packet, reason, offload } = raw
      this.#ports.learn(raw.inPort, readField(this.#key, 'ethSrc'))
      count++
      handle({ reason, packet, key: this.#key, keyComplete: true, offload })
    }
    return count
  }

  wait(timeoutMs: number): void {
    this.#ports.promoteOne()
    const { address, view } = this.#poll
    const ready = poll(address, 2, Math.max(0, Math.ceil(timeoutMs)))
    if (ready < 0 && ready !== eInterrupted) check('poll', ready)
    if (ready > 0 && view.getInt16(14, true) !== 0) read(this.wakeFd, address + 64, 8)
  }

  counters(): DatapathCounters {
    const { maps, links, upcalls } = this.#parts
    const counter = (at: number): number => Number(maps.table.view.getBigUint64(at, true))
    const link = queryLink(links, upcalls.index)
    const overrun = link === undefined ? 0 : decodeTransmitDrops(link)
    return {
      flows: this.#flows.flowCount,
      masks: this.#flows.maskCount,
      upcalls: counter(table.upcalls),
      lost: counter(table.lost) + overrun,
      misses: counter(table.misses),
    }
  }

  close(): void {
    const { maps, links, programs, upcalls, execute } = this.#parts
    this.#sender.close()
    for (const fd of [upcalls.fd, execute.fd]) close(fd)
    programs.close()
    closeMaps(maps)
    links.close()
  }
}

/** CLOCK_MONOTONIC, which the programs stamp flows with. */
function monotonicMs(): number {
  return Number(process.hrtime.bigint()) / 1e6
}
