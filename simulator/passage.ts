/**
 * What chains know of a packet besides its header: the ports it came through, the connection it
 * belongs to, the packet that an ICMP error is about.
 *
 * Filters run in a zone: a port's own chains in the port's, a device's inbound and outbound chain
 * together in the device's. A connection is looked up by what the packet looked like when it came
 * into the zone, so that translations within the zone do not confuse its direction.
 */
import { type NeighborMessage, readNeighborMessage } from '../packet/build6.ts'
import { copyKey, createKey, type FlowKey, fragLater } from '../packet/flow-key.ts'
import { isIcmpErrorType } from '../packet/icmp.ts'
import type { IcmpQuote } from '../packet/icmp-quote.ts'
import { noNumber } from './address-book.ts'
import { isIp } from './condition.ts'
import { createFrame, type Frame } from './frame.ts'
import { empty } from './list.ts'
import { CachedMembership } from './membership.ts'
import type { VirtualPort } from './port.ts'
import { isIcmp, isIcmpError, Quotes } from './quotes.ts'
import { limits, type Simulation, word } from './simulation.ts'
import {
  isClosing,
  type KeyKind,
  keyKinds,
  type Side,
  StateEntry,
  type StateKey,
  stateTagOf,
  zoneOf,
  zoneWord,
} from './state-entry.ts'
import { fullTag, type Tag } from './tag.ts'
import { echo4, echo6, echoPorts, isIcmpProtocol, numberAt, swapPorts } from './tuple.ts'
import { isAt } from './tuple-table.ts'
import type { Zone } from './zones.ts'

export type { Zone }

/** What an agent before this one had made of a packet: kept where the rules allow it. */
export interface Preferred {
  readonly src6?: bigint
  readonly dst6?: bigint
  readonly src?: number
  readonly srcPort?: number
  readonly dst?: number
  readonly dstPort?: number
}

/** A packet's connection: `error` when it is that of the packet an ICMP error is about. */
export type TupleKind = 'none' | 'plain' | 'error'

const protocols = { icmp: 1, tcp: 6, udp: 17, icmpv6: 58, sctp: 132 } as const
const ethertypeIpv6 = 0x86dd

export class Passage {
  /** The packet's bytes, where they are at hand. */
  packet: Uint8Array | undefined
  /** What NAT should choose; for the caller to set, as the packet. */
  preferred: Preferred | undefined
  /** A device made the packet. */
  generated = false
  /** More was read than the key says, so no flow can stand for this simulation. */
  unkeyed = false
  zone: Zone | undefined
  /** The tuple that `seeTuple` found; the ports as a signed number, which needs no box. */
  protocol = 0
  src = 0
  dst = 0
  ports = 0
  /** A rule asked for what the packet hides behind its extension headers. */
  isHidden = false
  /** Keys of flow state that were looked for in vain. */
  readonly missed: Tag[] = []
  /** Their zones. */
  readonly missedZones: Zone[] = []
  /** Rules looked at on the whole walk. */
  rules = 0
  readonly #frames: Frame[] = Array.from({ length: limits.devices + 2 }, createFrame)
  frame: Frame = this.#frames[0] ?? createFrame()
  /** As the packet came into the zone. */
  readonly #zoneKey = createKey()
  /** Whether the tuple is one of IPv6, its addresses numbers in the address book. */
  isIpv6 = false
  #zoneQuote: IcmpQuote | undefined
  #direction: 'forward' | 'return' | undefined
  /** Where the connection is to be remembered from: its tuple at the zone's entry. */
  readonly #there = { isSet: false, protocol: 0, src: 0, dst: 0, ports: 0 }
  readonly quotes = new Quotes()
  readonly #srcMembers = new CachedMembership(10)
  readonly #dstMembers = new CachedMembership(14)

  start(): void {
    this.generated = false
    this.unkeyed = false
    this.isHidden = false
    this.zone = undefined
    this.rules = 0
    empty(this.missed)
    empty(this.missedZones)
    this.quotes.clear()
    this.#srcMembers.clear()
    this.#dstMembers.clear()
    this.enter(0, undefined)
  }

  /** The packet comes to a device. */
  enter(devices: number, port: VirtualPort | undefined): void {
    this.resume(devices)
    this.frame.inPort = port
    this.frame.isChanged = false
    this.frame.dstRewritten = false
    this.frame.balance = undefined
  }

  /** The walk goes on from a device where it has been before. */
  resume(devices: number): void {
    this.frame = this.#frames[devices] ?? this.frame
    this.frame.outPort = undefined
  }

  /** Whether the packet has come through a device or port; the present one counts. */
  hasTraversed(devices: number, kind: string, id: string): boolean {
    for (let at = 0; at <= devices; at++) {
      const frame = this.#frames[at]
      for (const port of [frame?.inPort, frame?.outPort]) {
        if (port === undefined) continue
        if (kind === 'port' ? port.id === id : kind === port.kind && deviceOf(port) === id)
          return true
      }
    }
    return false
  }

