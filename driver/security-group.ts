/**
 * Security groups of endpoints, written on a draft. A group NAME is
 *
 *   chain NAME          what may reach its members; to be made, by who knows that
 *   chain NAME-out      what its members may send; made here when it is not there, and lets all pass
 *   port group NAME     its members' ports
 *   address group NAME  its members' addresses, for the rules of others
 *
 * A member's port has two chains of its own. They let pass what finds neighbours and the answers to
 * what passed, send under no address but the member's own, and jump to the chains of its groups;
 * what none of those accepts is dropped.
 */
import { parseCidr } from '../packet/address.ts'
import { referenceMark } from '../topology/mark.ts'
import type { Chain, Condition, Endpoint, Rule, RuleAction } from '../topology/model.ts'
import type { Draft, Reader } from '../topology/store.ts'
import { DriverError } from './error.ts'

/** What a member's port names. */
export interface Membership {
  readonly inboundChain: string
  readonly outboundChain: string
  readonly portGroups: string[]
}

type Member = Pick<Endpoint, 'id' | 'mac' | 'address' | 'address6'>

const etherTypes = { ipv4: 0x0800, arp: 0x0806, ipv6: 0x86dd } as const
const protoIcmpv6 = 58
/** Neighbour discovery, RFC 4861: its ICMPv6 types stand where ports would. */
const discovery = { first: 133, last: 137 } as const

/** Puts an endpoint into groups: makes its chains. @throws DriverError code `NOT_FOUND` */
export function joinGroups(draft: Draft, member: Member, names: readonly string[]): Membership {
  const groups = names.map((name) => ({
    to: requireChain(draft, name),
    from: outChain(draft, name),
    ports: portGroup(draft, name),
  }))
  for (const name of names) changeAddresses(draft, name, addressesOf(member), [])
  const chains = chainsOf(member.id)
  for (const id of Object.values(chains)) draft.put('chain', { id })
  const rules = [
    ...rulesTo(
      chains.to,
      groups.map(({ to }) => to),
    ),
    ...rulesFrom(
      chains,
      member,
      groups.map(({ from }) => from),
    ),
    ...rulesOfSource6(chains.source6, member),
  ]
  for (const rule of rules) draft.put('rule', rule)
  return {
    inboundChain: chains.from,
    outboundChain: chains.to,
    portGroups: groups.map(({ ports }) => ports),
  }
}

/** Takes an endpoint, whose port is gone, out of its groups, and away what was made for it. */
export function leaveGroups(draft: Draft, endpoint: Endpoint): void {
  const names = endpoint.securityGroups ?? []
  if (names.length === 0 && endpoint.groupsLabel === undefined) return
  const chains: readonly string[] = Object.values(chainsOf(endpoint.id))
  for (const rule of draft.list('rule'))
    if (chains.includes(rule.chain)) draft.delete('rule', rule.id)
  for (const id of chains) draft.delete('chain', id)
  for (const name of names) {
    const others = draft
      .list('endpoint')
      .filter(({ id, securityGroups }) => id !== endpoint.id && securityGroups?.includes(name))
    const kept = others.flatMap(addressesOf)
    changeAddresses(
      draft,
      name,
      [],
      addressesOf(endpoint).filter((one) => !kept.includes(one)),
    )
    if (others.length === 0) removeUnused(draft, name)
  }
}

/**
 * Puts an endpoint into the groups that a container's label names, and into no others. Groups that
 * are not there let nothing pass; with none of them there the port is on its own.
 */
export function labelGroups(draft: Draft, endpoint: Endpoint, label: GroupsLabel): void {
  const port = draft.get('port', endpoint.id)
  if (port?.kind !== 'bridge') return
  const { inboundChain: _, outboundChain: __, portGroups: ___, ...bare } = port
  const { securityGroups: ____, ...rest } = endpoint
  draft.put('port', bare)
  draft.put('endpoint', rest)
  leaveGroups(draft, endpoint)
  const groups = label.names.filter((name) => findChain(draft, name) !== undefined)
  draft.put('port', { ...bare, ...joinGroups(draft, endpoint, groups) })
  draft.put('endpoint', {
    ...rest,
    groupsLabel: label.text,
    ...(groups.length > 0 && { securityGroups: groups }),
  })
}

/** What a label says: as it is given, and the names in it; none when they cannot be names. */
export interface GroupsLabel {
  readonly text: string
  readonly names: readonly string[]
}

/** Those of the names that are no group. */
export function missingGroups(reader: Reader, names: readonly string[]): readonly string[] {
  const chains = new Set(reader.list('chain').map(({ name }) => name))
  return names.filter((name) => !chains.has(name))
}

function chainsOf(id: string) {
  return { to: `${id}-to`, from: `${id}-from`, source6: `${id}-source6` } as const
}

/** Ids of what is made here, by which it is known again. */
function ownId(name: string): string {
  return `security-group:${name.replaceAll(' ', ':')}`
}

function outName(name: string): string {
  return `${name}-out`
}

