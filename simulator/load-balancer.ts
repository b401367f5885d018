/**
 * Balances IPv4 connections to VIPs among the members of their pools, on a router, before its
 * chains: what is balanced passes neither of them, there or back.
 *
 *   client ──▶ VIP   [ member chosen, destination rewritten ] ─▶ routed ─▶ [ source, if need be ] ─▶ member
 *   client ◀── VIP   [ by state: source and destination back ] ◀──────────────────────────────────── member
 *
 * The member of a connection is flow state. It stays the same while the member keeps what it has;
 * else the connection is balanced anew, and of TCP the new member resets it. The same happens to
 * packets of a connection whose state is gone: the hash leads them to the member they were with.
 *
 * The source changes in two cases: when a packet leaves by the port it came in by, since the answer
 * would pass us by (then it is the router's own), and when the client uses one port towards two
 * VIPs with the same server behind (then only its port is another one).
 */
import { contains } from '../packet/address.ts'
import { fragLater, fragNone } from '../packet/flow-key.ts'
import {
  anyPort,
  hashOf,
  type VirtualBalancer,
  type VirtualMember,
  type VirtualVip,
} from './balancer.ts'
import { changeDst, changeSrc } from './nat.ts'
import type { TupleKind, Zone } from './passage.ts'
import { isIcmpError } from './quotes.ts'
import type { VirtualRouterPort } from './router.ts'
import { type Simulation, word } from './simulation.ts'
import { keyKinds, StateEntry, type StateKey, zoneOf } from './state-entry.ts'
import { fullTag, stickTag } from './tag.ts'

export const limits = {
  /** Source ports tried for one connection. */
  probes: 4096,
  firstPort: 1024,
  lastPort: 65_535,
} as const

/** `none`: not a packet for the balancer. `refused`: no member may have it. */
export type BalanceOutcome = 'none' | 'balanced' | 'refused' | 'dropped'

/** What is left to do for a balanced packet when its way out is known. */
export type Balance =
  | { readonly kind: 'known'; readonly entry: StateEntry; readonly found: TupleKind }
  | {
      readonly kind: 'new'
      readonly member: VirtualMember
      /** What stood in its place. */
      readonly stale: StateEntry | undefined
    }
  | { readonly kind: 'back'; readonly entry: StateEntry }

const protocols = { tcp: 6, udp: 17 } as const
/** Takes a packet that came to a router; rewrites its destination, on its way back both ends. */
export function balance(sim: Simulation, balancer: VirtualBalancer, zone: Zone): BalanceOutcome {
  const dst = word(sim.work, 14)
  sim.seeIpDst(balancer.listening.bitsFor(dst))
  if (balancer.listens(dst)) {
    const outcome = balanceToMember(sim, balancer, zone)
    if (outcome !== 'none') return outcome
  }
  return balanceFromMember(sim, balancer, zone)
}

function balanceToMember(sim: Simulation, balancer: VirtualBalancer, zone: Zone): BalanceOutcome {
  const { work, passage } = sim
  if (isIcmpError(sim)) {
    passage.comeTo(zone)
    if (passage.seeTuple(sim, work, true) !== 'error') return 'none'
    const { protocol, dst, ports } = passage
    const vip = balancer.vip(protocol, dst, ports >>> 16)
    const key = vip && passage.find(sim, keyKinds.balance)
    const member = vip && key && memberOf(sim, vip, key)
    return key && member ? goOn(sim, key, member, 'error') : 'none'
  }
  sim.seeProtocol()
  const protocol = word(work, 9) & 0xff
  if (protocol !== protocols.tcp && protocol !== protocols.udp) return 'none'
  sim.seeFragment()
  if (word(work, 9) >>> 24 !== fragNone) return drop(sim, 'a fragment cannot be balanced')
  sim.seeTpDst()
  const vip = balancer.vip(protocol, word(work, 14), word(work, 18) >>> 16)
  return vip === undefined ? 'none' : admit(sim, vip, zone)
}

