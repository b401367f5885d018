/**
 * What actions do to the bytes of a frame: the reference that datapaths are compared with, and the
 * forwarding of the memory datapath. It favours being plainly right over being fast.
 *
 * Setting a field that the packet lacks does nothing. In detail:
 *
 *  1. Headers stand where `extract.ts` finds them, looked for anew after a tag is pushed or popped.
 *     Behind two tags, nothing above Ethernet is found.
 *  2. setIpSrc and setIpDst are for IPv4, setIpv6Src and setIpv6Dst for IPv6, setTtl and setTos for
 *     both; setTpSrc and setTpDst for TCP and UDP over both, not in later fragments, and where the
 *     L4 checksum field is there (18 and 8 bytes).
 *  3. The IPv4 checksum follows every change of its header, the checksum of TCP, UDP and ICMPv6
 *     every change of an address or port, in first fragments too. A UDP checksum of 0 means none
 *     and stays; one that becomes 0 is written as 0xffff.
 *  4. Checksums are updated from what they were (RFC 1624), so that a wrong one stays wrong:
 *     forwarding must not hide damage.
 *  5. pushVlan puts a tag of type 0x8100 in front of any other; popVlan takes the outermost, when
 *     it is of that type and whole.
 *  6. A frame under 14 bytes goes out as it is.
 */
import type { Action } from './action.ts'
import { readU8, readU16, readU32, writeU16, writeU32, writeU48 } from './bytes.ts'
import { updateChecksum } from './checksum.ts'
import { walkExtensions } from './extension.ts'
import {
  etherTypeArp,
  etherTypeIpv4,
  etherTypeIpv6,
  etherTypeVlan,
  protoIcmpv6,
  protoTcp,
  protoUdp,
} from './extract.ts'
import type { UnderlayAddress } from './tunnel-source.ts'

/** The tunnel header that goes with a frame to a tunnel vport. */
export interface Tunnel {
  readonly id: number
  readonly dst: UnderlayAddress
  readonly src: UnderlayAddress
}

/** A frame as it leaves by a vport, with the tunnel header set last, if any. */
export interface Output {
  readonly port: number
  readonly frame: Uint8Array
  readonly tunnel?: Tunnel
}

/**
 * Every output of the actions, in order, each with a frame of its own; `frame` is not changed.
 * `userspace` gets the packet as it is when an action hands it to the agent; it must not keep it.
 * `meter` says whether a meter lets so many bytes pass; without it all do.
 */
export function applyActions(
  frame: Uint8Array,
  actions: readonly Action[],
  userspace?: (frame: Uint8Array, reason: number) => void,
  meter?: (id: number, size: number) => boolean,
): readonly Output[] {
  const walk = { packet: Uint8Array.from(frame), tunnel: {}, outputs: [], userspace, meter }
  applyTo(walk, resolve(frame, actions))
  return walk.outputs
}

/** A packet on its way through actions. */
interface Walk {
  packet: Bytes
  tunnel: { tunnel?: Tunnel }
  readonly outputs: Output[]
  readonly userspace: ((frame: Uint8Array, reason: number) => void) | undefined
  readonly meter: ((id: number, size: number) => boolean) | undefined
}

function applyTo(walk: Walk, actions: readonly Resolved[]): void {
  for (const action of actions)
    switch (action.kind) {
      case 'meter':
        if (walk.meter?.(action.id, walk.packet.length) === false) return
        break
      case 'output':
        walk.outputs.push({
          port: action.port,
          frame: Uint8Array.from(walk.packet),
          ...walk.tunnel,
        })
        break
      case 'userspace':
        walk.userspace?.(walk.packet, action.reason)
        break
      case 'setTunnel':
        walk.tunnel = { tunnel: { id: action.id, dst: action.dst, src: action.src } }
        break
      case 'clone': {
        const packet = Uint8Array.from(walk.packet)
        applyTo({ ...walk, packet }, resolve(packet, action.actions))
        break
      }
      // Connection tracking changes no bytes; what comes after a new look-up is not of this list.
      case 'ct':
        break
      case 'recirculate':
        return
      default:
        walk.packet = rewrite(walk.packet, action)
    }
}

