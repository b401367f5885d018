/**
 * Whether a packet meets a rule's condition. Each check reads only what it needs, in an order that
 * reads the cheap and coarse first; the first that fails ends it.
 *
 * A field that the packet lacks (ports of a later fragment, addresses of a frame that is not IP of that family)
 * has no value: no check holds of it, so an inverted check does.
 */
import { parseCidr, parseMac, prefixMask } from '../packet/address.ts'
import { parseCidr6, type Words6, wordsOf6 } from '../packet/address6.ts'
import { protoUnreadable } from '../packet/extension.ts'
import { fragLater, fragNone } from '../packet/flow-key.ts'
import type { Condition } from '../topology/model.ts'
import { macHigh, macLow } from './mac-table.ts'
import type { VirtualRule } from './policy.ts'
import type { VirtualPort } from './port.ts'
import { commonBits } from './route-table6.ts'
import { type Simulation, word } from './simulation.ts'

type CheckKind = Exclude<keyof Condition, 'invert' | 'fragments'>

/** One field's demand. All have one shape, so that reading them is fast. */
export interface Check {
  readonly kind: CheckKind
  readonly not: boolean
  /** Numbers by kind: an address and prefix length, a range, a MAC address and mask in words. */
  readonly a: number
  readonly b: number
  readonly c: number
  readonly d: number
  /** An IPv6 network's address; its length is in `b`. */
  readonly words: Words6 | undefined
  /** An id, where the kind names an object. */
  readonly id: string
  readonly ids: readonly string[]
}

const etherTypes = { ipv4: 0x0800, ipv6: 0x86dd } as const
const noVlan = -1

/** Kinds in the order they are looked at. */
const order: readonly CheckKind[] = [
  'inPorts',
  'outPorts',
  'inPortGroup',
  'outPortGroup',
  'portGroup',
  'traversed',
  'dstRewritten',
  'vlan',
  'ethType',
  'ethSrc',
  'ethDst',
  'protocol',
  'tos',
  'dst',
  'src',
  'dstPorts',
  'srcPorts',
  'dstGroup',
  'srcGroup',
  'flow',
  'icmpDataSrc',
  'icmpDataDst',
]

export function compileChecks(condition: Condition): Check[] {
  return order.flatMap((kind) => compileCheck(kind, condition) ?? [])
}

function compileCheck(kind: CheckKind, condition: Condition): Check | undefined {
  if (kind === 'dstRewritten') {
    if (condition.dstRewritten === undefined) return undefined
    return check(kind, !condition.dstRewritten)
  }
  const field = condition[kind]
  if (field === undefined) return undefined
  return { ...check(kind, field.not === true), ...compileValue(kind, field.is) }
}

function check(kind: CheckKind, not: boolean): Check {
  return { kind, not, a: 0, b: 0, c: 0, d: 0, words: undefined, id: '', ids: [] }
}

type Values = NonNullable<Exclude<Condition[CheckKind], boolean | undefined>>['is']

function compileValue(kind: CheckKind, is: Values): Partial<Check> {
  if (typeof is === 'number') return { a: is }
  if (Array.isArray(is)) return { ids: is }
  if (typeof is === 'string') {
    if (kind === 'flow') return { a: is === 'return' ? 1 : 0 }
    if (kind === 'vlan') return { a: noVlan }
    const cidr = parseCidr(is)
    const isAddress = kind === 'src' || kind === 'dst' || kind.startsWith('icmpData')
    if (!isAddress) return { id: is }
    if (cidr !== undefined) return { a: cidr.address, b: cidr.prefixLength }
    const cidr6 = parseCidr6(is)
    return cidr6 === undefined ? {} : { words: wordsOf6(cidr6.address), b: cidr6.prefixLength }
  }
  if ('first' in is) return { a: is.first, b: is.last }
  if ('address' in is) {
    const mac = parseMac(is.address) ?? 0
    const mask = parseMac(is.mask ?? 'ff:ff:ff:ff:ff:ff') ?? 0
    return { a: macHigh(mac), b: macLow(mac), c: macHigh(mask), d: macLow(mask) }
  }
  return { id: is.id, ids: [is.kind] }
}

/** Whether a packet is one that the rule acts on. */
export function meets(
  sim: Simulation,
  rule: Pick<VirtualRule, 'fragments' | 'checks' | 'invert'>,
): boolean {
  if (rule.fragments !== 'any' && !meetsFragments(sim, rule.fragments)) return false
  for (const one of rule.checks) if (holds(sim, one) === one.not) return rule.invert
  return !rule.invert
}

/** What is not IP is in no fragments. */
function meetsFragments(sim: Simulation, policy: VirtualRule['fragments']): boolean {
  if (!isIp(sim)) return policy !== 'nonHeader'
  sim.seeFragment()
  const frag = word(sim.work, 9) >>> 24
  if (policy === 'unfragmented') return frag === fragNone
  return policy === 'nonHeader' ? frag === fragLater : frag !== fragLater
}