  /** The packet comes to a zone where nobody asks for its direction. */
  comeTo(zone: Zone): void {
    this.zone = zone
    this.#there.isSet = false
  }

  /** Filters of a zone begin. */
  begin(zone: Zone, work: FlowKey): void {
    this.comeTo(zone)
    this.#direction = undefined
    const quote = this.quotes.current
    this.#zoneQuote = quote === undefined ? undefined : { ...quote }
    copyKey(work, this.#zoneKey)
  }

  /** Filters of a zone have let the packet pass: its connection is remembered if they asked. */
  end(sim: Simulation): boolean {
    const { zone } = this
    const there = this.#there
    if (zone === undefined || !there.isSet) return true
    there.isSet = false
    if (zone.state.isFull) {
      sim.tag(fullTag(0))
      sim.drop('flow state is full')
      return false
    }
    const { work } = sim
    const { protocol, src, dst, ports } = there
    const left =
      protocol === protocols.icmp || protocol > protocols.udp ? ports : word(work, 18) | 0
    const forward = { kind: keyKinds.track, src, dst, ports }
    const entry =
      work[8] === ethertypeIpv6
        ? this.#entry6(sim, zone, protocol, forward, swapPorts(left))
        : new StateEntry(zone.number, protocol, forward, {
            kind: keyKinds.track,
            src: word(work, 14),
            dst: word(work, 10),
            ports: swapPorts(left),
          })
    if (entry === undefined) {
      sim.drop('flow state is full')
      return false
    }
    this.add(sim, entry)
    return true
  }

  /** The same for IPv6; undefined when an address has no number. */
  #entry6(
    { work }: Simulation,
    { number, state }: Zone,
    protocol: number,
    forward: Side,
    ports: number,
  ): StateEntry | undefined {
    const { book } = state
    const [src, dst] = [numberAt(book, work, 14), numberAt(book, work, 10)]
    if ([src, dst, forward.src, forward.dst].includes(noNumber)) return undefined
    const back = { kind: keyKinds.track, src, dst, ports }
    return new StateEntry(zoneOf(number, true), protocol, forward, back, book)
  }

  /** Whether the packet belongs to a connection's way there or its way back. */
  direction(sim: Simulation): 'forward' | 'return' {
    this.#direction ??= this.#findDirection(sim)
    return this.#direction
  }

  #findDirection(sim: Simulation): 'forward' | 'return' {
    if (this.generated) return 'return'
    const quote = this.#zoneQuote
    const kind = this.seeTuple(sim, this.#zoneKey, false, quote)
    if (kind === 'none') return 'forward'
    const key = this.find(sim, keyKinds.track)
    if (key !== undefined) {
      this.use(sim, key, kind)
      return key.isForward ? 'forward' : 'return'
    }
    if (kind === 'plain') this.#remember()
    return 'forward'
  }

