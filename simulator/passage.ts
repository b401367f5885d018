/**
 * What chains know of a packet besides its header: the ports it came through, the connection it
 * belongs to, the packet that an ICMP error is about.
 *
 * Filters run in a zone: a port's own chains in the port's, a device's inbound and outbound chain
 * together in the device's. A connection is looked up by what the packet looked like when it came
 * into the zone, so that translations within the zone do not confuse its direction.
 */
import { createKey, type FlowKey, fragLater } from '../packet/flow-key.ts'
import { isIcmpErrorType } from '../packet/icmp.ts'
import { type IcmpQuote, readIcmpQuote } from '../packet/icmp-quote.ts'
import { isIpv4 } from './condition.ts'
import {
  type FlowState,
  isClosing,
  type KeyKind,
  keyKinds,
  StateEntry,
  type StateKey,
  zoneWord,
} from './flow-state.ts'
import type { Membership, Memberships } from './policy.ts'
import type { VirtualPort } from './port.ts'
import { limits, type Simulation, word } from './simulation.ts'
import { fullTag, memberTag, stateTag } from './tag.ts'

/** Where connections are told apart: one for each port, bridge and router. */
export interface Zone {
  readonly number: number
  readonly state: FlowState
  readonly memberships: Memberships
}

/** The passage of one device. */
export interface Frame {
  inPort: VirtualPort | undefined
  outPort: VirtualPort | undefined
  /** Whether the device's chains gave the packet another destination. */
  dstRewritten: boolean
  /** The header as it came to the device, past the port's own chains. */
  readonly entered: FlowKey
}

/** What an agent before this one had made of a packet: kept where the rules allow it. */
export interface Preferred {
  readonly src?: number
  readonly srcPort?: number
  readonly dst?: number
  readonly dstPort?: number
}

/** A packet's connection: `error` when it is that of the packet an ICMP error is about. */
export type TupleKind = 'none' | 'plain' | 'error'

