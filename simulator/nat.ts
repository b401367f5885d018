/**
 * Address translation by rules. Static: one address for another, without state. Dynamic: an address
 * and port for each connection, given once and remembered under both tuples; the reverse rules look
 * there. No two live entries of a zone share a tuple, so every answer finds its way back.
 *
 * ICMP errors are translated with the packet they are about: what happens to their own source
 * happens to the destination quoted, and the other way round.
 */
import { contains } from '../packet/address.ts'
import { noNumber } from './address-book.ts'
import type { NatAction, NatTarget } from './compile-action.ts'
import { isIp } from './condition.ts'
import type { PortRange } from './flow-state.ts'
import {
  followFirst,
  fragmentKindOf,
  isLaterFragment,
  placeOfFirst,
  rememberFirst,
} from './nat-fragment.ts'
import { isTargeted } from './nat-target.ts'
import {
  numberIn,
  ownTargets6,
  rewriteDst6,
  rewriteSrc6,
  translatePrefix6,
  translateStatic6,
} from './nat6.ts'
import type { Passage, TupleKind, Zone } from './passage.ts'
import type { VirtualRule } from './policy.ts'
import { type Simulation, word } from './simulation.ts'
import { keyKinds, type Side, StateEntry, zoneOf } from './state-entry.ts'
import { fullTag } from './tag.ts'
import { echo4, echo6, isIcmpProtocol, swapPorts } from './tuple.ts'

export const limits = {
  /** Ports tried for one connection; when none of them is free, none is. */
  probes: 4096,
  /** Of them those next to the connection's own. */
  neighbors: 4,
} as const

/** `skip` when the rule has nothing to translate: as if its condition had not been met. */
export type NatOutcome = 'done' | 'skip' | 'drop'

const protocols = { icmp: 1, tcp: 6, udp: 17, icmpv6: 58 } as const
const ethertypeIpv6 = 0x86dd

/** Does what a rule says about addresses. */
export function translate(sim: Simulation, rule: VirtualRule, action: NatAction): NatOutcome {
  if (!isIp(sim)) return 'skip'
  const kind = fragmentKindOf(action.kind)
  if (kind === undefined) return apply(sim, rule, action)
  if (isLaterFragment(sim)) return followFirst(sim, kind)
  const place = placeOfFirst(sim, kind)
  const outcome = apply(sim, rule, action)
  if (place !== undefined && outcome === 'done') rememberFirst(sim, kind, place)
  return outcome
}

function apply(sim: Simulation, rule: VirtualRule, action: NatAction): NatOutcome {
  const isIpv6 = sim.work[8] === ethertypeIpv6
  switch (action.kind) {
    case 'staticSnat':
    case 'staticDnat':
      if ((typeof action.address === 'number') === isIpv6) return 'skip'
      if (typeof action.address === 'number')
        translateStatic(sim, rule, action.kind, action.address)
      else translateStatic6(sim, rule, action.kind, action.address)
      return 'done'
    case 'prefixSnat':
    case 'prefixDnat':
      return isIpv6 ? translatePrefix6(sim, action.kind, action.prefix) : 'skip'
    case 'snat':
    case 'dnat':
      if ((action.targets[0]?.base !== undefined) !== isIpv6) return 'skip'
      return translateForward(sim, action.kind, action.targets)
    case 'masquerade': {
      const targets = isIpv6 ? ownTargets6(sim, action.targets) : ownTargets(sim, action.targets)
      return targets === undefined ? 'skip' : translateForward(sim, 'snat', targets)
    }
    case 'reverseSnat':
    case 'reverseDnat':
      return translateBack(sim, action.kind)
  }
}

function translateStatic(
  sim: Simulation,
  rule: VirtualRule,
  kind: 'staticSnat' | 'staticDnat',
  address: number,
): void {
  const old = word(sim.work, kind === 'staticSnat' ? 10 : 14)
  const quote = sim.passage.errorQuoteOf(sim)
  if (kind === 'staticSnat') {
    sim.rewriteIpSrc(address)
    const isMeant = rule.checks.some((one) => one.kind === 'icmpDataDst' && !one.not)
    if (quote !== undefined && (quote.dst === old || isMeant)) quote.dst = address
    return
  }
  sim.rewriteIpDst(address)
  sim.passage.frame.dstRewritten = true
  if (quote?.src === old) quote.src = address
}

