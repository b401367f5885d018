/**
 * Flow keys, masks and flows as text, in the notation of Open vSwitch's datapath (`ovs-dpctl`):
 *
 *   in_port(3),eth_type(0x0800),ipv4(src=10.1.0.0/255.255.255.0,proto=6,frag=no),tcp(dst=80)
 *
 * A field that is not in the mask is left out; one that is in it in part has its mask behind a
 * slash. Where Open vSwitch has no words for what our key can say, these are ours:
 *
 *   vlan(none)          the packet has no tag (`cfi` is, as there, the bit that says it has one)
 *   tp(src=1,dst=2)     ports, where the protocol is another or not exactly known
 *   word(10=0xa/0xff)   bits of the key that no field of this kind of packet covers
 *
 * What is printed parses to the same, whatever key and mask; the key comes back masked.
 */
import type { Action } from './action.ts'
import { etherTypeArp, etherTypeIpv4, etherTypeIpv6, protoTcp, vlanPresent } from './extract.ts'
import { addBits, clearBits, onesOf, readBits } from './field-bits.ts'
import {
  createKey,
  type Field,
  type FieldName,
  type FlowKey,
  fields,
  fragLater,
  keyWords,
  readField,
  writeField,
} from './flow-key.ts'
import { formatActions, parseActionsFrom } from './text-action.ts'
import { type Group, groups, groupsOf, type TextField, vlanGroup } from './text-field.ts'
import {
  formatMask,
  formatValue,
  parseMask,
  parseNumber,
  parseValue,
  Scanner,
} from './text-value.ts'

export { formatActions, parseActions } from './text-action.ts'
export { TextError } from './text-value.ts'

/** A key and its mask as text says them: bits outside the mask are 0 in the key. */
export interface KeyAndMask {
  readonly key: FlowKey
  readonly mask: FlowKey
}

/** Prints those bits of the key that are in the mask; without one, all that such a packet has. */
export function formatKey(key: FlowKey, mask: FlowKey = presentMask(key)): string {
  const left = Uint32Array.from(mask)
  const parts = groupsOf(key, mask).map((group) => formatGroup(group, key, left))
  return [...parts, formatWords(key, left)].filter((part) => part !== '').join(',')
}

/** `in_port(3),eth_type(0x0806), actions:4` */
export function formatFlow({ key, mask }: KeyAndMask, actions: readonly Action[]): string {
  const match = formatKey(key, mask)
  return `${match}${match === '' ? '' : ', '}actions:${formatActions(actions)}`
}

/** @throws TextError */
export function parseKey(text: string): KeyAndMask {
  const scanner = new Scanner(text)
  const parsed = { key: createKey(), mask: createKey() }
  if (scanner.atEnd) return parsed
  do parseGroup(scanner, parsed)
  while (scanner.takes(','))
  if (!scanner.atEnd) scanner.fail('"," or the end')
  return parsed
}

/** What `formatFlow` prints. @throws TextError */
export function parseFlow(text: string): KeyAndMask & { readonly actions: readonly Action[] } {
  const scanner = new Scanner(text)
  const parsed = { key: createKey(), mask: createKey() }
  while (!scanner.takes('actions:')) {
    parseGroup(scanner, parsed)
    scanner.expect(',')
  }
  return { ...parsed, actions: parseActionsFrom(scanner) }
}

/** The mask of all fields that a packet with this key has. */
export function presentMask(key: FlowKey): FlowKey {
  const mask = createKey()
  const add = (...names: readonly FieldName[]) => {
    for (const name of names) addBits(mask, fields[name], onesOf(fields[name].bits))
  }
  add('inPort', 'ethDst', 'ethSrc', 'ethType')
  if (readField(key, 'tunnelId') || readField(key, 'tunnelSrc')) add('tunnelId', 'tunnelSrc')
  if (readField(key, 'recirculation')) add('recirculation', 'ctState')
  if (readField(key, 'vlan') & vlanPresent) add('vlan')
  const type = readField(key, 'ethType')
  if (type === etherTypeArp) add('arpOp', 'ipSrc', 'ipDst', 'arpSha', 'arpTha')
  if (type !== etherTypeIpv4 && type !== etherTypeIpv6) return mask
  add('ipProto', 'ipTos', 'ipTtl', 'ipFrag')
  if (type === etherTypeIpv4) add('ipSrc', 'ipDst')
  else add('ipv6Src', 'ipv6Dst')
  if (readField(key, 'ipFrag') === fragLater) return mask
  const proto = readField(key, 'ipProto')
  if (groupsOf(key, mask).some(({ name }) => transports.has(name))) add('tpSrc', 'tpDst')
  if (proto === protoTcp) add('tcpFlags')
  return mask
}

const transports: ReadonlySet<string> = new Set(['tcp', 'udp', 'sctp', 'icmp', 'icmpv6'])