function requireChain(draft: Draft, name: string): string {
  const chain = findChain(draft, name)
  if (chain !== undefined) return chain.id
  const remedy = `make its chain: midonet cli -e 'chain create name ${name}'`
  throw new DriverError('NOT_FOUND', `midonet: there is no security group ${name}; ${remedy}`)
}

function findChain(draft: Draft, name: string): Chain | undefined {
  return draft.list('chain').find((chain) => chain.name === name)
}

function outChain(draft: Draft, name: string): string {
  const known = findChain(draft, outName(name))
  if (known !== undefined) return known.id
  const id = ownId(name)
  draft.put('chain', { id, name: outName(name) })
  draft.put('rule', { id, chain: id, position: 1, action: { kind: 'accept' } })
  return id
}

function portGroup(draft: Draft, name: string): string {
  const known = draft.list('portGroup').find((group) => group.name === name)
  if (known !== undefined) return known.id
  const id = ownId(name)
  draft.put('portGroup', { id, name })
  return id
}

function changeAddresses(
  draft: Draft,
  name: string,
  come: readonly string[],
  gone: readonly string[],
): void {
  const known = draft.list('addressGroup').find((group) => group.name === name)
  const group = known ?? { id: ownId(name), name, addresses: [] }
  const rest = group.addresses.filter((one) => !gone.includes(one) && !come.includes(one))
  draft.put('addressGroup', { ...group, addresses: [...rest, ...come] })
}

/** With its last member goes what was made here, unless somebody else uses or changed it since. */
function removeUnused(draft: Draft, name: string): void {
  const id = ownId(name)
  const isFree = (kind: 'portGroup' | 'addressGroup' | 'chain') =>
    !draft.isClaimed(referenceMark(kind, id))
  if (isFree('portGroup')) draft.delete('portGroup', id)
  if (draft.get('addressGroup', id)?.addresses.length === 0 && isFree('addressGroup'))
    draft.delete('addressGroup', id)
  const rules = draft.list('rule').filter(({ chain }) => chain === id)
  const isAsMade = rules.every((rule) => rule.id === id && rule.action.kind === 'accept')
  const isJumpedTo = draft
    .list('rule')
    .some(({ action }) => action.kind === 'jump' && action.chain === id)
  if (!isAsMade || isJumpedTo) return
  draft.delete('rule', id)
  if (isFree('chain')) draft.delete('chain', id)
}

function addressesOf({ address, address6 }: Pick<Endpoint, 'address' | 'address6'>): string[] {
  return [address, address6].flatMap((cidr) => cidr?.split('/')[0] ?? [])
}

function rulesTo(chain: string, groups: readonly string[]): readonly Rule[] {
  return numbered(chain, [
    [{ flow: { is: 'return' } }, { kind: 'accept' }],
    [{ ethType: { is: etherTypes.arp } }, { kind: 'accept' }],
    [ofDiscovery, { kind: 'accept' }],
    ...jumps(groups),
    [undefined, { kind: 'drop' }],
  ])
}

function rulesFrom(
  chains: ReturnType<typeof chainsOf>,
  { mac, address }: Member,
  groups: readonly string[],
): readonly Rule[] {
  const ip = parseCidr(address ?? '') === undefined ? undefined : address?.split('/')[0]
  return numbered(chains.from, [
    [{ ethSrc: { is: { address: mac }, not: true } }, { kind: 'drop' }],
    [{ ethType: { is: etherTypes.arp } }, { kind: 'accept' }],
    [
      {
        ethType: { is: etherTypes.ipv4 },
        ...(ip !== undefined && { src: { is: `${ip}/32`, not: true } }),
      },
      { kind: 'drop' },
    ],
    [ofDiscovery, { kind: 'accept' }],
    [{ ethType: { is: etherTypes.ipv6 } }, { kind: 'jump', chain: chains.source6 }],
    [{ flow: { is: 'return' } }, { kind: 'accept' }],
    ...jumps(groups),
    [undefined, { kind: 'drop' }],
  ])
}

/** Of IPv6 a member has two addresses. */
function rulesOfSource6(chain: string, { address6 }: Member): readonly Rule[] {
  const own = address6?.split('/')[0]
  return numbered(chain, [
    [{ src: { is: 'fe80::/10' } }, { kind: 'return' }],
    ...(own === undefined
      ? []
      : ([[{ src: { is: `${own}/128` } }, { kind: 'return' }]] as const satisfies Line[])),
    [undefined, { kind: 'drop' }],
  ])
}

type Line = readonly [condition: Condition | undefined, action: RuleAction]

const ofDiscovery: Condition = {
  ethType: { is: etherTypes.ipv6 },
  protocol: { is: protoIcmpv6 },
  srcPorts: { is: discovery },
}

function jumps(chains: readonly string[]): readonly Line[] {
  return chains.map((chain) => [undefined, { kind: 'jump', chain }])
}

function numbered(chain: string, lines: readonly Line[]): readonly Rule[] {
  return lines.map(([condition, action], position) => ({
    id: `${chain}-${position}`,
    chain,
    position,
    ...(condition !== undefined && { condition }),
    action,
  }))
}