function translateForward(
  sim: Simulation,
  kind: 'snat' | 'dnat',
  targets: readonly NatTarget[],
): NatOutcome {
  const { passage } = sim
  sim.seeProtocol()
  if (!isTranslated(word(sim.work, 9) & 0xff)) return 'skip'
  const found = passage.seeTuple(sim, sim.work, true)
  if (found === 'none' || passage.zone === undefined) return 'skip'
  let key = passage.find(sim, keyKinds[kind])
  // Who was led to what is not meant any more is led anew; its own source a client keeps.
  const isStale = key !== undefined && kind === 'dnat' && !isTargeted(key.entry, targets)
  if (key === undefined || isStale) {
    // Answers of a connection that nobody knows begin none.
    const type = word(sim.work, 18) & 0xffff
    const isAnswer =
      (passage.protocol === protocols.icmp && type === echo4.reply) ||
      (passage.protocol === protocols.icmpv6 && type === echo6.reply)
    if (found === 'error' || isAnswer || passage.generated) return 'skip'
    const entry = allocate(sim, passage.zone, kind, targets)
    if (entry === undefined) return 'drop'
    passage.add(sim, entry, key?.entry)
    key = entry.forward
  } else passage.use(sim, key, found)
  if (kind === 'snat') {
    const { dst, ports } = key.entry.backward
    changeSrc(sim, found, dst, ports >>> 16)
  } else {
    const { src, ports } = key.entry.backward
    changeDst(sim, found, src, ports & 0xffff)
    passage.frame.dstRewritten = true
  }
  return 'done'
}

function translateBack(sim: Simulation, kind: 'reverseSnat' | 'reverseDnat'): NatOutcome {
  const { passage } = sim
  sim.seeProtocol()
  if (!isTranslated(word(sim.work, 9) & 0xff)) return 'skip'
  const found = passage.seeTuple(sim, sim.work, true)
  if (found === 'none') return 'skip'
  const key = passage.find(sim, keyKinds[kind])
  if (key === undefined) return 'skip'
  passage.use(sim, key, found)
  const { src, dst, ports } = key.entry.forward
  if (kind === 'reverseSnat') changeDst(sim, found, src, ports & 0xffff)
  else changeSrc(sim, found, dst, ports >>> 16)
  return 'done'
}

function isTranslated(protocol: number): boolean {
  return protocol === protocols.tcp || protocol === protocols.udp || isIcmpProtocol(protocol)
}

/** Gives the packet another source; of an ICMP error the packet quoted another destination. */
export function changeSrc(sim: Simulation, found: TupleKind, address: number, port: number): void {
  const quote = sim.passage.quoteOf(sim)
  if (sim.passage.isIpv6) rewriteSrc6(sim, address)
  else sim.rewriteIpSrc(address)
  if (quote === undefined) sim.rewriteTpSrc(port)
  else if (found === 'error') {
    quote.dst = address >>> 0
    quote.ports = withPort(quote, port, false)
  } else quote.ports = both(port)
}

/** Gives the packet another destination. */
export function changeDst(sim: Simulation, found: TupleKind, address: number, port: number): void {
  const quote = sim.passage.quoteOf(sim)
  if (sim.passage.isIpv6) rewriteDst6(sim, address)
  else sim.rewriteIpDst(address)
  if (quote === undefined) sim.rewriteTpDst(port)
  else if (found === 'error') {
    quote.src = address >>> 0
    quote.ports = withPort(quote, port, true)
  } else quote.ports = both(port)
}

/** Ports of a quote with another source or destination port; an echo's id is both. */
function withPort(
  { protocol, ports }: { readonly protocol: number; readonly ports: number },
  port: number,
  isSource: boolean,
): number {
  if (isIcmpProtocol(protocol)) return both(port)
  return isSource ? ((ports & 0xffff_0000) | port) >>> 0 : ((ports & 0xffff) | (port << 16)) >>> 0
}

function both(id: number): number {
  return (id | (id << 16)) >>> 0
}

/** The addresses of the router port that the packet leaves by, of them the nearest. */
function ownTargets(
  { passage, work }: Simulation,
  targets: readonly NatTarget[],
): readonly NatTarget[] | undefined {
  const port = passage.frame.outPort
  if (port?.kind !== 'router') return undefined
  const near = port.addresses.find((cidr) => contains(cidr, word(work, 14))) ?? port.addresses[0]
  if (near === undefined) return undefined
  const { address } = near
  return targets.map((one) => ({ ...one, firstAddress: address, lastAddress: address }))
}

