/** IPv6 frames that a virtual device sends itself: neighbour discovery, echo replies, errors. */
import { isGroupMac } from './address.ts'
import { allNodes6, allRouters6, groupMacOf6, linkLocalOf, solicitedNodeOf } from './address6.ts'
import { attempt, buildFrame } from './build.ts'
import { encode, Reader, Writer } from './bytes.ts'
import { type Ethernet, ethernet } from './ethernet.ts'
import { walkExtensions } from './extension.ts'
import { etherTypeIpv6, protoIcmpv6 } from './extract.ts'
import { fragLater } from './flow-key.ts'
import { type Icmpv6, icmpv6, type NdOption, ndSourceMac, ndTargetMac } from './icmpv6.ts'
import { type Ipv6, ipv6 } from './ipv6.ts'

/** RFC 4861: what came from farther away than the link has less. */
export const ndHopLimit = 255
const hopLimit = 64

/** IPv6 asks of every link to carry so much; errors are no longer, RFC 4443 section 2.4 (c). */
const errorSizeMax = 1280

/** ICMPv6 between two stations, in an untagged frame. */
function buildIcmpv6(
  link: { readonly dst: number; readonly src: number },
  addresses: { readonly src: bigint; readonly dst: bigint },
  message: Icmpv6,
  limit = ndHopLimit,
): Uint8Array {
  const header = { ...link, vlan: undefined, etherType: etherTypeIpv6 }
  return buildFrame(header, ipv6, {
    ...addresses,
    trafficClass: 0,
    flowLabel: 0,
    nextHeader: protoIcmpv6,
    hopLimit: limit,
    payload: encode(icmpv6(addresses), message),
  })
}

/** Asks who has `target`, of all whose address ends like it. */
export function buildNeighborSolicitation(from: {
  readonly mac: number
  readonly src: bigint
  readonly target: bigint
}): Uint8Array {
  const dst = solicitedNodeOf(from.target)
  return buildIcmpv6(
    { dst: groupMacOf6(dst), src: from.mac },
    { src: from.src, dst },
    {
      kind: 'neighborSolicitation',
      target: from.target,
      options: [macOption(ndSourceMac, from.mac)],
    },
  )
}

/** What a neighbour says to who asked for it; to all nodes where nobody can be asked by address. */
export function buildNeighborAdvertisement(
  solicitation: NeighborMessage,
  { mac, isRouter }: { readonly mac: number; readonly isRouter: boolean },
): Uint8Array {
  const { src, srcMac, target } = solicitation
  const isProbe = src === 0n
  const dst = isProbe ? allNodes6 : src
  return buildIcmpv6(
    { dst: isProbe ? groupMacOf6(allNodes6) : srcMac, src: mac },
    { src: target, dst },
    {
      kind: 'neighborAdvertisement',
      fromRouter: isRouter,
      solicited: !isProbe,
      override: true,
      target,
      options: [macOption(ndTargetMac, mac)],
    },
  )
}

/** What a router tells all nodes of a link. */
export interface RouterAnnouncement {
  readonly mac: number
  readonly lifetimeSeconds: number
  readonly managed: boolean
  readonly otherConfiguration: boolean
  readonly mtu: number
  readonly prefixes: readonly {
    readonly network: bigint
    readonly prefixLength: number
    readonly autonomous: boolean
    readonly validSeconds: number
    readonly preferredSeconds: number
  }[]
}

/** To all nodes, or to one by its addresses. */
export function buildRouterAdvertisement(
  given: RouterAnnouncement,
  to: { readonly mac: number; readonly address: bigint } = {
    mac: groupMacOf6(allNodes6),
    address: allNodes6,
  },
): Uint8Array {
  const flags = (given.managed ? 0x80 : 0) | (given.otherConfiguration ? 0x40 : 0)
  const options = [
    macOption(ndSourceMac, given.mac),
    // Every link carries 1280; less cannot be told.
    ...(given.mtu >= errorSizeMax ? [mtuOption(given.mtu)] : []),
    ...given.prefixes.map(prefixOption),
  ]
  return buildIcmpv6(
    { dst: to.mac, src: given.mac },
    { src: linkLocalOf(given.mac), dst: to.address },
    {
      kind: 'routerAdvertisement',
      hopLimit,
      flags,
      lifetimeSeconds: given.lifetimeSeconds,
      reachableMs: 0,
      retransmitMs: 0,
      options,
    },
  )
}

