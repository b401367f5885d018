/**
 * Flow state that follows its connection to the other hosts its packets may come by.
 *
 *   A: walk ─▶ entry made or changed ─▶ told to B ─▶ the packet itself
 *                                                      B: answer ─▶ walk finds the entry
 *
 * An entry is told to the hosts that `StatePeers` names, before the packet; to all that have it when
 * its facts change; and again now and then while packets use it here. Nobody is told that one ends:
 * each host lets it go when nobody has used it for long enough. State of an exterior port's own
 * chain stays on the port's host, which sees both directions.
 */
import type { Action } from '../packet/action.ts'
import type { FlowKey } from '../packet/flow-key.ts'
import type { Effect } from './effect.ts'
import { renewalMs } from './flow-state.ts'
import type { Zone } from './passage.ts'
import type { Simulation } from './simulation.ts'
import { word } from './simulation.ts'
import {
  type ChannelCounters,
  createCounters,
  type MessageName,
  StateChannel,
} from './state-channel.ts'
import { keyKinds, StateEntry } from './state-entry.ts'
import { StateFetch } from './state-fetch.ts'
import { messageOf, type StateLink } from './state-link.ts'
import { mergeEntry, mergeStick } from './state-merge.ts'
import type { StateRecord } from './state-message.ts'
import { keyKindOf, recordOf } from './state-record.ts'
import { limits as waitingLimits } from './state-waiting.ts'
import type { Tag } from './tag.ts'
import type { VirtualTopology } from './virtual-topology.ts'

export const limits = {
  /** How often a host is told that another entry stands in the place of what it told. */
  tellBackMs: 1_000,
} as const

export interface SharingWorld {
  readonly topology: VirtualTopology
  readonly link: Pick<StateLink, 'hosts' | 'send' | 'sourceOf'>
  /** Names this run of the agent among others of its host: any number but the last ones. */
  readonly epoch: number
  now(): number
  /** Facts have changed. */
  follow(tags: readonly Tag[]): void
  /** Nothing more is expected that packets might wait for. */
  settled(): void
}

/** What is told of flow state on its way between hosts. */
export interface SharingCounters extends ChannelCounters {
  /** Messages that came from no member of a tunnel zone. */
  readonly strangers: number
}

export class StateSharing {
  readonly #world: SharingWorld
  readonly #channels = new Map<string, StateChannel>()
  readonly #counters = createCounters()
  readonly #fetch: StateFetch
  readonly #met = new Set<string>()
  /** When whoever told otherwise was last told of an entry. */
  readonly #toldBack = new WeakMap<StateEntry, number>()
  /** Channels that may have something to send. */
  readonly #pending = new Set<StateChannel>()
  #strangers = 0
  #tags: Tag[] = []

