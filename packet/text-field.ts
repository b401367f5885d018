/** Which words of the text form stand for which bits of a key, and moving those bits. */
import {
  etherTypeArp,
  etherTypeIpv4,
  etherTypeIpv6,
  protoIcmp,
  protoIcmpv6,
  protoSctp,
  protoTcp,
  protoUdp,
} from './extract.ts'
import { type Field, type FlowKey, fields, readField } from './flow-key.ts'
import type { Notation } from './text-value.ts'

/** A field of the key and how its values are written. */
export interface TextField extends Field {
  readonly notation: Notation
}

/** `name(a=1,b=2)`; a group of one field without a name is written `name(1)`. */
export interface Group {
  readonly name: string
  readonly fields: Readonly<Record<string, TextField>>
}

const ports = {
  src: { ...fields.tpSrc, notation: 'decimal' },
  dst: { ...fields.tpDst, notation: 'decimal' },
} as const

const icmp = { type: ports.src, code: ports.dst } as const

const tunnel: Group = {
  name: 'tunnel',
  fields: {
    tun_id: { ...fields.tunnelId, notation: 'hex' },
    src: { ...fields.tunnelSrc, notation: 'ip' },
  },
}
const recirculation: Group = {
  name: 'recirc_id',
  fields: { '': { ...fields.recirculation, notation: 'hex' } },
}
const ctState: Group = {
  name: 'ct_state',
  fields: { '': { ...fields.ctState, notation: 'hex' } },
}
const inPort: Group = {
  name: 'in_port',
  fields: { '': { ...fields.inPort, notation: 'decimal' } },
}
const eth: Group = {
  name: 'eth',
  fields: {
    src: { ...fields.ethSrc, notation: 'mac' },
    dst: { ...fields.ethDst, notation: 'mac' },
  },
}
/** Its third part, whether there is a tag at all, is written by rules of its own. */
export const vlanGroup: Group = {
  name: 'vlan',
  fields: {
    vid: { word: fields.vlan.word, shift: 0, bits: 12, notation: 'decimal' },
    pcp: { word: fields.vlan.word, shift: 13, bits: 3, notation: 'decimal' },
    cfi: { word: fields.vlan.word, shift: 12, bits: 1, notation: 'decimal' },
  },
}
const ethType: Group = {
  name: 'eth_type',
  fields: { '': { ...fields.ethType, notation: 'type' } },
}
const ipv4: Group = {
  name: 'ipv4',
  fields: {
    src: { ...fields.ipSrc, notation: 'ip' },
    dst: { ...fields.ipDst, notation: 'ip' },
    proto: { ...fields.ipProto, notation: 'decimal' },
    tos: { ...fields.ipTos, notation: 'hex' },
    ttl: { ...fields.ipTtl, notation: 'decimal' },
    frag: { ...fields.ipFrag, notation: 'frag' },
  },
}
const ipv6: Group = {
  name: 'ipv6',
  fields: {
    src: { ...fields.ipv6Src, notation: 'ipv6' },
    dst: { ...fields.ipv6Dst, notation: 'ipv6' },
    proto: { ...fields.ipProto, notation: 'decimal' },
    tclass: { ...fields.ipTos, notation: 'hex' },
    hlimit: { ...fields.ipTtl, notation: 'decimal' },
    frag: { ...fields.ipFrag, notation: 'frag' },
  },
}
const arp: Group = {
  name: 'arp',
  fields: {
    sip: { ...fields.ipSrc, notation: 'ip' },
    tip: { ...fields.ipDst, notation: 'ip' },
    op: { ...fields.arpOp, notation: 'decimal' },
    sha: { ...fields.arpSha, notation: 'mac' },
    tha: { ...fields.arpTha, notation: 'mac' },
  },
}
const tcp: Group = { name: 'tcp', fields: ports }
const tcpFlags: Group = {
  name: 'tcp_flags',
  fields: { '': { ...fields.tcpFlags, notation: 'hex' } },
}
const udp: Group = { name: 'udp', fields: ports }
const sctp: Group = { name: 'sctp', fields: ports }
const icmpv4: Group = { name: 'icmp', fields: icmp }
const icmpv6: Group = { name: 'icmpv6', fields: icmp }
const tp: Group = { name: 'tp', fields: ports }

const linkGroups = [recirculation, tunnel, inPort, ctState, eth, vlanGroup, ethType]

const known = [...linkGroups, ipv4, ipv6, arp, tcp, tcpFlags, udp, sctp, icmpv4, icmpv6, tp]

/** Every group that can be read, by name. */
export const groups: ReadonlyMap<string, Group> = new Map(known.map((group) => [group.name, group]))

/** The groups to write a key in: those of its kind, as far as the mask makes the kind certain. */
export function groupsOf(key: FlowKey, mask: FlowKey): readonly Group[] {
  const type = readField(mask, 'ethType') === 0xffff ? readField(key, 'ethType') : 0
  if (type === etherTypeArp) return [...linkGroups, arp]
  if (type !== etherTypeIpv4 && type !== etherTypeIpv6) return linkGroups
  const proto = readField(mask, 'ipProto') === 0xff ? readField(key, 'ipProto') : 0
  const network = type === etherTypeIpv4 ? ipv4 : ipv6
  return [...linkGroups, network, ...transportGroups(proto, type)]
}

function transportGroups(proto: number, type: number): readonly Group[] {
  if (proto === protoTcp) return [tcp, tcpFlags]
  if (proto === protoUdp) return [udp]
  if (proto === protoSctp) return [sctp]
  if (proto === protoIcmp && type === etherTypeIpv4) return [icmpv4]
  if (proto === protoIcmpv6 && type === etherTypeIpv6) return [icmpv6]
  return [tp]
}