/** Asks the routers of a link what they have to say. */
export function buildRouterSolicitation(mac: number): Uint8Array {
  return buildIcmpv6(
    { dst: groupMacOf6(allRouters6), src: mac },
    { src: linkLocalOf(mac), dst: allRouters6 },
    { kind: 'routerSolicitation', options: [macOption(ndSourceMac, mac)] },
  )
}

function macOption(type: number, mac: number): NdOption {
  const value = new Uint8Array(6)
  new Writer(value).u48(mac)
  return { type, value }
}

/** RFC 4861 section 4.6.4. */
function mtuOption(mtu: number): NdOption {
  const value = new Uint8Array(6)
  const writer = new Writer(value)
  writer.u16(0)
  writer.u32(mtu)
  return { type: 5, value }
}

/** RFC 4861 section 4.6.2; the prefix is on the link. */
function prefixOption(prefix: RouterAnnouncement['prefixes'][number]): NdOption {
  const value = new Uint8Array(30)
  const writer = new Writer(value)
  writer.u8(prefix.prefixLength)
  writer.u8(prefix.autonomous ? 0xc0 : 0x80)
  writer.u32(prefix.validSeconds)
  writer.u32(prefix.preferredSeconds)
  writer.u32(0)
  writer.u128(prefix.network)
  return { type: 3, value }
}

/** A solicitation or advertisement of neighbours, as far as it says something. */
export interface NeighborMessage {
  readonly kind: 'neighborSolicitation' | 'neighborAdvertisement'
  readonly src: bigint
  readonly dst: bigint
  readonly srcMac: number
  readonly target: bigint
  /** Of the option that goes with such a message. */
  readonly linkMac: number | undefined
  readonly solicited: boolean
  readonly override: boolean
}

/** Undefined unless the frame is a whole, untagged such message: RFC 4861 sections 7.1.1, 7.1.2. */
export function readNeighborMessage(frame: Uint8Array): NeighborMessage | undefined {
  return attempt(() => {
    const found = readIcmpv6(frame)
    if (found === undefined || found.packet.hopLimit !== ndHopLimit) return undefined
    const { header, packet, message } = found
    const { kind } = message
    if (kind !== 'neighborSolicitation' && kind !== 'neighborAdvertisement') return undefined
    const wanted = kind === 'neighborSolicitation' ? ndSourceMac : ndTargetMac
    const linkMac = macOf(message.options.find(({ type }) => type === wanted))
    const isAdvertisement = kind === 'neighborAdvertisement'
    if (message.target >> 120n === 0xffn) return undefined
    return {
      kind,
      src: packet.src,
      dst: packet.dst,
      srcMac: header.src,
      target: message.target,
      linkMac,
      solicited: isAdvertisement && message.solicited,
      override: isAdvertisement && message.override,
    }
  })
}

/** The MAC address of one station, else undefined. */
function macOf(option: NdOption | undefined): number | undefined {
  if (option?.value.length !== 6) return undefined
  const mac = new Reader(option.value).u48()
  return mac === 0 || isGroupMac(mac) ? undefined : mac
}

/** Who solicited a router; undefined when the frame is no such solicitation. */
export function readRouterSolicitation(
  frame: Uint8Array,
): { readonly mac: number; readonly address: bigint } | undefined {
  return attempt(() => {
    const found = readIcmpv6(frame)
    if (found?.message.kind !== 'routerSolicitation') return undefined
    if (found.packet.hopLimit !== ndHopLimit) return undefined
    return { mac: found.header.src, address: found.packet.src }
  })
}

interface Received {
  readonly header: Ethernet
  readonly packet: Ipv6
  readonly message: Icmpv6
}

/** ICMPv6 right behind the fixed header. */
function readIcmpv6(frame: Uint8Array): Received | undefined {
  const reader = new Reader(frame)
  const header = ethernet.decode(reader)
  if (header.etherType !== etherTypeIpv6) return undefined
  const packet = ipv6.decode(reader)
  if (packet.nextHeader !== protoIcmpv6) return undefined
  return { header, packet, message: icmpv6(packet).decode(new Reader(packet.payload)) }
}