/** Prints a group and takes what it printed out of `left`; '' when the mask has nothing of it. */
function formatGroup(group: Group, key: FlowKey, left: FlowKey): string {
  if (group === vlanGroup) return formatVlan(key, left)
  const items = formatFields(group, Object.keys(group.fields), key, left)
  return items.length === 0 ? '' : `${group.name}(${items.join(',')})`
}

/** `cfi` is left out where another part is there and it is 1: a tag is present. */
function formatVlan(key: FlowKey, left: FlowKey): string {
  const mask = readField(left, 'vlan')
  if (mask === 0) return ''
  if (mask === 0xffff && readField(key, 'vlan') === 0) {
    writeField(left, 'vlan', 0)
    return 'vlan(none)'
  }
  const parts = formatFields(vlanGroup, ['vid', 'pcp'], key, left)
  const [cfi = 'cfi=0/0'] = formatFields(vlanGroup, ['cfi'], key, left)
  const items = cfi === 'cfi=1' && parts.length > 0 ? parts : [...parts, cfi]
  return `vlan(${items.join(',')})`
}

function formatFields(
  group: Group,
  names: readonly string[],
  key: FlowKey,
  left: FlowKey,
): readonly string[] {
  return names.flatMap((name) => {
    const field = group.fields[name]
    const mask = field === undefined ? 0n : readBits(left, field)
    if (field === undefined || mask === 0n) return []
    clearBits(left, field)
    return [`${name}${name === '' ? '' : '='}${formatMasked(field, readBits(key, field), mask)}`]
  })
}

function formatMasked({ notation, bits }: TextField, value: bigint, mask: bigint): string {
  const text = formatValue(notation, value & mask)
  return mask === onesOf(bits) ? text : `${text}/${formatMask(notation, mask)}`
}

/** What no group said. */
function formatWords(key: FlowKey, left: FlowKey): string {
  const items: string[] = []
  for (const [word, mask] of left.entries())
    if (mask !== 0)
      items.push(`${word}=${formatMasked(wordField(word), BigInt(key[word] ?? 0), BigInt(mask))}`)
  return items.length === 0 ? '' : `word(${items.join(',')})`
}

function wordField(word: number): TextField {
  return { word, shift: 0, bits: 32, notation: 'hex' }
}

function parseGroup(scanner: Scanner, into: KeyAndMask): void {
  const position = scanner.position
  const name = scanner.word()
  const group = groups.get(name)
  const only = group?.fields['']
  if (name === 'word') {
    scanner.list(() => parseWord(scanner, into))
  } else if (group === undefined) {
    scanner.fail(`one of ${[...groups.keys()].join(', ')}`, position)
  } else if (group === vlanGroup) {
    parseVlan(scanner, into)
  } else if (only === undefined) {
    scanner.list(() => parseField(scanner, group, into))
  } else {
    scanner.expect('(')
    parseMasked(scanner, only, into)
    scanner.expect(')')
  }
}

function parseVlan(scanner: Scanner, into: KeyAndMask): void {
  if (scanner.takes('(none)')) {
    claim(scanner, fields.vlan, 0n, 0xffffn, into, scanner.position)
    return
  }
  const given = new Set<string>()
  scanner.list(() => given.add(parseField(scanner, vlanGroup, into)))
  const { cfi } = vlanGroup.fields
  if (!given.has('cfi') && cfi !== undefined) claim(scanner, cfi, 1n, 1n, into, scanner.position)
}

function parseWord(scanner: Scanner, into: KeyAndMask): void {
  const position = scanner.position
  const word = parseNumber(scanner, 'decimal', 32)
  if (word >= keyWords) scanner.fail(`a word from 0 to ${keyWords - 1}`, position)
  scanner.expect('=')
  parseMasked(scanner, wordField(word), into)
}

/** Reads `name=value` or `name=value/mask` and says the name. */
function parseField(scanner: Scanner, group: Group, into: KeyAndMask): string {
  const position = scanner.position
  const name = scanner.word()
  const field = Object.hasOwn(group.fields, name) ? group.fields[name] : undefined
  if (field === undefined) scanner.fail(`one of ${Object.keys(group.fields).join(', ')}`, position)
  scanner.expect('=')
  parseMasked(scanner, field, into)
  return name
}

function parseMasked(scanner: Scanner, field: TextField, into: KeyAndMask): void {
  const position = scanner.position
  const value = parseValue(scanner, field.notation, field.bits)
  const masked = scanner.takes('/')
  const mask = masked ? parseMask(scanner, field.notation, field.bits) : onesOf(field.bits)
  claim(scanner, field, value, mask, into, position)
}

/** Writes value and mask, each bit at most once. */
function claim(
  scanner: Scanner,
  field: Field,
  value: bigint,
  mask: bigint,
  { key, mask: claimed }: KeyAndMask,
  position: number,
): void {
  if ((readBits(claimed, field) & mask) !== 0n) scanner.fail('each field once', position)
  addBits(key, field, value & mask)
  addBits(claimed, field, mask)
}
