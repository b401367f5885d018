/**
 * The flows, and packets sent through actions. Requests gather while a batch of upcalls is handled
 * and go to the kernel in one call; what the kernel refuses comes back by the request's number.
 */
import { randomBytes } from 'node:crypto'
import { availableParallelism } from 'node:os'
import createDebug from 'debug'
import type { Action } from '../../packet/action.ts'
import { applyActions } from '../../packet/apply.ts'
import { extractKey } from '../../packet/extract.ts'
import { createKey, type FlowKey, keyWords, maskKey } from '../../packet/flow-key.ts'
import {
  DatapathError,
  type FlowId,
  type FlowMatch,
  type FlowStats,
  type InstalledFlow,
} from '../datapath.ts'
import { decodeAck, decodeMessages } from '../netlink.ts'
import { errnoName } from '../syscall.ts'
import { areOutputs, planActions } from './action.ts'
import { readActions } from './action-read.ts'
import type { Sender } from './channel.ts'
import { FlowRecords, idleSince, readUfid } from './flow-record.ts'
import { createMatch, type KernelMatch } from './match.ts'
import { MatchReader } from './match-reader.ts'
import type { Module, ModuleFlow } from './module.ts'
import { Output } from './output.ts'
import { Requests } from './requests.ts'
import { Shapes } from './shape.ts'
import { monotonicMs, StatsReader } from './stats.ts'
import type { WireSender } from './wire.ts'

const debug = createDebug('midonet:datapath')

export const limits = {
  flows: 1 << 17,
  /** The kernel tries mask after mask. */
  masks: 128,
  /** Masks more for flows that match all of a packet: one for each kind of it. */
  masksOfWhole: 32,
  /** Requests that go to the kernel in one call; its socket takes up to 206 KiB. */
  batchSize: 60 * 1024,
  memory: 256 * 1024,
  /** How long what adoption has read is given out as it is. */
  foundAgeMs: 1000,
} as const

/** What the module's errors mean for a flow, where they do not say it. */
const refusals: Readonly<Record<string, readonly [string, string]>> = {
  ENOMEM: ['ENOSPC', 'it has no memory for it'],
  ENOENT: ['EEXIST', 'it overlaps another one'],
}

/** Requests are numbered by what they are and the flow they are about. */
const numbered = { install: 1 << 28, replace: 2 << 28, execute: 3 << 28, remove: 4 << 28 } as const
const kindBits = 0x7000_0000
const typeError = 2

export interface FlowStoreParts {
  readonly module: Module
  readonly sender: Sender
  /** Where packets of a vport go that an action hands over. */
  readonly portId: (vport: number) => number
  readonly wire: WireSender
  /** The interface of a vport that frames for it may be sent by; 0 for none. */
  readonly wireOf: (vport: number) => number
}

export class FlowStore {
  readonly records = new FlowRecords()
  readonly #parts: FlowStoreParts
  readonly #out = new Output(limits.memory)
  readonly #stats: StatsReader
  readonly #process = randomBytes(4).readUInt32LE()
  readonly #shapes = new Shapes()
  readonly #requests: Requests
  readonly #reader = new MatchReader()
  readonly #key = createKey()
  /** Packets leave at once, before the flow that is asked for next: there is no batch to wait for. */
  isUrgent = false
  /** On one processor nobody could take a packet up before this thread rests. */
  readonly #isAlone = availableParallelism() === 1
  #serial = 0
  /** The packet in hand, and where the kernel can read it. */
  #held: Uint8Array | undefined
  #heldAt = 0
  #batching = false
  /** What adoption has read, while nothing has changed since. */
  #found: { readonly flows: readonly ModuleFlow[]; readonly atMs: number } | undefined
  /** The install that is waited for, outside of batches, and its errno. */
  #awaited: FlowId | undefined
  #errno = 0