/** The answer to a whole echo request over IPv6; undefined when `frame` is none. */
export function buildEchoReply6(frame: Uint8Array): Uint8Array | undefined {
  return attempt(() => {
    const found = readIcmpv6(frame)
    if (found === undefined || found.message.kind !== 'echoRequest') return undefined
    const { header, packet, message } = found
    const addresses = { src: packet.dst, dst: packet.src }
    const payload = encode(icmpv6(addresses), { ...message, kind: 'echoReply' })
    const reply = { ...packet, ...addresses, flowLabel: 0, hopLimit, payload }
    return buildFrame({ ...header, dst: header.src, src: header.dst }, ipv6, reply)
  })
}

/** What to say about a packet, and who says it. */
export interface Icmpv6ErrorRequest {
  readonly type: number
  readonly code: number
  /** The MTU; of a parameter problem it is found in the packet. */
  readonly parameter?: number
  readonly srcMac: number
  readonly src: bigint
}

const parameterProblem = 4

/**
 * An ICMPv6 error about the packet in `frame`, to its sender; undefined when RFC 4443 section 2.4
 * (e) forbids one: about an error or a redirect, a packet or frame to a group, or a packet whose
 * source is not one host; and about later fragments, which may be of an error.
 */
export function buildIcmpv6Error(
  frame: Uint8Array,
  { type, code, parameter = 0, srcMac, src }: Icmpv6ErrorRequest,
): Uint8Array | undefined {
  return attempt(() => {
    const reader = new Reader(frame)
    const header = ethernet.decode(reader)
    if (header.etherType !== etherTypeIpv6 || isGroupMac(header.dst)) return undefined
    const bytes = reader.rest()
    const cause = readHeader(bytes)
    if (!isOneHost(cause.src) || isGroup(cause.dst)) return undefined
    const { protocol, frag, start } = walkExtensions(bytes, 40, cause.nextHeader)
    if (frag === fragLater) return undefined
    if (protocol === protoIcmpv6) {
      const about = bytes[start]
      if (start === 0 || about === undefined || about < 128 || about === 137) return undefined
    }
    const whole = bytes.subarray(0, Math.min(bytes.length, 40 + cause.payloadSize))
    const quote = whole.subarray(0, errorSizeMax - 48)
    const value = type === parameterProblem ? pointerTo(bytes, protocol) : parameter
    const addresses = { src, dst: cause.src }
    const message = { kind: 'error', type, code, parameter: value, quote } as const
    const payload = encode(icmpv6(addresses), message)
    const link = { ...header, dst: header.src, src: srcMac }
    return buildFrame(link, ipv6, { ...base, ...addresses, payload })
  })
}

const base = { trafficClass: 0, flowLabel: 0, nextHeader: protoIcmpv6, hopLimit } as const

/** The fixed header, whatever its payload. */
function readHeader(bytes: Uint8Array) {
  const reader = new Reader(bytes)
  reader.u32()
  const payloadSize = reader.u16()
  const nextHeader = reader.u8()
  reader.u8()
  return { payloadSize, nextHeader, src: reader.u128(), dst: reader.u128() }
}

/** Where the number stands that nobody here knows: in the last header before the transport's. */
function pointerTo(bytes: Uint8Array, protocol: number): number {
  if (bytes[6] === protocol) return 6
  let at = 40
  let number = bytes[6] ?? 59
  for (let count = 0; count < 8 && bytes[at] !== protocol; count++) {
    const next = walkOne(bytes, at, number)
    if (next === undefined) return 6
    number = bytes[at] ?? 59
    at = next
  }
  return at
}

function walkOne(bytes: Uint8Array, at: number, number: number): number | undefined {
  const size = bytes[at + 1]
  if (size === undefined) return undefined
  if (number === 44) return at + 8
  return at + (number === 51 ? (size + 2) * 4 : (size + 1) * 8)
}

function isGroup(address: bigint): boolean {
  return address >> 120n === 0xffn
}

/** Neither a group, nor nobody, nor loopback. */
function isOneHost(address: bigint): boolean {
  return !isGroup(address) && address > 1n
}