  /** Keeps the tuple read last, since NAT reads others. */
  #remember(): void {
    const there = this.#there
    there.isSet = true
    there.protocol = this.protocol
    there.src = this.src
    there.dst = this.dst
    there.ports = this.ports
  }

  /**
   * Reads the tuple of the packet of `key`. With `withId`, echoes are told apart by id: no action
   * sets that and no flow matches it, so who needs it pays with the agent handling each.
   */
  seeTuple(sim: Simulation, key: FlowKey, withId: boolean, quote?: IcmpQuote): TupleKind {
    if (!isIp(sim)) return 'none'
    sim.seeFragment()
    if (word(key, 9) >>> 24 === fragLater) return 'none'
    sim.seeProtocol()
    const protocol = word(key, 9) & 0xff
    this.protocol = protocol
    this.ports = 0
    this.isIpv6 = sim.work[8] === ethertypeIpv6
    if (this.isIpv6) this.#seeAddresses6(sim, key)
    else {
      sim.seeIpSrc(32)
      sim.seeIpDst(32)
      this.src = word(key, 10)
      this.dst = word(key, 14)
    }
    switch (protocol) {
      case protocols.tcp:
        // Flags FIN and RST: who closes a connection must be seen doing it.
        sim.seeTcpEnd()
        this.#seePorts(sim, key)
        return 'plain'
      case protocols.udp:
      case protocols.sctp:
        this.#seePorts(sim, key)
        return 'plain'
      case this.isIpv6 ? protocols.icmpv6 : protocols.icmp:
        return this.#seeIcmp(sim, word(key, 18) & 0xffff, withId, quote)
      default:
        return 'plain'
    }
  }

  #seeAddresses6(sim: Simulation, key: FlowKey): void {
    sim.seeIpv6Src(128)
    sim.seeIpv6Dst(128)
    const book = this.zone?.state.book
    this.src = book === undefined ? noNumber : numberAt(book, key, 10)
    this.dst = book === undefined ? noNumber : numberAt(book, key, 14)
  }

  #seePorts(sim: Simulation, key: FlowKey): void {
    sim.seeTpSrc()
    sim.seeTpDst()
    this.ports = word(key, 18) | 0
  }

  #seeIcmp(
    sim: Simulation,
    type: number,
    withId: boolean,
    known: IcmpQuote | undefined,
  ): TupleKind {
    sim.seeTpSrc()
    const { request, reply } = this.isIpv6 ? echo6 : echo4
    const isError = this.isIpv6 ? type < request : isIcmpErrorType(type)
    if (!isError && type !== request && type !== reply) return 'none'
    if (!isError && !withId) {
      this.ports = echoPorts(type === request)
      return 'plain'
    }
    const quote = known ?? this.quoteOf(sim)
    if (quote === undefined) return 'none'
    const isEcho = isIcmpProtocol(quote.protocol)
    const ports = isEcho && !withId ? echoPorts(quote.isRequest) : quote.ports
    this.ports = isError ? swapPorts(ports) : ports | 0
    if (!isError) return 'plain'
    this.protocol = quote.protocol
    this.src = quote.dst
    this.dst = quote.src
    return 'error'
  }

  /** The entry under the tuple read last, also one that this walk has made. */
  find(sim: Simulation, kind: KeyKind): StateKey | undefined {
    const { zone, protocol, src, dst, ports, isIpv6 } = this
    if (zone === undefined) return undefined
    const found = this.look(sim, kind, src, dst, ports)
    if (found === undefined) {
      const zoneNumber = zoneWord(zoneOf(zone.number, isIpv6), kind, protocol)
      const book = isIpv6 ? zone.state.book : undefined
      const tag = stateTagOf(zoneNumber, src, dst, ports, book)
      sim.tag(tag)
      this.missed.push(tag)
      this.missedZones.push(zone)
    }
    return found
  }

  /** The entry under a tuple of the present zone and protocol. */
  look(
    sim: Simulation,
    kind: KeyKind,
    src: number,
    dst: number,
    ports: number,
  ): StateKey | undefined {
    const { zone, protocol } = this
    if (zone === undefined) return undefined
    const number = zoneOf(zone.number, this.isIpv6)
    const found = zone.state.find(number, kind, protocol, src, dst, ports)
    if (found !== undefined || sim.effects.length === 0) return found
    const zoneNumber = zoneWord(number, kind, protocol)
    for (const effect of sim.effects) {
      if (effect.kind !== 'addState') continue
      const { forward, backward } = effect.entry
      if (isAt(forward, zoneNumber, src, dst, ports)) return forward
      if (isAt(backward, zoneNumber, src, dst, ports)) return backward
    }
    return undefined
  }

  /** The walk rests on an entry, and its traffic keeps it. */
  use(sim: Simulation, key: StateKey, kind: TupleKind): void {
    const { entry } = key
    sim.tag(key.tag)
    if (kind === 'error') return
    sim.sources.push(entry)
    const flags = entry.protocol === protocols.tcp ? word(sim.work, 19) & 0x07 : 0
    const isEnding = (flags & (tcpFin | tcpRst)) !== 0 || isClosing(entry)
    if (isEnding) this.unkeyed = true
    if (isEnding || (!key.isForward && !entry.replied))
      sim.effects.push({ kind: 'useState', key, flags })
  }

  add(sim: Simulation, entry: StateEntry, instead?: StateEntry): void {
    // That it was missing has left the tag already, if it was looked for.
    if (!this.missed.includes(entry.tag)) sim.tag(entry.tag)
    sim.sources.push(entry)
    sim.effects.push({ kind: 'addState', entry, instead })
    if (entry.protocol === protocols.tcp && (word(sim.work, 19) & (tcpFin | tcpRst)) !== 0)
      this.unkeyed = true
  }

  /** Id or quote of an ICMP message; undefined when there is none or the bytes are not at hand. */
  quoteOf(sim: Simulation): IcmpQuote | undefined {
    if (!isIcmp(sim)) return undefined
    this.unkeyed = true
    return this.quotes.read(this.packet, sim.work[8] === ethertypeIpv6, this.zone?.state.book)
  }

  /** A message of neighbour discovery, read from the packet's bytes: no flow can stand for it. */
  neighborMessage(sim: Simulation): NeighborMessage | undefined {
    this.unkeyed = true
    sim.seeProtocol()
    return this.packet === undefined ? undefined : readNeighborMessage(this.packet)
  }

  /** The packet that an ICMP error is about; undefined when this is no such error. */
  errorQuoteOf(sim: Simulation): IcmpQuote | undefined {
    return isIcmpError(sim) ? this.quoteOf(sim) : undefined
  }

  srcGroups(sim: Simulation): ReadonlySet<string> | undefined {
    return this.#srcMembers.find(sim, this.zone?.memberships)
  }

  dstGroups(sim: Simulation): ReadonlySet<string> | undefined {
    return this.#dstMembers.find(sim, this.zone?.memberships)
  }
}

const tcpFin = 0x01
const tcpRst = 0x04

function deviceOf(port: VirtualPort): string {
  return port.kind === 'bridge' ? port.bridge.id : port.router.id
}