/** A packet for a VIP, of a connection that stands or begins. */
function admit(sim: Simulation, vip: VirtualVip, zone: Zone): BalanceOutcome {
  const { passage } = sim
  passage.comeTo(zone)
  passage.seeTuple(sim, sim.work, true)
  const key = passage.find(sim, keyKinds.balance)
  const keeper = key && memberOf(sim, vip, key)
  const stick = vip.isSticky ? vip.stickOf(passage.src) : undefined
  if (stick !== undefined) sim.sources.push(stick)
  if (key !== undefined && keeper !== undefined) return goOn(sim, key, keeper, 'plain')
  const member = choose(sim, vip)
  if (member === undefined) return 'refused'
  sim.tag(member.tag)
  if (vip.isSticky && stick?.member !== member.id)
    sim.effects.push({ kind: 'stick', vip, client: passage.src, member: member.id })
  sim.story?.push(`VIP ${vip.name}: a new connection, for member ${member.id}`)
  changeDst(sim, 'plain', member.address, portOf(member, passage.ports >>> 16))
  passage.frame.balance = { kind: 'new', member, stale: key?.entry }
  return 'balanced'
}

function portOf({ port }: VirtualMember, asked: number): number {
  return port === anyPort ? asked : port
}

/** The member that has a connection, while it keeps it. */
function memberOf(sim: Simulation, vip: VirtualVip, key: StateKey): VirtualMember | undefined {
  const { src, ports } = key.entry.backward
  sim.tag(key.tag)
  const member = vip.memberAt(src >>> 0, ports & 0xffff)
  if (member === undefined) return undefined
  sim.tag(member.tag)
  return (vip.isSticky ? member.keepsSticky : member.keeps) ? member : undefined
}

function goOn(
  sim: Simulation,
  key: StateKey,
  member: VirtualMember,
  found: TupleKind,
): BalanceOutcome {
  sim.passage.use(sim, key, found)
  sim.story?.push(`a connection of member ${member.id}`)
  changeDst(sim, found, member.address, key.entry.backward.ports & 0xffff)
  sim.passage.frame.balance = { kind: 'known', entry: key.entry, found }
  return 'balanced'
}

/** The member for a new connection; undefined when none may have it. */
function choose(sim: Simulation, vip: VirtualVip): VirtualMember | undefined {
  const { preferred, src, dst, ports } = sim.passage
  if (preferred?.dst !== undefined) {
    // What an agent before this one chose stays.
    const member = vip.memberAt(preferred.dst, preferred.dstPort ?? ports >>> 16)
    if (vip.isSticky ? member?.keepsSticky : member?.keeps) return member
  }
  sim.choices.add(sim, vip.poolTag)
  if (!vip.isSticky) return vip.choose(hashOf(src, dst, ports))
  sim.choices.add(sim, stickTag(vip.id, src))
  const stick = vip.stickOf(src)
  const kept = stick && vip.members.find(({ id }) => id === stick.member)
  if (kept !== undefined) sim.choices.add(sim, kept.tag)
  return kept !== undefined && kept.share > 0 ? kept : vip.choose(hashOf(src, dst, 0))
}

function balanceFromMember(sim: Simulation, balancer: VirtualBalancer, zone: Zone): BalanceOutcome {
  const { work, passage } = sim
  const src = word(work, 10)
  if (!isIcmpError(sim)) {
    sim.seeIpSrc(balancer.serving.bitsFor(src))
    if (!balancer.serves(src)) return 'none'
    sim.seeProtocol()
    const protocol = word(work, 9) & 0xff
    if (protocol !== protocols.tcp && protocol !== protocols.udp) return 'none'
    sim.seeFragment()
    if (word(work, 9) >>> 24 === fragLater) return 'none'
    sim.seeTpSrc()
    if (!balancer.isServer(protocol, src, word(work, 18) & 0xffff)) return 'none'
  }
  passage.comeTo(zone)
  const found = passage.seeTuple(sim, work, true)
  if (found === 'none') return 'none'
  const key = passage.find(sim, keyKinds.reverseBalance)
  if (key === undefined) return 'none'
  if (word(work, 9) >>> 24 !== fragNone) return drop(sim, 'a fragment cannot be balanced')
  passage.use(sim, key, found)
  const { forward } = key.entry
  sim.story?.push('an answer of a member')
  changeSrc(sim, found, forward.dst, forward.ports >>> 16)
  if (isSourceChanged(key.entry)) changeDst(sim, found, forward.src, forward.ports & 0xffff)
  passage.frame.balance = { kind: 'back', entry: key.entry }
  return 'balanced'
}

