/**
 * The rules of a long chain by the field that tells most of them apart: the source, the destination
 * (single addresses, prefixes and address groups alike) or the destination port. A packet meets
 * only the rules listed under its own value and those that do not look at the field, in the chain's
 * order; so a chain costs what a packet may meet, not what it holds.
 */
import { networkOf, prefixMask } from '../packet/address.ts'
import type { Words6 } from '../packet/address6.ts'
import { AddressTable } from './address-table.ts'
import { type Check, isIp, seePorts } from './condition.ts'
import type { VirtualRule } from './policy.ts'
import { cut6 } from './route-table6.ts'
import { type Simulation, word } from './simulation.ts'

export const limits = {
  /** Rules below which a chain is run through one by one. */
  rules: 12,
  /** Ports in a range beyond which a rule stands under no single port. */
  portsInRange: 16,
} as const

const ethertypeIpv6 = 0x86dd
const indexFields = ['src', 'dst', 'dstPorts'] as const
type IndexField = (typeof indexFields)[number]

/** Where a rule stands: under networks, groups or ports; in `rest` when under none. */
interface Places {
  readonly networks: Map<number, Map<number, VirtualRule[]>>
  /** Of IPv6, likewise by prefix length. */
  readonly networks6: Map<number, AddressTable<VirtualRule[]>>
  readonly groups: Map<string, VirtualRule[]>
  readonly ports: Map<number, VirtualRule[]>
  readonly rest: VirtualRule[]
}

export class RuleIndex {
  readonly #field: IndexField
  readonly #places: Places
  /** The lists being merged, and how far each has been read. */
  readonly #lists: (readonly VirtualRule[])[] = []
  readonly #heads: number[] = []
  #count = 0
  #value = 0
  /** The value of an address of IPv6. */
  readonly #words = new Uint32Array(4)

  private constructor(field: IndexField, places: Places) {
    this.#field = field
    this.#places = places
  }

  /** The best index for these rules; undefined when none is worth it. */
  static of(rules: readonly VirtualRule[]): RuleIndex | undefined {
    if (rules.length < limits.rules) return undefined
    let best: RuleIndex | undefined
    let least = rules.length
    for (const field of indexFields) {
      const places = place(rules, field)
      const cost = costOf(places)
      if (cost >= least) continue
      least = cost
      best = new RuleIndex(field, places)
    }
    return least * 2 <= rules.length ? best : undefined
  }