function holds(sim: Simulation, one: Check): boolean {
  const { work, passage } = sim
  switch (one.kind) {
    case 'inPorts':
      return includes(one, passage.frame.inPort)
    case 'outPorts':
      return includes(one, passage.frame.outPort)
    case 'inPortGroup':
      return passage.frame.inPort?.groups.has(one.id) === true
    case 'outPortGroup':
      return passage.frame.outPort?.groups.has(one.id) === true
    case 'portGroup':
      return (
        passage.frame.inPort?.groups.has(one.id) === true ||
        passage.frame.outPort?.groups.has(one.id) === true
      )
    case 'traversed':
      return passage.hasTraversed(sim.devices, one.ids[0] ?? '', one.id)
    case 'dstRewritten':
      return passage.frame.dstRewritten
    case 'vlan':
      sim.seeVlan()
      return one.a === noVlan ? work[7] === 0 : work[7] !== 0 && (word(work, 7) & 0xfff) === one.a
    case 'ethType':
      sim.seeEthType()
      return work[8] === one.a
    case 'ethSrc':
      return matchesMac(sim, 5, one)
    case 'ethDst':
      return matchesMac(sim, 3, one)
    default:
      return holdsAboveEthernet(sim, one)
  }
}

function holdsAboveEthernet(sim: Simulation, one: Check): boolean {
  const { work, passage } = sim
  switch (one.kind) {
    case 'protocol':
      if (!isIp(sim)) return false
      sim.seeProtocol()
      noteHidden(sim)
      return (word(work, 9) & 0xff) === one.a
    case 'tos':
      if (!isIp(sim)) return false
      sim.seeTos()
      return ((word(work, 9) >>> 8) & 0xff) === one.a
    case 'src':
      if (one.words !== undefined) return isInNetwork6(sim, 10, one.words, one.b)
      if (!isIpv4(sim)) return false
      sim.seeIpSrc(one.b)
      return ((word(work, 10) ^ one.a) & prefixMask(one.b)) === 0
    case 'dst':
      if (one.words !== undefined) return isInNetwork6(sim, 14, one.words, one.b)
      if (!isIpv4(sim)) return false
      sim.seeIpDst(one.b)
      return ((word(work, 14) ^ one.a) & prefixMask(one.b)) === 0
    case 'srcGroup':
      return isIp(sim) && passage.srcGroups(sim)?.has(one.id) === true
    case 'dstGroup':
      return isIp(sim) && passage.dstGroups(sim)?.has(one.id) === true
    case 'srcPorts': {
      if (!seePorts(sim)) return false
      sim.seeTpSrc()
      const port = word(work, 18) & 0xffff
      return port >= one.a && port <= one.b
    }
    case 'dstPorts': {
      if (!seePorts(sim)) return false
      sim.seeTpDst()
      const port = word(work, 18) >>> 16
      return port >= one.a && port <= one.b
    }
    case 'flow':
      return (passage.direction(sim) === 'return') === (one.a === 1)
    case 'icmpDataSrc':
      return inQuote(sim, passage.errorQuoteOf(sim)?.src, one)
    case 'icmpDataDst':
      return inQuote(sim, passage.errorQuoteOf(sim)?.dst, one)
    default:
      return false
  }
}

/** Of IPv6, `address` is a number in the address book. */
function inQuote(sim: Simulation, address: number | undefined, { a, b, words }: Check): boolean {
  const isIpv6 = sim.work[8] === etherTypes.ipv6
  if (address === undefined || isIpv6 !== (words !== undefined)) return false
  if (words === undefined) return ((address ^ a) & prefixMask(b)) === 0
  const quoted = sim.passage.quotes.wordsOf(address)
  return quoted !== undefined && commonBits(quoted, 0, words) >= b
}

function isInNetwork6(sim: Simulation, at: 10 | 14, words: Words6, length: number): boolean {
  if (!isIp(sim) || sim.work[8] !== etherTypes.ipv6) return false
  if (at === 10) sim.seeIpv6Src(length)
  else sim.seeIpv6Dst(length)
  return commonBits(sim.work, at, words) >= length
}

function includes({ ids }: Check, port: VirtualPort | undefined): boolean {
  return port !== undefined && ids.includes(port.id)
}

function matchesMac(sim: Simulation, at: 3 | 5, { a, b, c, d }: Check): boolean {
  sim.seeBits(at, c)
  sim.seeBits(at + 1, d)
  return ((word(sim.work, at) ^ a) & c) === 0 && ((word(sim.work, at + 1) ^ b) & d) === 0
}

export function isIpv4(sim: Simulation): boolean {
  sim.seeEthType()
  return sim.work[8] === etherTypes.ipv4
}

/** Whether the packet is IPv4 or IPv6. */
export function isIp(sim: Simulation): boolean {
  sim.seeEthType()
  return sim.work[8] === etherTypes.ipv4 || sim.work[8] === etherTypes.ipv6
}

/** Filters let nothing pass of which they would have to guess what it is. */
function noteHidden({ work, passage }: Simulation): void {
  if ((word(work, 9) & 0xff) === protoUnreadable && work[8] === etherTypes.ipv6)
    passage.isHidden = true
}

/** Whether the packet has ports, or an ICMP type and code; either half is for the caller to see. */
export function seePorts(sim: Simulation): boolean {
  if (!isIp(sim)) return false
  sim.seeFragment()
  if (word(sim.work, 9) >>> 24 === fragLater) return false
  sim.seeProtocol()
  noteHidden(sim)
  switch (word(sim.work, 9) & 0xff) {
    case 1:
    case 6:
    case 17:
    case 58:
    case 132:
      return true
    default:
      return false
  }
}