/**
 * The exterior ports that a connection's packets have come by, of an answer that another host's
 * balancer may wait for: it goes back by the one that the question came by. Names the member's too.
 */
export function wayBack(todo: Balance | undefined): readonly string[] {
  const share = todo?.kind === 'back' ? todo.entry.share : undefined
  return share === undefined ? nowhere : [share.ingress, share.egress]
}

const nowhere: readonly string[] = []

/** Does what is left when a balanced packet leaves by a port. False when it ends here. */
export function leaveBalanced(
  sim: Simulation,
  todo: Balance,
  ingress: VirtualRouterPort,
  egress: VirtualRouterPort,
): boolean {
  switch (todo.kind) {
    case 'back':
      return true
    case 'known':
      if (isSourceChanged(todo.entry)) restoreSource(sim, todo.entry, todo.found)
      return true
    case 'new': {
      const entry = open(sim, todo, ingress, egress)
      if (entry === undefined) return false
      sim.passage.add(sim, entry, todo.stale)
      if (isSourceChanged(entry)) restoreSource(sim, entry, 'plain')
      return true
    }
  }
}

function isSourceChanged({ forward, backward }: StateEntry): boolean {
  return backward.dst !== forward.src || backward.ports >>> 16 !== (forward.ports & 0xffff)
}

function restoreSource(sim: Simulation, { backward }: StateEntry, found: TupleKind): void {
  changeSrc(sim, found, backward.dst, backward.ports >>> 16)
}

/** The state of a new connection, with a tuple for its answers that is nobody else's. */
function open(
  sim: Simulation,
  { member }: Extract<Balance, { kind: 'new' }>,
  ingress: VirtualRouterPort,
  egress: VirtualRouterPort,
): StateEntry | undefined {
  const { passage } = sim
  const { zone, protocol, src, dst, ports } = passage
  if (zone === undefined) return undefined
  if (zone.state.isFull) {
    sim.tag(fullTag(0))
    return sim.drop('flow state is full')
  }
  const own = ingress === egress ? addressToward(egress, member.address) : undefined
  const source = own ?? src
  const port = findPort(sim, zone, member, source, own !== undefined)
  if (port === undefined) {
    sim.tag(fullTag(zoneOf(zone.number, false)))
    return sim.drop('no free port to translate to')
  }
  const answer = portOf(member, ports >>> 16) | (port << 16)
  return new StateEntry(
    zone.number,
    protocol,
    { kind: keyKinds.balance, src, dst, ports },
    { kind: keyKinds.reverseBalance, src: member.address, dst: source, ports: answer },
  )
}

/** A source port: the client's own if no other connection to the member has it. */
function findPort(
  sim: Simulation,
  zone: Zone,
  member: VirtualMember,
  source: number,
  isOurs: boolean,
): number | undefined {
  const { passage } = sim
  const own = passage.preferred?.srcPort ?? passage.ports & 0xffff
  if (!isOurs && isFree(sim, member, source, own)) return own
  const { firstPort, lastPort } = limits
  // The router's address is all hosts': each takes from its share of the ports.
  const { first, count } = isOurs
    ? zone.state.shareOf(firstPort, lastPort)
    : { first: firstPort, count: lastPort - firstPort + 1 }
  const isAllowed = isOurs && own >= first && own < first + count
  if (isAllowed && isFree(sim, member, source, own)) return own
  const start = hashOf(passage.src, member.address, own) % Math.max(1, count)
  for (let at = 0; at < Math.min(count, limits.probes); at++) {
    const port = first + ((start + at) % count)
    if (isFree(sim, member, source, port)) return port
  }
  return undefined
}

/** Whether the answers to a source port are nobody else's. */
function isFree(sim: Simulation, member: VirtualMember, source: number, port: number): boolean {
  const { passage } = sim
  const answer = portOf(member, passage.ports >>> 16) | (port << 16)
  const { reverseBalance } = keyKinds
  return passage.look(sim, reverseBalance, member.address, source, answer) === undefined
}

function addressToward(port: VirtualRouterPort, address: number): number | undefined {
  const near = port.addresses.find((cidr) => contains(cidr, address)) ?? port.addresses[0]
  return near?.address
}

function drop(sim: Simulation, reason: string): 'dropped' {
  sim.drop(reason)
  return 'dropped'
}
