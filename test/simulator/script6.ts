/**
 * The scripts' language for IPv6:
 *
 *   addresses, networks and gateways of either family wherever one is asked for
 *   advertise PORT [interval=N] [lifetime=N] [managed=yes] [autonomous=no] | off
 *
 * PACKET is `udp [A]:PORT > [B]:PORT`, `tcp …`, `icmp A > B`, with type= (128 by default), or of
 * neighbour discovery `ns TARGET from A [to B]`, `na TARGET is-at MAC to B`, `rs`; with options
 * ext=60,43,… for extension headers of these numbers, override=no, and those of IPv4.
 */
import { formatIpv6, formatMac, parseIpv6, parseMac } from '../../packet/address.ts'
import {
  addressOf6,
  allNodes6,
  formatCidr6,
  groupMacOf6,
  solicitedNodeOf,
} from '../../packet/address6.ts'
import { attempt } from '../../packet/build.ts'
import {
  buildNeighborSolicitation,
  buildRouterSolicitation,
  readNeighborMessage,
} from '../../packet/build6.ts'
import { encode, Reader, writeU16 } from '../../packet/bytes.ts'
import { composeFrame } from '../../packet/compose.ts'
import { ethernet } from '../../packet/ethernet.ts'
import { type Icmpv6, icmpv6, ndTargetMac, type RouterAdvertisement } from '../../packet/icmpv6.ts'
import { readIcmpv6Quote } from '../../packet/icmpv6-quote.ts'
import { ipv6 } from '../../packet/ipv6.ts'
import { parseKey } from '../../packet/text.ts'
import type { Port } from '../../topology/model.ts'
import { withHeaders } from '../datapath/net.ts'
import type { Words } from './script-policy.ts'
import { put, type World } from './world.ts'

/** MAC addresses of a packet that names none. */
export interface Link {
  macFor(address: string): string | undefined
  readonly gateway: string
}

export const advertiseChanges: Readonly<Record<string, (world: World, words: Words) => void>> = {
  advertise(world, { plain: [id = '', state], options }) {
    const port = world.topology.get('port', id)
    if (port?.kind !== 'router') return
    const number = (name: string) => {
      const text = options.get(name)
      return text === undefined ? {} : { [`${name}Seconds`]: Number(text) }
    }
    const advertisement = {
      enabled: state !== 'off',
      ...number('interval'),
      ...number('lifetime'),
      ...(options.get('managed') === 'yes' ? { managed: true } : {}),
      ...(options.get('autonomous') === 'no' ? { autonomous: false } : {}),
    }
    world.put(put('port', { ...port, advertisement }))
  },
}

/** Addresses, also with what follows a slash, by family, as a port's fields are. */
export function byFamily(texts: readonly string[]): { four: string[]; six: string[] } {
  // Behind the slash of a neighbour stands a MAC address.
  const isSix = (text: string) => text.replace(/\/.*/, '').includes(':')
  return { four: texts.filter((text) => !isSix(text)), six: texts.filter(isSix) }
}