  constructor(world: SharingWorld) {
    this.#world = world
    const { topology } = world
    this.#fetch = new StateFetch({
      topology,
      add: (host, record) => this.#add(host, record),
      recordOf: (entry) => this.#recordOf(entry),
      hasRoom: (host) => this.#channel(host)?.hasRoom ?? false,
    })
  }

  get counters(): SharingCounters {
    return { ...this.#counters, strangers: this.#strangers }
  }

  /** Whether state may come from another host at all. */
  get isShared(): boolean {
    return this.#world.link.hosts.size > 0
  }

  /**
   * Asks each host that can be reached now, and could not before, for the state that it shares with
   * this one: an agent before this one had it. To be called when all that is known is known.
   */
  meet(): void {
    const { hosts } = this.#world.link
    for (const host of this.#met) if (!hosts.has(host)) this.#met.delete(host)
    if (hosts.size === this.#met.size) return
    for (const host of hosts.keys()) {
      if (this.#met.has(host)) continue
      this.#met.add(host)
      this.#fetch.ask(host, '', this.#world.now())
    }
    this.flush()
  }

  /** Ports have come to this host: whoever had them has the state of their connections. */
  inherit(ports: readonly (readonly [port: string, from: string])[]): void {
    for (const [port, from] of ports)
      if (this.#world.link.hosts.has(from)) this.#fetch.ask(from, port, this.#world.now())
    if (ports.length > 0) this.flush()
  }

  /** Tells what a walk made or used to the hosts that must know, before its packet goes. */
  tell(sim: Simulation, ingress: string): void {
    if (sim.sources.length === 0 || !this.isShared) return
    let exits: readonly string[] | undefined
    let hosts: readonly string[] = none
    let isTold = false
    for (const entry of sim.sources) {
      if (!(entry instanceof StateEntry) || entry.place < 0) continue
      const zone = this.#world.topology.zones.at(entry.zoneNumber)
      if (zone === undefined || this.isPrivate(zone)) continue
      if (exits === undefined) {
        exits = this.#exitsOf(sim)
        hosts = this.#world.topology.statePeers.of(ingress, exits)
      }
      if (this.#tellEntry(entry, hosts, ingress, exits[0] ?? '')) isTold = true
    }
    for (const effect of sim.effects) {
      if (effect.kind !== 'stick') continue
      exits ??= this.#exitsOf(sim)
      hosts = this.#world.topology.statePeers.of(ingress, exits)
      const { vip, member, client } = effect
      const stick = { kind: 'stick', vip: vip.id, member, client: client >>> 0, ageMs: 0 } as const
      for (const host of hosts) this.#add(host, stick)
      isTold = true
    }
    if (isTold) this.flush()
  }

  /** Tells those who have an entry that it is in use still, when that is due. */
  readonly renew = (entry: StateEntry): void => {
    const { share } = entry
    if (share === undefined) return
    const isDue = entry.lastSeenMs - share.seenMs >= renewalMs(entry)
    if (isDue || share.version !== entry.version) this.#tellAll(entry, share.hosts)
  }

  /** Whether only this host sees the packets of a zone's connections. */
  isPrivate({ kind, id }: Zone): boolean {
    if (kind !== 'port') return false
    const { ports, host, statePeers } = this.#world.topology
    return ports.get(id)?.peer === undefined && statePeers.hostOf(id) === host
  }

  /**
   * Whether a walk that found no state is to wait for it: only when its packet may belong to a
   * connection that another host knows, and only where waiting does not slow down new ones.
   */
  mustWait(sim: Simulation): boolean {
    const { passage } = sim
    if (passage.missed.length === 0 || !this.isShared) return false
    if (sim.sources.some((one) => one instanceof StateEntry && one.place >= 0)) return false
    const isExpecting = this.#fetch.isExpecting(this.#world.now())
    if (!isExpecting && passage.missedZones.every((zone) => this.isPrivate(zone))) return false
    // What it would take may be taken: whoever knows is about to tell.
    if (isExpecting && sim.effects.some(isTranslation)) return true
    if ((word(sim.key, 9) & 0xff) === 6) {
      const flags = word(sim.key, 19) & (tcpSyn | tcpRst | tcpAck)
      return (flags & tcpRst) === 0 && flags !== tcpSyn
    }
    const isLost = sim.outcome !== 'forward' || !sim.delivered
    return isExpecting || isLost
  }

  /** How long a packet that has come now may wait: longer while all is asked for. */
  waitEndMs(nowMs: number): number {
    return Math.max(nowMs + waitingLimits.waitMs, this.#fetch.endMs())
  }

  /** Takes a frame that came out of a tunnel; only a member of its zone is heard. */
  receive(frameKey: FlowKey, frame: Uint8Array): void {
    const host = this.#world.link.sourceOf(frameKey)
    const channel = host === undefined ? undefined : this.#channel(host)
    if (host === undefined || channel === undefined) {
      this.#strangers++
      return
    }
    const nowMs = this.#world.now()
    this.#pending.add(channel)
    if (!channel.receive(messageOf(frame), nowMs)) return
    if (channel.takeBehind()) this.#fetch.answer(host, '', undefined)
    const tags = this.#tags
    if (tags.length === 0) return
    this.#tags = []
    this.#world.follow(tags)
  }

  /** Sends what waits, acknowledgements too: after each round. */
  flush(): void {
    const nowMs = this.#world.now()
    this.#fetch.pump()
    if (this.#pending.size === 0) return
    for (const channel of this.#pending) channel.flush(nowMs)
    this.#pending.clear()
  }

  tick(nowMs: number): void {
    if (this.#fetch.tick(nowMs)) this.#world.settled()
    for (const [host, channel] of this.#channels) {
      if (this.#world.link.hosts.has(host)) channel.tick(nowMs)
      else this.#channels.delete(host)
    }
    this.flush()
  }

  /** When something is due here next; Infinity when nothing is. */
  nextMs(): number {
    let next = this.#fetch.nextMs()
    for (const channel of this.#channels.values()) next = Math.min(next, channel.nextMs())
    return next
  }

  #channel(host: string): StateChannel | undefined {
    const known = this.#channels.get(host)
    if (known !== undefined || !this.#world.link.hosts.has(host)) return known
    const channel = new StateChannel({
      epoch: this.#world.epoch,
      counters: this.#counters,
      send: (bytes) => this.#world.link.send(host, bytes),
      take: (record, name, nowMs) => this.#take(record, host, name, nowMs),
    })
    this.#channels.set(host, channel)
    return channel
  }

  #add(host: string, record: StateRecord): void {
    const channel = this.#channel(host)
    channel?.add(record)
    if (channel !== undefined) this.#pending.add(channel)
  }

  #recordOf(entry: StateEntry): StateRecord | undefined {
    const zone = this.#world.topology.zones.at(entry.zoneNumber)
    return zone && recordOf(entry, zone, this.#world.now())
  }

  /** Returns whether anybody had to be told. */
  #tellEntry(
    entry: StateEntry,
    hosts: readonly string[],
    ingress: string,
    egress: string,
  ): boolean {
    const { share } = entry
    if (share === undefined) {
      if (hosts.length === 0) return false
      const [version, seenMs] = [entry.version, entry.lastSeenMs]
      entry.share = { hosts, version, seenMs, from: '', epoch: 0, number: 0, ingress, egress }
      return this.#tellAll(entry, hosts)
    }
    share.ingress = ingress
    share.egress = egress
    const fresh = hosts.filter((host) => !share.hosts.includes(host))
    if (fresh.length > 0) share.hosts = [...share.hosts, ...fresh]
    if (share.version !== entry.version) return this.#tellAll(entry, share.hosts)
    return fresh.length > 0 && this.#tellAll(entry, fresh)
  }

  /**
   * Another entry stands in the place of what a host told. Two hosts whose clocks tell of a close
   * case differently must not tell each other without end.
   */
  #tellBack(entry: StateEntry, host: string): void {
    const nowMs = this.#world.now()
    if (nowMs - (this.#toldBack.get(entry) ?? Number.NEGATIVE_INFINITY) < limits.tellBackMs) return
    this.#toldBack.set(entry, nowMs)
    const record = this.#recordOf(entry)
    if (record !== undefined) this.#add(host, record)
    const { share } = entry
    if (share !== undefined && !share.hosts.includes(host)) share.hosts = [...share.hosts, host]
  }

  #tellAll(entry: StateEntry, hosts: readonly string[]): boolean {
    const record = this.#recordOf(entry)
    if (record === undefined) return false
    for (const host of hosts) this.#add(host, record)
    if (entry.share !== undefined) {
      entry.share.version = entry.version
      entry.share.seenMs = entry.lastSeenMs
    }
    return true
  }

  #take(record: StateRecord, from: string, name: MessageName, nowMs: number): boolean {
    switch (record.kind) {
      case 'entry': {
        const zone = this.#world.topology.zones.find(record.zoneKind, record.zone)
        if (zone === undefined) return false
        const merge = mergeEntry(record, zone, { from, ...name }, nowMs, this.#tags)
        if (merge.kind === 'kept') this.#tellBack(merge.entry, from)
        else if (merge.kind === 'taken' && this.isPrivate(zone)) merge.entry.share = undefined
        return true
      }
      case 'stick':
        return mergeStick(record, this.#world.topology.balancers, nowMs, this.#tags)
      case 'fetch':
        this.#fetch.answer(from, record.port, record.request)
        return true
      case 'done':
        if (this.#fetch.end(record.request)) this.#world.settled()
        return true
    }
  }

  /** The exterior ports that a walk's packet leaves by, here and on other hosts. */
  #exitsOf(sim: Simulation): readonly string[] {
    const { topology } = this.#world
    const exits = new Set<string>()
    const look = (action: Action | undefined): void => {
      if (action?.kind === 'checkPacketLength') {
        action.greater.forEach(look)
        action.lessEqual.forEach(look)
      }
      const port =
        action?.kind === 'setTunnel'
          ? topology.statePeers.portOfKey(action.id & 0x7f_ffff)
          : action?.kind === 'output'
            ? topology.portOf(action.port)?.id
            : undefined
      if (port !== undefined) exits.add(port)
    }
    for (let at = 0; at < sim.actionCount; at++) look(sim.actions[at])
    return [...exits]
  }
}

/** Whether a walk gives a source of its own choice to a connection. */
function isTranslation(effect: Effect): boolean {
  return effect.kind === 'addState' && keyKindOf(effect.entry.forward) === keyKinds.snat
}

const none: readonly string[] = []
const tcpSyn = 0x02
const tcpRst = 0x04
const tcpAck = 0x10