  /** Begins with the rules that the packet may meet, from `position` on. */
  start(sim: Simulation, position: number): void {
    this.#count = 0
    this.#push(this.#places.rest)
    if (this.#field === 'dstPorts') this.#listPort(sim)
    else this.#listAddress(sim, this.#field)
    for (let at = 0; at < this.#count; at++) {
      const list = this.#lists[at]
      let head = 0
      if (position > 0) while ((list?.[head]?.position ?? position) < position) head++
      this.#heads[at] = head
    }
  }

  /** The next rule in order. A packet that was rewritten meets those of its new value. */
  next(sim: Simulation, last: VirtualRule | undefined): VirtualRule | undefined {
    if (last !== undefined && this.#hasChanged(sim)) this.start(sim, last.position + 1)
    let found: VirtualRule | undefined
    let from = 0
    for (let at = 0; at < this.#count; at++) {
      const rule = this.#lists[at]?.[this.#heads[at] ?? 0]
      if (rule === undefined || (found !== undefined && rule.position >= found.position)) continue
      found = rule
      from = at
    }
    if (found === undefined) return undefined
    this.#heads[from] = (this.#heads[from] ?? 0) + 1
    // A rule that names several ports or groups stands in several lists.
    for (let at = 0; at < this.#count; at++)
      if (this.#lists[at]?.[this.#heads[at] ?? 0] === found)
        this.#heads[at] = (this.#heads[at] ?? 0) + 1
    return found
  }

  #valueOf({ work }: Simulation): number {
    if (this.#field === 'src') return word(work, 10)
    return this.#field === 'dst' ? word(work, 14) : word(work, 18)
  }

  #hasChanged(sim: Simulation): boolean {
    const { work } = sim
    if (this.#valueOf(sim) !== this.#value) return true
    if (work[8] !== ethertypeIpv6 || this.#field === 'dstPorts') return false
    const at = this.#field === 'src' ? 10 : 14
    return this.#words.some((one, index) => one !== work[at + index])
  }

  #listPort(sim: Simulation): void {
    this.#value = this.#valueOf(sim)
    if (!seePorts(sim)) return
    sim.seeTpDst()
    this.#push(this.#places.ports.get(this.#value >>> 16))
  }

  #listAddress(sim: Simulation, field: 'src' | 'dst'): void {
    this.#value = this.#valueOf(sim)
    if (!isIp(sim)) return
    const isSource = field === 'src'
    if (sim.work[8] === ethertypeIpv6) this.#listNetworks6(sim, isSource)
    else this.#listNetworks(sim, isSource)
    if (this.#places.groups.size === 0) return
    const groups = isSource ? sim.passage.srcGroups(sim) : sim.passage.dstGroups(sim)
    for (const group of groups ?? []) this.#push(this.#places.groups.get(group))
  }

  #listNetworks6(sim: Simulation, isSource: boolean): void {
    const at = isSource ? 10 : 14
    for (let index = 0; index < 4; index++) this.#words[index] = word(sim.work, at + index)
    const [a = 0, b = 0, c = 0, d = 0] = this.#words
    for (const [length, networks] of this.#places.networks6) {
      if (isSource) sim.seeIpv6Src(length)
      else sim.seeIpv6Dst(length)
      this.#push(networks.get(cut6([a, b, c, d], length)))
    }
  }

  #listNetworks(sim: Simulation, isSource: boolean): void {
    for (const [length, networks] of this.#places.networks) {
      if (isSource) sim.seeIpSrc(length)
      else sim.seeIpDst(length)
      this.#push(networks.get((this.#value & prefixMask(length)) | 0))
    }
  }

  #push(list: readonly VirtualRule[] | undefined): void {
    if (list === undefined) return
    this.#lists[this.#count] = list
    this.#heads[this.#count++] = 0
  }
}

function place(rules: readonly VirtualRule[], field: IndexField): Places {
  const places: Places = {
    networks: new Map(),
    networks6: new Map(),
    groups: new Map(),
    ports: new Map(),
    rest: [],
  }
  for (const rule of rules) if (!placeOne(rule, field, places)) places.rest.push(rule)
  return places
}

/** Only what a packet of another value surely does not meet stands under a value. */
function placeOne(rule: VirtualRule, field: IndexField, places: Places): boolean {
  if (rule.invert) return false
  const checks = rule.checks.filter(({ not }) => !not)
  const own = checks.find(({ kind }) => kind === field)
  if (own !== undefined) return placeUnder(rule, field, own, places)
  const group = checks.find(({ kind }) => kind === `${field}Group`)
  if (group === undefined) return false
  push(places.groups, group.id, rule)
  return true
}

function placeUnder(
  rule: VirtualRule,
  field: IndexField,
  { a, b, words }: Check,
  places: Places,
): boolean {
  if (field === 'dstPorts') {
    if (b - a >= limits.portsInRange) return false
    for (let port = a; port <= b; port++) push(places.ports, port, rule)
    return true
  }
  if (words !== undefined) {
    placeUnder6(rule, cut6(words, b), b, places)
    return true
  }
  const networks = places.networks.get(b) ?? new Map<number, VirtualRule[]>()
  places.networks.set(b, networks)
  push(networks, networkOf({ address: a, prefixLength: b }) | 0, rule)
  return true
}

function placeUnder6(
  rule: VirtualRule,
  network: Words6,
  length: number,
  { networks6 }: Places,
): void {
  const networks = networks6.get(length) ?? new AddressTable<VirtualRule[]>()
  networks6.set(length, networks)
  const list = networks.get(network)
  if (list === undefined) networks.set(network, [rule])
  else list.push(rule)
}

function push<K>(map: Map<K, VirtualRule[]>, key: K, rule: VirtualRule): void {
  const list = map.get(key)
  if (list === undefined) map.set(key, [rule])
  else list.push(rule)
}

/** About how many rules a packet meets at worst. */
function costOf({ networks, networks6, groups, ports, rest }: Places): number {
  const longest = (lists: Iterable<readonly VirtualRule[]>) => {
    let most = 0
    for (const { length } of lists) most = Math.max(most, length)
    return most
  }
  let cost = rest.length + longest(groups.values()) + longest(ports.values())
  for (const one of networks.values()) cost += longest(one.values())
  for (const one of networks6.values()) cost += longest(one.values())
  return cost
}