/** Whether the words of a packet are of IPv6. */
export function isPacket6(plain: readonly string[]): boolean {
  const [kind = '', a = ''] = plain
  if (['ns', 'na', 'rs'].includes(kind)) return true
  return ['icmp', 'udp', 'tcp'].includes(kind) && a.replace(/^\[/, '').includes('::')
}

/** A frame from such words. */
export function readPacket6(
  { plain, options }: Words,
  link: Link,
  full: (mac: string) => string,
): Uint8Array {
  const [kind = ''] = plain
  const frame =
    kind === 'ns' || kind === 'na' || kind === 'rs'
      ? readDiscovery(plain, options, link, full)
      : readTransport(plain, options, link, full)
  const headers = options.get('ext')
  const extended =
    headers === undefined ? frame : withHeaders(frame, headers.split(',').map(Number))
  return options.has('size') ? resize(extended, Number(options.get('size'))) : extended
}

function resize(frame: Uint8Array, size: number): Uint8Array {
  const longer = new Uint8Array(14 + size)
  longer.set(frame.subarray(0, longer.length))
  writeU16(longer, 18, size - 40)
  return longer
}

function readTransport(
  plain: readonly string[],
  options: Words['options'],
  link: Link,
  full: (mac: string) => string,
): Uint8Array {
  const [kind = '', a = '', , b = ''] = plain
  const [src, srcPort] = readEnd(a)
  const [dst, dstPort] = readEnd(b)
  const mac = (name: string, address: string, other: string) =>
    full(options.get(name) ?? link.macFor(address) ?? other)
  const eth = `eth(src=${mac('src', src, ':99')},dst=${mac('dst', dst, link.gateway)})`
  const proto = { icmp: 58, tcp: 6, udp: 17 }[kind] ?? 59
  const frag = options.get('frag') ?? 'no'
  const hops = options.get('ttl') ?? '64'
  const ip = `ipv6(src=${src},dst=${dst},proto=${frag === 'later' ? 44 : proto},tclass=0,hlimit=${hops},frag=${frag})`
  const flags = options.has('flags') ? `,tcp_flags(${options.get('flags')})` : ''
  const above = {
    icmp: `,icmpv6(type=${options.get('type') ?? 128},code=0)`,
    udp: `,udp(src=${srcPort},dst=${dstPort})`,
    tcp: `,tcp(src=${srcPort},dst=${dstPort})${flags}`,
  }[kind]
  const l4 = frag === 'later' ? '' : above
  const { key } = parseKey(`${eth},eth_type(0x86dd),${ip}${l4}`)
  const about = options.get('about')
  if (about === undefined) return composeFrame(key)
  return quoting(key, { src, dst, type: Number(options.get('type')) }, about, options)
}

/** An ICMPv6 error about a UDP packet, or an echo with an id. */
function quoting(
  key: Uint32Array,
  { src, dst, type }: { src: string; dst: string; type: number },
  about: string,
  options: Words['options'],
): Uint8Array {
  const [from = '', to = ''] = about.split('>')
  const [innerSrc, innerSrcPort] = readEnd(from)
  const [innerDst, innerDstPort] = readEnd(to)
  const inner = parseKey(
    `eth_type(0x86dd),ipv6(src=${innerSrc},dst=${innerDst},proto=17,hlimit=9),udp(src=${innerSrcPort},dst=${innerDstPort})`,
  )
  const addresses = { src: parseIpv6(src) ?? 0n, dst: parseIpv6(dst) ?? 0n }
  const parameter = Number(options.get('mtu') ?? 0)
  const quote = composeFrame(inner.key).subarray(14)
  const message: Icmpv6 = { kind: 'error', type, code: 0, parameter, quote }
  const frame = composeFrame(key)
  return Uint8Array.from([
    ...frame.subarray(0, 14),
    ...encode(ipv6, {
      ...addresses,
      trafficClass: 0,
      flowLabel: 0,
      nextHeader: 58,
      hopLimit: 64,
      payload: encode(icmpv6(addresses), message),
    }),
  ])
}

/** `[fd00::1]:80`, or an address alone. */
function readEnd(text: string): readonly [address: string, port: string] {
  const match = /^\[(.+)\]:(\d+)$/.exec(text)
  return [match?.[1] ?? text, match?.[2] ?? '0']
}

function readDiscovery(
  plain: readonly string[],
  options: Words['options'],
  link: Link,
  full: (mac: string) => string,
): Uint8Array {
  const [kind, a = '', , b = '', , c = ''] = plain
  if (kind === 'rs')
    return buildRouterSolicitation(parseMac(full(options.get('src') ?? ':99')) ?? 0)
  const target = parseIpv6(a) ?? 0n
  if (kind === 'ns') {
    const mac = parseMac(full(options.get('src') ?? link.macFor(b) ?? ':99')) ?? 0
    const src = parseIpv6(b) ?? 0n
    if (c === '' && src !== 0n) return buildNeighborSolicitation({ mac, src, target })
    const dst = c === '' ? solicitedNodeOf(target) : (parseIpv6(c) ?? 0n)
    const dstMac =
      c === '' ? groupMacOf6(dst) : (parseMac(full(link.macFor(c) ?? link.gateway)) ?? 0)
    // Who has no address yet must not say where it is: RFC 4861 section 4.3.
    const message = { kind: 'neighborSolicitation', target, options: [] } as const
    return discovery({ dst: dstMac, src: mac }, { src, dst }, message)
  }
  const mac = parseMac(full(b)) ?? 0
  const dst = parseIpv6(c) ?? allNodes6
  const isGroup = dst === allNodes6
  const value = new Uint8Array(6)
  for (let at = 0; at < 6; at++) value[at] = Math.floor(mac / 2 ** (40 - 8 * at)) & 0xff
  const dstMac = isGroup
    ? groupMacOf6(dst)
    : (parseMac(full(options.get('dst') ?? link.macFor(c) ?? link.gateway)) ?? 0)
  return discovery(
    { dst: dstMac, src: mac },
    { src: target, dst },
    {
      kind: 'neighborAdvertisement',
      fromRouter: false,
      solicited: !isGroup,
      override: options.get('override') !== 'no',
      target,
      options: [{ type: ndTargetMac, value }],
    },
  )
}

function discovery(
  link: { dst: number; src: number },
  addresses: { src: bigint; dst: bigint },
  message: Icmpv6,
): Uint8Array {
  return Uint8Array.from([
    ...encode(ethernet, { ...link, vlan: undefined, etherType: 0x86dd }),
    ...encode(ipv6, {
      ...addresses,
      trafficClass: 0,
      flowLabel: 0,
      nextHeader: 58,
      hopLimit: 255,
      payload: encode(icmpv6(addresses), message),
    }),
  ])
}

/** What the key of an ICMPv6 message does not show. */
export function showMore6(frame: Uint8Array, isQuoting: boolean): string {
  const neighbor = readNeighborMessage(frame)
  if (neighbor !== undefined) {
    const { target, linkMac, solicited, override } = neighbor
    const flags = [solicited ? 'solicited' : '', override ? 'override' : ''].filter(Boolean)
    const mac = linkMac === undefined ? [] : [`mac ${formatMac(linkMac)}`]
    return [' target', formatIpv6(target), ...mac, ...flags].join(' ')
  }
  const message = attempt(() => readMessage(frame))
  if (message?.kind === 'routerAdvertisement') return showRouter(message)
  if (message?.kind === 'error' && message.type === 2) return ` mtu ${message.parameter}`
  const quote = isQuoting ? readIcmpv6Quote(frame) : undefined
  if (quote === undefined) return ''
  const { kind, protocol, src, dst, ports } = quote
  if (kind === 'echo') return ` id ${ports & 0xffff}`
  const end = (words: typeof src, port: number) => `[${formatIpv6(addressOf6(words))}]:${port}`
  return ` about ${protocol} ${end(src, ports & 0xffff)} > ${end(dst, ports >>> 16)}`
}

/** Decoding sums the checksum up. */
function readMessage(frame: Uint8Array): Icmpv6 | undefined {
  const reader = new Reader(frame)
  if (ethernet.decode(reader).etherType !== 0x86dd) return undefined
  const packet = ipv6.decode(reader)
  if (packet.nextHeader !== 58) return undefined
  return icmpv6(packet).decode(new Reader(packet.payload))
}

function showRouter({ flags, lifetimeSeconds, options }: RouterAdvertisement): string {
  const parts = options.flatMap(({ type, value }) => {
    const reader = new Reader(value)
    if (type === 1) return [`mac ${formatMac(reader.u48())}`]
    if (type === 5) {
      reader.u16()
      return [`mtu ${reader.u32()}`]
    }
    const prefixLength = reader.u8()
    const isAutonomous = (reader.u8() & 0x40) !== 0
    const [valid, preferred] = [reader.u32(), reader.u32()]
    reader.u32()
    const prefix = formatCidr6({ address: reader.u128(), prefixLength })
    return [`prefix ${prefix} ${valid}/${preferred}${isAutonomous ? ' autonomous' : ''}`]
  })
  const managed = (flags & 0x80) !== 0 ? ['managed'] : []
  return ` ${[`lifetime ${lifetimeSeconds}`, ...managed, ...parts].join(', ')}`
}

/** The MAC address of an IPv6 address on the network of a bridge or router port. */
export function macOf6(ports: readonly Port[], ingress: Port, text: string): string | undefined {
  const wanted = parseIpv6(text)
  const isIt = (other: string) => parseIpv6(other.split('/')[0] ?? '') === wanted
  if (ingress.kind === 'router')
    return ingress.neighbors6?.find(({ address }) => isIt(address))?.mac
  for (const port of ports) {
    if (port.kind !== 'bridge' || port.bridge !== ingress.bridge) continue
    const station = port.stations?.find(({ addresses6 }) => addresses6?.some(isIt))
    if (station !== undefined) return station.mac
    const peer = ports.find(({ id }) => id === port.peer)
    if (peer?.kind === 'router' && peer.addresses6?.some(isIt)) return peer.mac
  }
  return undefined
}
