/**
 * Chains, rules and groups compiled: what conditions read ready as numbers, rules in order, long
 * chains indexed. It follows the store; devices hold a chain for good, its rules change in it.
 */
import { formatIpv6, parseIp, parseIpv6 } from '../packet/address.ts'
import { wordsOf6 } from '../packet/address6.ts'
import type { AddressGroup, Condition, Rule } from '../topology/model.ts'
import type { Change } from '../topology/store.ts'
import { AddressTable } from './address-table.ts'
import { type CompiledAction, compileAction } from './compile-action.ts'
import { type Check, compileChecks } from './condition.ts'
import type { VirtualPort } from './port.ts'
import { RuleIndex } from './rule-index.ts'
import { type AnyAddress, chainTag, memberTag, type Tag } from './tag.ts'

export interface VirtualChain {
  readonly id: string
  name: string
  readonly tag: Tag
  rules: readonly VirtualRule[]
  /** Of a long chain. */
  index: RuleIndex | undefined
  /** While its rules are run: a jump back to it is passed over. */
  isRunning: boolean
}

export interface VirtualRule {
  readonly id: string
  readonly position: number
  readonly invert: boolean
  readonly fragments: 'any' | 'header' | 'nonHeader' | 'unfragmented'
  readonly checks: readonly Check[]
  readonly action: CompiledAction
}

/** The groups that an address is in. */
export interface Membership {
  readonly tag: Tag
  readonly groups: Set<string>
}

/** Address groups the other way round: by address. */
export class Memberships {
  readonly #byAddress = new Map<number, Membership>()
  readonly #byAddress6 = new AddressTable<Membership>()

  find(address: number): Membership | undefined {
    return this.#byAddress.get(address | 0)
  }

  find6(a: number, b: number, c: number, d: number): Membership | undefined {
    return this.#byAddress6.find(a, b, c, d)
  }

  /** Makes a group hold these addresses; pushes the tags of those that came or went. */
  set(group: string, before: readonly string[], after: readonly string[], tags: Tag[]): void {
    const old = addressesOf(before)
    const now = addressesOf(after)
    for (const [text, address] of old) if (!now.has(text)) this.#leave(group, address, tags)
    for (const [text, address] of now) if (!old.has(text)) this.#join(group, address, tags)
  }

  #join(group: string, address: AnyAddress, tags: Tag[]): void {
    let membership = this.#get(address)
    if (membership === undefined) {
      membership = { tag: memberTag(address), groups: new Set() }
      if (typeof address === 'number') this.#byAddress.set(address | 0, membership)
      else this.#byAddress6.set(address, membership)
    }
    membership.groups.add(group)
    tags.push(membership.tag)
  }

  #leave(group: string, address: AnyAddress, tags: Tag[]): void {
    const membership = this.#get(address)
    if (membership?.groups.delete(group) !== true) return
    tags.push(membership.tag)
    if (membership.groups.size > 0) return
    if (typeof address === 'number') this.#byAddress.delete(address | 0)
    else this.#byAddress6.delete(address)
  }

  #get(address: AnyAddress): Membership | undefined {
    if (typeof address === 'number') return this.#byAddress.get(address | 0)
    return this.#byAddress6.get(address)
  }
}

export class Policies {
  readonly memberships = new Memberships()
  readonly #port: (id: string) => VirtualPort | undefined
  readonly #chains = new Map<string, VirtualChain>()
  readonly #rules = new Map<string, Rule>()
  /** Rules of each chain by id. */
  readonly #byChain = new Map<string, Map<string, Rule>>()

  /** `port` finds the ports that rules redirect to. */
  constructor(port: (id: string) => VirtualPort | undefined) {
    this.#port = port
  }

  /** The chain of an id; a device may name it before its rules are there. */
  chain(id: string): VirtualChain {
    const known = this.#chains.get(id)
    if (known !== undefined) return known
    const tag = chainTag(id)
    const chain = { id, name: id, tag, rules: [], index: undefined, isRunning: false }
    this.#chains.set(id, chain)
    return chain
  }

  /** Follows what changed of chains, rules and groups; pushes the tags of it. */
  apply(changes: readonly Change[], tags: Tag[]): void {
    const touched = new Set<string>()
    for (const change of changes) {
      if (change.kind === 'addressGroup') this.#changeGroup(change.before, change.value, tags)
      if (change.kind === 'chain') this.#changeChain(change.id, change.value?.name, tags)
      if (change.kind === 'rule') this.#changeRule(change.id, change.value, touched)
    }
    for (const id of touched) {
      this.#compile(this.chain(id))
      tags.push(chainTag(id))
    }
    for (const change of changes)
      if (change.kind === 'chain' && change.value === undefined) this.#chains.delete(change.id)
  }

  #changeGroup(
    before: AddressGroup | undefined,
    after: AddressGroup | undefined,
    tags: Tag[],
  ): void {
    const id = after?.id ?? before?.id ?? ''
    this.memberships.set(id, before?.addresses ?? [], after?.addresses ?? [], tags)
  }

  #changeChain(id: string, name: string | undefined, tags: Tag[]): void {
    const known = this.#chains.has(id)
    this.chain(id).name = name ?? id
    if (!known) tags.push(chainTag(id))
  }

  #changeRule(id: string, value: Rule | undefined, touched: Set<string>): void {
    const old = this.#rules.get(id)
    if (old !== undefined) {
      this.#byChain.get(old.chain)?.delete(id)
      touched.add(old.chain)
    }
    if (value === undefined) {
      this.#rules.delete(id)
      return
    }
    this.#rules.set(id, value)
    const rules = this.#byChain.get(value.chain) ?? new Map<string, Rule>()
    this.#byChain.set(value.chain, rules)
    rules.set(id, value)
    touched.add(value.chain)
  }

  #compile(chain: VirtualChain): void {
    const rules = [...(this.#byChain.get(chain.id)?.values() ?? [])]
    if (rules.length === 0) this.#byChain.delete(chain.id)
    chain.rules = rules
      .sort((a, b) => a.position - b.position)
      .map((rule) => ({
        id: rule.id,
        position: rule.position,
        invert: rule.condition?.invert === true,
        fragments: fragmentsOf(rule),
        checks: compileChecks(rule.condition ?? {}),
        action: compileAction(rule.action, (id) => this.chain(id), this.#port),
      }))
    chain.index = RuleIndex.of(chain.rules)
  }
}

export function fragmentsOf({
  condition,
}: {
  readonly condition?: Condition | undefined
}): VirtualRule['fragments'] {
  if (condition?.fragments !== undefined) return condition.fragments
  const asksPorts = condition?.srcPorts !== undefined || condition?.dstPorts !== undefined
  return asksPorts ? 'header' : 'any'
}

/** Addresses by their one form of text: of IPv6 there are many. */
function addressesOf(texts: readonly string[]): ReadonlyMap<string, AnyAddress> {
  const found = new Map<string, AnyAddress>()
  for (const text of texts) {
    const address = parseIp(text)
    const address6 = address === undefined ? parseIpv6(text) : undefined
    if (address !== undefined) found.set(text, address)
    if (address6 !== undefined) found.set(formatIpv6(address6), wordsOf6(address6))
  }
  return found
}