/** Finds an address and port whose answers are nobody else's; nothing is taken before the commit. */
function allocate(
  sim: Simulation,
  zone: Zone,
  kind: 'snat' | 'dnat',
  targets: readonly NatTarget[],
): StateEntry | undefined {
  if (zone.state.isFull) {
    sim.tag(fullTag(0))
    return sim.drop('flow state is full')
  }
  const { protocol, src, dst, ports, isIpv6 } = sim.passage
  if (isIpv6 && (src === noNumber || dst === noNumber)) return sim.drop('flow state is full')
  const search = { left: limits.probes, hash: mix(src, dst, ports) }
  for (let at = 0; at < targets.length; at++) {
    const target = targets[(search.hash + at) % targets.length]
    const back = target && searchTarget(sim, zone, kind, target, search)
    if (back === undefined) continue
    const there = { kind: keyKinds[kind], src, dst, ports }
    const { isIpv6 } = sim.passage
    const book = isIpv6 ? zone.state.book : undefined
    return new StateEntry(zoneOf(zone.number, isIpv6), protocol, there, back, book)
  }
  sim.tag(fullTag(zoneOf(zone.number, isIpv6)))
  return sim.drop('no free port to translate to')
}

interface Search {
  left: number
  readonly hash: number
}

/** The way back from the first free address and port, beginning with those that change least. */
function searchTarget(
  sim: Simulation,
  zone: Zone,
  kind: 'snat' | 'dnat',
  target: NatTarget,
  search: Search,
): Side | undefined {
  const { protocol, src, dst, ports } = sim.passage
  const own = kind === 'snat' ? ports & 0xffff : ports >>> 16
  const kindBack = kind === 'snat' ? keyKinds.reverseSnat : keyKinds.reverseDnat
  const { first, count } = portsOf(zone, kind, target, own)
  const addresses = target.lastAddress - target.firstAddress + 1
  const [likedAddress, likedPort] = likedOf(sim.passage, kind, target, own)
  const isOwn = likedPort >= first && likedPort < first + count
  const offset = isOwn ? likedPort - first : search.hash % Math.max(1, count)
  const start = likedAddress === undefined ? search.hash : likedAddress - target.firstAddress
  if (start < 0 || (likedAddress ?? 0) > target.lastAddress) return undefined
  for (let turn = 0; turn < addresses; turn++) {
    const counted = target.firstAddress + ((start + turn) % addresses)
    const address = target.base === undefined ? counted : numberIn(zone, target.base, counted)
    if (address === noNumber && target.base !== undefined) return undefined
    const from = kind === 'snat' ? dst : address
    const to = kind === 'snat' ? address : src
    for (let at = 0; at < count + limits.neighbors; at++) {
      if (search.left-- <= 0) return undefined
      // Where many have the same port, those next to it are taken too: go on somewhere else.
      const jump = at < limits.neighbors ? 0 : search.hash
      const port = first + ((offset + jump + at) % count)
      const back = portsBack(kind, protocol, ports, port)
      if (sim.passage.look(sim, kindBack, from, to, back) === undefined)
        return { kind: kindBack, src: from, dst: to, ports: back }
    }
  }
  return undefined
}

/** What an agent before this one had given, as far as it is of the target. */
function likedOf(
  { preferred }: Passage,
  kind: 'snat' | 'dnat',
  { base }: NatTarget,
  own: number,
): readonly [address: number | undefined, port: number] {
  const isSource = kind === 'snat'
  const port = (isSource ? preferred?.srcPort : preferred?.dstPort) ?? own
  if (base === undefined) return [isSource ? preferred?.src : preferred?.dst, port]
  const address6 = isSource ? preferred?.src6 : preferred?.dst6
  return [address6 === undefined ? undefined : Number(address6 - base), port]
}

/** The ports to choose from; sources are split among the hosts. */
function portsOf(
  zone: Zone,
  kind: 'snat' | 'dnat',
  { firstPort, lastPort }: NatTarget,
  own: number,
): PortRange {
  if (firstPort === 0) return { first: own, count: 1 }
  if (kind === 'snat') return zone.state.shareOf(firstPort, lastPort)
  return { first: firstPort, count: lastPort - firstPort + 1 }
}

/** The ports of the answers to a connection that got `port`. */
function portsBack(kind: 'snat' | 'dnat', protocol: number, ports: number, port: number): number {
  if (isIcmpProtocol(protocol)) return both(port) | 0
  return kind === 'snat'
    ? (swapPorts(ports) & 0xffff) | (port << 16)
    : (swapPorts(ports) & 0xffff_0000) | port
}

function mix(src: number, dst: number, ports: number): number {
  let mixed = Math.imul(src ^ Math.imul(dst, 0x85eb_ca6b), 0x9e37_79b1)
  mixed = Math.imul(mixed ^ (mixed >>> 15) ^ ports, 0xc2b2_ae35)
  return (mixed ^ (mixed >>> 16)) >>> 0
}