  constructor(parts: FlowStoreParts) {
    this.#parts = parts
    const { module, portId } = parts
    const { datapath, families } = module
    this.#requests = new Requests({ module, portId, records: this.records, out: this.#out })
    this.#stats = new StatsReader({
      records: this.records,
      sender: parts.sender,
      out: this.#out,
      family: families.flow,
      datapath,
    })
    this.#adopt()
  }

  /** Gathers what is asked for until `run` is over. */
  batch<T>(run: () => T): T {
    if (this.#batching) return run()
    this.#batching = true
    try {
      return run()
    } finally {
      this.#batching = false
      this.isUrgent = false
      this.flush()
    }
  }

  /** The packet at an address is being handed over: it may be sent on from there. */
  hold(packet: Uint8Array, address: number): void {
    this.#held = packet
    this.#heldAt = address
  }

  install({ key, mask }: FlowMatch, actions: readonly Action[]): FlowId {
    this.#found = undefined
    const plan = planActions(actions, key)
    const shape = this.#shapes.of(key, mask, plan.needs)
    const match = { key, mask: shape.mask }
    this.#checkRoom(match, mask)
    const { size } = this.records
    const id = this.records.findOrAdd(match, this.#process, this.#serial++)
    const isNew = this.records.size > size
    try {
      const sequence = (isNew ? numbered.install : numbered.replace) | id
      // The kernel masks the key of a new flow; that of one it has must be as it holds it.
      if (!isNew) maskKey(key, shape.mask, this.#key)
      this.#requests.create(sequence, id, isNew ? key : this.#key, shape, actions, plan.slow)
      this.#settle(id)
    } catch (error) {
      if (isNew) this.records.remove(id)
      throw error
    }
    return id
  }

  remove(id: FlowId): void {
    this.#found = undefined
    const isThere = this.records.has(id)
    if (isThere) {
      this.#requests.remove(numbered.remove | id, id)
      this.#sendSoon()
    }
    this.records.remove(id)
  }

  stats(id: FlowId): FlowStats | undefined {
    if (!this.records.has(id)) return undefined
    this.flush()
    this.listen()
    return this.#stats.read(id)
  }

  /** The same of many flows, in their order. */
  statsOf(ids: readonly FlowId[]): readonly (FlowStats | undefined)[] {
    this.flush()
    this.listen()
    return this.#stats.readMany(ids)
  }

  *all(): Iterable<InstalledFlow> {
    this.flush()
    this.listen()
    const nowMs = monotonicMs()
    const found = this.#found
    this.#found = undefined
    const isFresh = found !== undefined && nowMs - found.atMs < limits.foundAgeMs
    const flows = isFresh ? found.flows : this.#parts.module.flows()
    // One piece of memory for all: of many flows, that of each alone costs more than the rest.
    const size = isFresh ? keyWords : 2 * keyWords
    const words = new Uint32Array(flows.length * size)
    for (let index = 0; index < flows.length; index++) {
      const shown = flows[index]
      if (shown === undefined) continue
      const id = this.#idOf(shown)
      if (id === undefined) continue
      const key = words.subarray(index * size, index * size + keyWords)
      const end = (index + 1) * size
      // What was just adopted need not be read again, and its mask is that of many.
      const mask = isFresh
        ? this.records.readKey(id, key)
        : this.#readMatch(shown, { key, mask: words.subarray(end - keyWords, end) })
      if (mask === undefined) continue
      const { packets, bytes, usedMs } = shown
      const stats = { packets, bytes, idleMs: idleSince(usedMs, nowMs) }
      const actions = readActions(shown.memory, shown.actions, shown.actionsEnd)
      yield { id, key, mask, actions, stats }
    }
  }

  #idOf(shown: ModuleFlow): FlowId | undefined {
    const ufid = nameOf(shown)
    return ufid === undefined ? undefined : this.records.named(ufid)
  }

  /** The mask; undefined when the match is not one of ours. */
  #readMatch(shown: ModuleFlow, match: KernelMatch): FlowKey | undefined {
    return this.#reader.read(shown, match) ? match.mask : undefined
  }

  execute(packet: Uint8Array, inPort: number, actions: readonly Action[]): void {
    if (areOutputs(actions)) {
      if (!this.#wire(packet, actions)) this.#writePacket(packet, inPort, actions)
      return
    }
    if (!extractKey(packet, inPort, this.#key)) return
    if (planActions(actions, this.#key).slow) this.executeSlowly(packet, inPort, actions)
    else this.#writePacket(packet, inPort, actions)
  }

  /** Changes a packet in this process; only its outputs are the kernel's. */
  executeSlowly(
    packet: Uint8Array,
    inPort: number,
    actions: readonly Action[],
    userspace?: (frame: Uint8Array) => void,
  ): void {
    for (const { port, frame, tunnel } of applyActions(packet, actions, userspace)) {
      const way: Action[] = [{ kind: 'output', port }]
      if (tunnel !== undefined) way.unshift({ kind: 'setTunnel', ...tunnel })
      if (extractKey(frame, inPort, this.#key)) this.#writePacket(frame, inPort, way)
    }
  }

  /** Sends a packet that is only sent past the module; false when it must go through it. */
  #wire(packet: Uint8Array, actions: readonly Action[]): boolean {
    const { wire, wireOf } = this.#parts
    for (let index = 0; index < actions.length; index++)
      if (wireFor(actions[index], wireOf) === 0) return false
    const address = packet === this.#held ? this.#heldAt : 0
    for (let index = 0; index < actions.length; index++)
      wire.add(wireFor(actions[index], wireOf), packet, address)
    if (!this.#batching || (this.isUrgent && !this.#isAlone)) wire.flush()
    return true
  }

  /** Sends the packets that stand where others will be received. */
  sendReceived(): void {
    this.#parts.wire.flush()
  }

  /** Brings what was asked for to the kernel: packets first, whoever waits for one waits no longer. */
  flush(): void {
    this.#parts.wire.flush()
    const out = this.#out
    if (out.size === 0) return
    this.#parts.sender.send(out.arena.address, out.size)
    out.clear()
  }

  /** Hears what the kernel has refused of what it was asked for. */
  listen(): void {
    this.#parts.sender.drain((bytes) => {
      for (const message of decodeMessages(bytes))
        if (message.type === typeError) this.#hear(message.sequence, decodeAck(message))
    })
  }

  #hear(sequence: number, { errno, reason }: { errno: number; reason: string | undefined }): void {
    const [kind, id] = [sequence & kindBits, sequence & ~kindBits]
    if (errno === 0 || kind === numbered.remove) return
    debug('request %s refused: %s %s', sequence.toString(16), errnoName(errno), reason ?? '')
    if (kind === numbered.execute) return
    if (id === this.#awaited) this.#errno = errno
    else if (kind === numbered.install) this.records.refuse(id)
  }

  /** Lets a flow that was asked for outside of a batch be there, or not, before going on. */
  #settle(id: FlowId): void {
    if (this.#batching) {
      this.#sendSoon()
      return
    }
    this.#awaited = id
    this.#errno = 0
    this.flush()
    this.listen()
    this.#awaited = undefined
    if (this.#errno === 0) return
    const code = errnoName(this.#errno)
    const [ours, why] = refusals[code] ?? [code, 'its log says why']
    throw new DatapathError(ours, `the kernel refused a flow: ${code}: ${why}`)
  }

  #sendSoon(): void {
    if (!this.#batching || this.#out.size >= limits.batchSize) this.flush()
  }

  /** @throws DatapathError `ENOSPC`, `E2BIG` when the match at hand would be one too many */
  #checkRoom(match: KernelMatch, asked: FlowKey): void {
    const { size, masks } = this.records
    if (size < limits.flows && masks.size < limits.masks) return
    if (this.records.find(match) !== undefined) return
    if (size >= limits.flows)
      throw new DatapathError('ENOSPC', `${limits.flows} flows are in use: remove some`)
    if (masks.find(match.mask) !== undefined) return
    const isWhole = asked.every((word) => word === 0xffff_ffff)
    const most = limits.masks + (isWhole ? limits.masksOfWhole : 0)
    if (masks.size >= most)
      throw new DatapathError('E2BIG', `${most} masks are in use: execute instead`)
  }

  #writePacket(packet: Uint8Array, inPort: number, actions: readonly Action[]): void {
    this.#requests.execute(numbered.execute, packet, inPort, actions, this.#key)
    if (this.isUrgent && !this.#isAlone) this.flush()
    else this.#sendSoon()
  }

  /** Takes over what an agent before has left; what cannot be read is removed. */
  #adopt(): void {
    const match = createMatch()
    const flows = this.#parts.module.flows()
    this.#found = { flows, atMs: monotonicMs() }
    const found = flows.map((flow) => ({ flow, ufid: nameOf(flow) }))
    const inOrder = found.sort((a, b) => (a.ufid?.id ?? 0) - (b.ufid?.id ?? 0))
    let strange = 0
    for (const { flow, ufid } of inOrder) {
      if (ufid !== undefined && this.#reader.read(flow, match)) {
        // What is read next comes to the same place.
        const mask = this.records.masks.find(match.mask)?.mask ?? match.mask.slice()
        const { key } = match
        this.records.findOrAdd({ key, mask }, ufid.process, ufid.serial, ufid.id)
        continue
      }
      strange++
      this.#parts.module.removeFlow(flow)
    }
    debug('%d flows found, %d of them not ours and removed', found.length, strange)
  }
}

function wireFor(action: Action | undefined, wireOf: (vport: number) => number): number {
  return action?.kind === 'output' ? wireOf(action.port) : 0
}

function nameOf({ memory, ufid, ufidEnd }: ModuleFlow): ReturnType<typeof readUfid> {
  const name = readUfid(memory, ufid, ufidEnd - ufid)
  return name === undefined || name.id >= limits.flows ? undefined : name
}