const protocols = { icmp: 1, tcp: 6, udp: 17, sctp: 132 } as const
const echoRequest = 8

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
  /** The tuple that `seeTuple` found. */
  protocol = 0
  src = 0
  dst = 0
  ports = 0
  /** Rules looked at on the whole walk. */
  rules = 0
  readonly #frames: Frame[] = Array.from({ length: limits.devices + 2 }, () => ({
    inPort: undefined,
    outPort: undefined,
    dstRewritten: false,
    entered: createKey(),
  }))
  frame: Frame = this.#frames[0] ?? { ...noFrame, entered: createKey() }
  /** As the packet came into the zone. */
  readonly #zoneKey = createKey()
  #zoneQuote: IcmpQuote | undefined
  #direction: 'forward' | 'return' | undefined
  /** Where the connection is to be remembered from: its tuple at the zone's entry. */
  #untracked: { protocol: number; src: number; dst: number; ports: number } | undefined
  #isQuoteRead = false
  #quote: IcmpQuote | undefined
  /** The quote as received. */
  #received: IcmpQuote | undefined
  readonly #srcMembers = new CachedMembership()
  readonly #dstMembers = new CachedMembership()

  start(): void {
    this.generated = false
    this.unkeyed = false
    this.zone = undefined
    this.rules = 0
    this.#isQuoteRead = false
    this.#quote = undefined
    this.#received = undefined
    this.#srcMembers.clear()
    this.#dstMembers.clear()
    this.enter(0, undefined)
  }

  /** The packet comes to a device. */
  enter(devices: number, port: VirtualPort | undefined): void {
    this.resume(devices)
    this.frame.inPort = port
    this.frame.dstRewritten = false
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

  /** Filters of a zone begin. */
  begin(zone: Zone, work: FlowKey): void {
    this.zone = zone
    this.#direction = undefined
    this.#untracked = undefined
    this.#zoneQuote = this.#quote === undefined ? undefined : { ...this.#quote }
    for (const at of zoneWords) this.#zoneKey[at] = word(work, at)
  }

  /** Filters of a zone have let the packet pass: its connection is remembered if they asked. */
  end(sim: Simulation): boolean {
    const { zone } = this
    const there = this.#untracked
    if (zone === undefined || there === undefined) return true
    this.#untracked = undefined
    if (zone.state.isFull) {
      sim.tag(fullTag(0))
      sim.drop('flow state is full')
      return false
    }
    const { work } = sim
    const { protocol, src, dst } = there
    const left =
      protocol === protocols.icmp || protocol > protocols.udp ? there.ports : word(work, 18)
    const entry = new StateEntry(
      zone.number,
      protocol,
      [keyKinds.track, src, dst, there.ports],
      [keyKinds.track, word(work, 14), word(work, 10), swapPorts(left)],
    )
    this.add(sim, entry)
    return true
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
    const { protocol, src, dst, ports } = this
    const key = this.find(sim, keyKinds.track)
    if (key !== undefined) {
      this.use(sim, key, kind)
      return key.isForward ? 'forward' : 'return'
    }
    if (kind === 'plain') this.#untracked = { protocol, src, dst, ports }
    return 'forward'
  }

  /**
   * Reads the tuple of the packet of `key`. With `withId`, echoes are told apart by id: no action
   * sets that and no flow matches it, so who needs it pays with the agent handling each.
   */
  seeTuple(sim: Simulation, key: FlowKey, withId: boolean, quote?: IcmpQuote): TupleKind {
    if (!isIpv4(sim)) return 'none'
    sim.see('ipFrag')
    if (word(key, 9) >>> 24 === fragLater) return 'none'
    sim.see('ipProto')
    sim.seeIpSrc(32)
    sim.seeIpDst(32)
    const protocol = word(key, 9) & 0xff
    this.protocol = protocol
    this.src = word(key, 10)
    this.dst = word(key, 14)
    this.ports = 0
    switch (protocol) {
      case protocols.tcp:
        // Flags FIN and RST: who closes a connection must be seen doing it.
        sim.seeBits(19, tcpFin | tcpRst)
        this.#seePorts(sim, key)
        return 'plain'
      case protocols.udp:
      case protocols.sctp:
        this.#seePorts(sim, key)
        return 'plain'
      case protocols.icmp:
        return this.#seeIcmp(sim, word(key, 18) & 0xffff, withId, quote)
      default:
        return 'plain'
    }
  }

  #seePorts(sim: Simulation, key: FlowKey): void {
    sim.see('tpSrc')
    sim.see('tpDst')
    this.ports = word(key, 18)
  }

  #seeIcmp(
    sim: Simulation,
    type: number,
    withId: boolean,
    known: IcmpQuote | undefined,
  ): TupleKind {
    sim.see('tpSrc')
    const isError = isIcmpErrorType(type)
    if (!isError && type !== echoRequest && type !== 0) return 'none'
    if (!isError && !withId) {
      this.ports = echoPorts(type === echoRequest)
      return 'plain'
    }
    const quote = known ?? this.quoteOf(sim)
    if (quote === undefined) return 'none'
    const isEcho = quote.protocol === protocols.icmp
    const ports = isEcho && !withId ? echoPorts(quote.isRequest) : quote.ports
    this.ports = isError ? swapPorts(ports) : ports
    if (!isError) return 'plain'
    this.protocol = quote.protocol
    this.src = quote.dst
    this.dst = quote.src
    return 'error'
  }

  /** The entry under the tuple read last, also one that this walk has made. */
  find(sim: Simulation, kind: KeyKind): StateKey | undefined {
    const { zone, protocol, src, dst, ports } = this
    if (zone === undefined) return undefined
    const found = this.look(sim, kind, src, dst, ports)
    if (found === undefined)
      sim.tag(stateTag(zoneWord(zone.number, kind, protocol), src, dst, ports))
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
    const found = zone.state.find(zone.number, kind, protocol, src, dst, ports)
    if (found !== undefined || sim.effects.length === 0) return found
    const zoneNumber = zoneWord(zone.number, kind, protocol)
    for (const effect of sim.effects) {
      if (effect.kind !== 'addState') continue
      const { forward, backward } = effect.entry
      for (const key of [forward, backward])
        if (key.zone === zoneNumber && key.src === src && key.dst === dst && key.ports === ports)
          return key
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

  add(sim: Simulation, entry: StateEntry): void {
    sim.tag(entry.forward.tag)
    sim.sources.push(entry)
    sim.effects.push({ kind: 'addState', entry })
    if (entry.protocol === protocols.tcp && (word(sim.work, 19) & (tcpFin | tcpRst)) !== 0)
      this.unkeyed = true
  }

  /** Id or quote of an ICMP message; undefined when there is none or the bytes are not at hand. */
  quoteOf(sim: Simulation): IcmpQuote | undefined {
    if (!isIpv4(sim)) return undefined
    sim.see('ipProto')
    sim.see('ipFrag')
    if ((word(sim.work, 9) & 0xff) !== protocols.icmp || word(sim.work, 9) >>> 24 === fragLater)
      return undefined
    this.unkeyed = true
    if (!this.#isQuoteRead && this.packet !== undefined) {
      this.#isQuoteRead = true
      this.#received = readIcmpQuote(this.packet)
      this.#quote = this.#received && { ...this.#received }
    }
    return this.#quote
  }

  /** The packet that an ICMP error is about; undefined when this is no such error. */
  errorQuoteOf(sim: Simulation): IcmpQuote | undefined {
    return isIcmpError(sim) ? this.quoteOf(sim) : undefined
  }

  /** What the id or quote has become; undefined when it is as received. */
  get changedQuote(): IcmpQuote | undefined {
    const [now, then] = [this.#quote, this.#received]
    if (now === undefined || then === undefined) return undefined
    const isSame = now.src === then.src && now.dst === then.dst && now.ports === then.ports
    return isSame ? undefined : now
  }

  srcGroups(sim: Simulation): ReadonlySet<string> | undefined {
    sim.seeIpSrc(32)
    return this.#srcMembers.find(sim, this.zone, word(sim.work, 10))
  }

  dstGroups(sim: Simulation): ReadonlySet<string> | undefined {
    sim.seeIpDst(32)
    return this.#dstMembers.find(sim, this.zone, word(sim.work, 14))
  }
}

const noFrame = { inPort: undefined, outPort: undefined, dstRewritten: false }
const zoneWords = [8, 9, 10, 14, 18, 19] as const
const tcpFin = 0x01
const tcpRst = 0x04

/** Groups of the address looked at last. */
class CachedMembership {
  #address = -1
  #membership: Membership | undefined

  clear(): void {
    this.#address = -1
  }

  find(sim: Simulation, zone: Zone | undefined, address: number): ReadonlySet<string> | undefined {
    if (address !== this.#address) {
      this.#address = address
      this.#membership = zone?.memberships.find(address)
      sim.tag(this.#membership?.tag ?? memberTag(address))
    }
    return this.#membership?.groups
  }
}

/** Whether the packet is an ICMP error over IPv4. */
export function isIcmpError(sim: Simulation): boolean {
  if (!isIpv4(sim)) return false
  sim.see('ipProto')
  if ((word(sim.work, 9) & 0xff) !== protocols.icmp) return false
  sim.see('ipFrag')
  if (word(sim.work, 9) >>> 24 === fragLater) return false
  sim.see('tpSrc')
  return isIcmpErrorType(word(sim.work, 18) & 0xffff)
}

/** Source port for destination port. */
export function swapPorts(ports: number): number {
  return ((ports >>> 16) | (ports << 16)) >>> 0
}

/** An echo without its id: its type stands where the asked one's port would. */
function echoPorts(isRequest: boolean): number {
  return isRequest ? echoRequest : echoRequest << 16
}

function deviceOf(port: VirtualPort): string {
  return port.kind === 'bridge' ? port.bridge.id : port.router.id
}