/** The actions that the length of the packet chooses. No action before changes it but for tags. */
function resolve(frame: Uint8Array, actions: readonly Action[]): readonly Resolved[] {
  return actions.flatMap((action): readonly Resolved[] => {
    if (action.kind !== 'checkPacketLength') return [action]
    const isTagged = frame.length >= 18 && readU16(frame, 12) === etherTypeVlan
    const length = frame.length - (isTagged ? 4 : 0)
    return resolve(frame, length > action.length ? action.greater : action.lessEqual)
  })
}

type Resolved = Exclude<Action, { kind: 'checkPacketLength' }>
type Rewrite = Exclude<
  Resolved,
  { kind: 'output' | 'userspace' | 'setTunnel' | 'meter' | 'clone' | 'ct' | 'recirculate' }
>
type Bytes = Uint8Array<ArrayBuffer>

/** Changes the packet in place where its size stays. */
function rewrite(packet: Bytes, action: Rewrite): Bytes {
  if (packet.length < 14) return packet
  switch (action.kind) {
    case 'pushVlan':
      return pushVlan(packet, action.tci)
    case 'popVlan':
      return popVlan(packet)
    case 'setEth':
      writeU48(packet, 0, action.dst)
      writeU48(packet, 6, action.src)
      return packet
    case 'setArp':
      setArp(packet, action)
      return packet
    case 'setIpSrc':
      setAddress(packet, 12, action.address)
      return packet
    case 'setIpDst':
      setAddress(packet, 16, action.address)
      return packet
    case 'setIpv6Src':
      setAddress6(packet, 8, action.address)
      return packet
    case 'setIpv6Dst':
      setAddress6(packet, 24, action.address)
      return packet
    case 'setTos':
      setIpByte(packet, 1, action.tos)
      setTrafficClass(packet, action.tos)
      return packet
    case 'setTtl':
      setIpByte(packet, 8, action.ttl)
      setHopLimit(packet, action.ttl)
      return packet
    case 'setTpSrc':
      setPort(packet, 0, action.port)
      return packet
    case 'setTpDst':
      setPort(packet, 2, action.port)
      return packet
  }
}

function pushVlan(packet: Bytes, tci: number): Bytes {
  const tagged = new Uint8Array(packet.length + 4)
  tagged.set(packet.subarray(0, 12))
  writeU16(tagged, 12, etherTypeVlan)
  writeU16(tagged, 14, tci & 0xefff)
  tagged.set(packet.subarray(12), 16)
  return tagged
}

function popVlan(packet: Bytes): Bytes {
  if (readU16(packet, 12) !== etherTypeVlan || packet.length < 18) return packet
  const untagged = new Uint8Array(packet.length - 4)
  untagged.set(packet.subarray(0, 12))
  untagged.set(packet.subarray(16), 12)
  return untagged
}

function setArp(packet: Bytes, action: Extract<Action, { kind: 'setArp' }>): void {
  const arp = findNetwork(packet, etherTypeArp, 28)
  if (arp === undefined || readU32(packet, arp) !== 0x0001_0800) return
  if (readU16(packet, arp + 4) !== 0x0604) return
  writeU16(packet, arp + 6, action.op)
  writeU48(packet, arp + 8, action.sha)
  writeU32(packet, arp + 14, action.spa)
  writeU48(packet, arp + 18, action.tha)
  writeU32(packet, arp + 24, action.tpa)
}

function setAddress(packet: Bytes, offset: number, address: number): void {
  const ip = findIpv4(packet)
  if (ip === undefined) return
  const transport = findTransport(packet, ip)
  setWord(packet, ip + offset, address >>> 16, [ipChecksum(ip), transport?.checksum])
  setWord(packet, ip + offset + 2, address & 0xffff, [ipChecksum(ip), transport?.checksum])
}

function setIpByte(packet: Bytes, offset: number, value: number): void {
  const ip = findIpv4(packet)
  if (ip === undefined) return
  const at = ip + (offset & ~1)
  const word = readU16(packet, at)
  const changed = offset & 1 ? (word & 0xff00) | value : (word & 0xff) | (value << 8)
  setWord(packet, at, changed, [ipChecksum(ip)])
}

function setAddress6(packet: Bytes, offset: number, address: bigint): void {
  const ip = findNetwork(packet, etherTypeIpv6, 40)
  if (ip === undefined) return
  const transport = findTransport6(packet, ip)
  for (let word = 0; word < 8; word++) {
    const value = Number((address >> BigInt(112 - 16 * word)) & 0xffffn)
    setWord(packet, ip + offset + 2 * word, value, [transport?.checksum])
  }
}

function setTrafficClass(packet: Bytes, tos: number): void {
  const ip = findNetwork(packet, etherTypeIpv6, 40)
  if (ip === undefined) return
  writeU16(packet, ip, (readU16(packet, ip) & 0xf00f) | (tos << 4))
}

function setHopLimit(packet: Bytes, hopLimit: number): void {
  const ip = findNetwork(packet, etherTypeIpv6, 40)
  if (ip !== undefined) packet[ip + 7] = hopLimit
}

function setPort(packet: Bytes, offset: number, port: number): void {
  const transport = findPorts(packet)
  if (transport !== undefined) setWord(packet, transport.start + offset, port, [transport.checksum])
}

/** A checksum field. */
interface Checksum {
  readonly at: number
  /** UDP's, where 0 says that there is none. */
  readonly optional: boolean
}

function ipChecksum(ip: number): Checksum {
  return { at: ip + 10, optional: false }
}

function setWord(
  packet: Bytes,
  at: number,
  value: number,
  checksums: readonly (Checksum | undefined)[],
): void {
  const before = readU16(packet, at)
  writeU16(packet, at, value)
  for (const checksum of checksums) {
    if (checksum === undefined) continue
    const current = readU16(packet, checksum.at)
    if (checksum.optional && current === 0) continue
    const updated = updateChecksum(current, before, value)
    writeU16(packet, checksum.at, checksum.optional && updated === 0 ? 0xffff : updated)
  }
}

/** Where the header behind Ethernet and at most one tag starts, if it is of this type and size. */
function findNetwork(packet: Bytes, etherType: number, size: number): number | undefined {
  const tagged = readU16(packet, 12) === etherTypeVlan && packet.length >= 18
  const start = tagged ? 18 : 14
  if (readU16(packet, start - 2) !== etherType || packet.length < start + size) return undefined
  return start
}

function findIpv4(packet: Bytes): number | undefined {
  const ip = findNetwork(packet, etherTypeIpv4, 20)
  return ip !== undefined && (readU8(packet, ip) & 0xf) >= 5 ? ip : undefined
}

interface Transport {
  readonly start: number
  readonly checksum: Checksum
  readonly hasPorts: boolean
}

/** The TCP or UDP header, over either version of IP. */
function findPorts(packet: Bytes): Transport | undefined {
  const ip = findIpv4(packet)
  if (ip !== undefined) return findTransport(packet, ip)
  const ip6 = findNetwork(packet, etherTypeIpv6, 40)
  const transport = ip6 === undefined ? undefined : findTransport6(packet, ip6)
  return transport?.hasPorts === true ? transport : undefined
}

/** The TCP or UDP header of an IPv4 packet, if it is there up to its checksum. */
function findTransport(packet: Bytes, ip: number): Transport | undefined {
  if (readU16(packet, ip + 6) & 0x1fff) return undefined
  const start = ip + (readU8(packet, ip) & 0xf) * 4
  return transportAt(packet, start, readU8(packet, ip + 9))
}

/** The header over IPv6 whose checksum covers the addresses, that of ICMPv6 too. */
function findTransport6(packet: Bytes, ip: number): Transport | undefined {
  const { protocol, start } = walkExtensions(packet, ip + 40, readU8(packet, ip + 6))
  if (start === 0) return undefined
  if (protocol === protoIcmpv6 && packet.length >= start + 4)
    return { start, checksum: { at: start + 2, optional: false }, hasPorts: false }
  return transportAt(packet, start, protocol)
}

function transportAt(packet: Bytes, start: number, proto: number): Transport | undefined {
  if (proto === protoTcp && packet.length >= start + 18)
    return { start, checksum: { at: start + 16, optional: false }, hasPorts: true }
  if (proto === protoUdp && packet.length >= start + 8)
    return { start, checksum: { at: start + 6, optional: true }, hasPorts: true }
  return undefined
}
