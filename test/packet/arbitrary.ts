/** Random keys, masks, actions and frames for property tests. */
import fc from 'fast-check'
import type { Action } from '../../packet/action.ts'
import { arp } from '../../packet/arp.ts'
import { encode } from '../../packet/bytes.ts'
import type { Addresses } from '../../packet/checksum.ts'
import { ethernet } from '../../packet/ethernet.ts'
import { keyWords } from '../../packet/flow-key.ts'
import { icmpv6 } from '../../packet/icmpv6.ts'
import { ipv4 } from '../../packet/ipv4.ts'
import { ipv6 } from '../../packet/ipv6.ts'
import { tcp } from '../../packet/tcp.ts'
import { udp } from '../../packet/udp.ts'
import { frames } from './captures.ts'

const u8 = fc.integer({ min: 0, max: 0xff })
const u16 = fc.integer({ min: 0, max: 0xffff })
const u32 = fc.integer({ min: 0, max: 0xffff_ffff })
const u128 = fc.bigInt({ min: 0n, max: (1n << 128n) - 1n })
const mac = fc.integer({ min: 0, max: 0xffff_ffff_ffff })

/** Types and protocols that mean something come up often, so that kinds of packets do. */
const ethType = fc.oneof(fc.constantFrom(0x0800, 0x0806, 0x86dd, 0x8100, 0), u16)
const proto = fc.oneof(fc.constantFrom(1, 6, 17, 58, 132), u8)

export const anyKey = fc
  .tuple(
    fc.array(fc.oneof(fc.constantFrom(0, 0x1000, 0xffff_ffff), u32), {
      minLength: keyWords,
      maxLength: keyWords,
    }),
    ethType,
    proto,
  )
  .map(([words, type, number]) => {
    const key = Uint32Array.from(words)
    key[8] = type
    key[9] = ((key[9] ?? 0) & 0x03ff_ff00) | number
    return key
  })

export const anyMask = fc
  .array(fc.oneof(fc.constantFrom(0, 0xff, 0x1000, 0xffff, 0xffff_0000, 0xffff_ffff), u32), {
    minLength: keyWords,
    maxLength: keyWords,
  })
  .map((words) => Uint32Array.from(words))

export const anyAction: fc.Arbitrary<Action> = fc.oneof(
  fc.record({ kind: fc.constant('output' as const), port: u32 }),
  fc.record({ kind: fc.constant('setEth' as const), dst: mac, src: mac }),
  fc.record({ kind: fc.constant('pushVlan' as const), tci: u16 }),
  fc.record({ kind: fc.constant('popVlan' as const) }),
  fc.record({ kind: fc.constant('setIpSrc' as const), address: u32 }),
  fc.record({ kind: fc.constant('setIpDst' as const), address: u32 }),
  fc.record({ kind: fc.constant('setIpv6Src' as const), address: u128 }),
  fc.record({ kind: fc.constant('setIpv6Dst' as const), address: u128 }),
  fc.record({ kind: fc.constant('setTtl' as const), ttl: u8 }),
  fc.record({ kind: fc.constant('setTos' as const), tos: u8 }),
  fc.record({ kind: fc.constant('setTpSrc' as const), port: u16 }),
  fc.record({ kind: fc.constant('setTpDst' as const), port: u16 }),
  fc.record({
    kind: fc.constant('setArp' as const),
    op: u16,
    sha: mac,
    spa: u32,
    tha: mac,
    tpa: u32,
  }),
  fc.record({ kind: fc.constant('setTunnel' as const), id: u32, dst: u32, src: u32 }),
  fc.record({ kind: fc.constant('setTunnel' as const), id: u32, dst: u128, src: u128 }),
  fc.record({ kind: fc.constant('userspace' as const), reason: u32 }),
)

/** Also those that hold others, or have the kernel do something besides. */
export const anyDeepAction: fc.Arbitrary<Action> = fc.letrec<{ action: Action }>((tie) => {
  const list = fc.array(tie('action'), { maxLength: 3 })
  const mark = fc.option(fc.record({ value: u32, mask: u32 }), { nil: undefined })
  return {
    action: fc.oneof(
      { maxDepth: 2, depthSize: 'small' },
      anyAction,
      fc.record({ kind: fc.constant('meter' as const), id: u32 }),
      fc
        .tuple(u16, fc.boolean(), mark)
        .map(([zone, commit, given]) =>
          given === undefined
            ? { kind: 'ct' as const, zone, commit }
            : { kind: 'ct' as const, zone, commit, mark: given },
        ),
      fc.record({
        kind: fc.constant('recirculate' as const),
        id: fc.integer({ min: 1, max: 0xffff }),
      }),
      fc.record({ kind: fc.constant('clone' as const), actions: list }),
      fc.record({
        kind: fc.constant('checkPacketLength' as const),
        length: u16,
        greater: list,
        lessEqual: list,
      }),
    ),
  }
}).action

/** A captured frame with up to three bytes changed, perhaps cut, perhaps with a VLAN tag put in. */
export const mutated = fc
  .record({
    frame: fc.constantFrom(...frames),
    changes: fc.array(fc.tuple(fc.nat(120), u8), { maxLength: 3 }),
    cut: fc.oneof(fc.constant(0), fc.nat(100)),
    tci: fc.option(u16),
  })
  .map(({ frame, changes, cut, tci }) => {
    const changed = Uint8Array.from(frame)
    for (const [at, byte] of changes) if (at < changed.length) changed[at] = byte
    const kept = changed.slice(0, Math.max(0, changed.length - cut))
    if (tci === null) return kept
    const tag = Uint8Array.of(0x81, 0, tci >>> 8, tci)
    return Uint8Array.from([...kept.subarray(0, 12), ...tag, ...kept.subarray(12)])
  })

const payload = fc.uint8Array({ maxLength: 60 })

/** Multiples of four bytes, no-operations in front of an end. */
const ipOptions = fc.nat(4).map((count) => new Uint8Array(4 * count).fill(1))

const transport = fc.oneof(
  fc.record({
    proto: fc.constant(17 as const),
    value: fc.record({ srcPort: u16, dstPort: u16, hasChecksum: fc.boolean(), payload }),
  }),
  fc.record({
    proto: fc.constant(6 as const),
    value: fc.record({
      srcPort: u16,
      dstPort: u16,
      sequence: u32,
      acknowledgment: u32,
      flags: fc.nat(0xfff),
      window: u16,
      urgent: u16,
      options: ipOptions,
      payload,
    }),
  }),
  fc.record({ proto: fc.constantFrom(1 as const, 132 as const, 47 as const), value: payload }),
)

const ipFrame = fc
  .record({
    header: fc.record({
      tos: u8,
      id: u16,
      dontFragment: fc.boolean(),
      ttl: u8,
      src: u32,
      dst: u32,
    }),
    options: ipOptions,
    fragment: fc.constantFrom('whole', 'first', 'later'),
    transport,
  })
  .map(({ header, options, fragment, transport: inner }) => ({
    etherType: 0x0800,
    body: encode(ipv4, {
      ...header,
      options,
      moreFragments: fragment === 'first',
      fragmentOffset: fragment === 'later' ? 64 : 0,
      proto: inner.proto,
      payload: encodeTransport(header, inner),
    }),
  }))

type Inner = typeof transport extends fc.Arbitrary<infer Value> ? Value : never

function encodeTransport(addresses: Addresses, inner: Inner): Uint8Array {
  // Over IPv6 there is no datagram without a checksum.
  const isIpv6 = typeof addresses.src === 'bigint'
  if (inner.proto === 17)
    return encode(udp(addresses), {
      ...inner.value,
      hasChecksum: isIpv6 || inner.value.hasChecksum,
    })
  return inner.proto === 6 ? encode(tcp(addresses), inner.value) : inner.value
}

/** One extension header and its number; the next one's number is filled in later. */
const extension = fc.oneof(
  fc
    .record({ number: fc.constantFrom(0, 60), size: fc.nat(3) })
    .map(({ number, size }) => ({ number, bytes: padding(size) })),
  fc
    .record({ size: fc.nat(2), left: fc.constantFrom(0, 0, 0, 1) })
    .map(({ size, left }) => ({ number: 43, bytes: routing(size, left) })),
  fc.nat(3).map((size) => ({ number: 51, bytes: authentication(size) })),
  fc.constantFrom(0, 0, 1, 8, 65_528).map((offset) => ({
    number: 44,
    bytes: Uint8Array.of(0, 0, offset >>> 8, offset, 0, 0, 0, 1),
  })),
)

/** Of `size` + 1 times 8 bytes, filled with options that say nothing. */
function padding(size: number): Uint8Array {
  const bytes = new Uint8Array(8 * (size + 1))
  bytes.set([0, size, 1, bytes.length - 4])
  return bytes
}

function routing(size: number, left: number): Uint8Array {
  const bytes = new Uint8Array(8 * (size + 1))
  bytes.set([0, size, 4, left])
  return bytes
}

function authentication(size: number): Uint8Array {
  const bytes = new Uint8Array(4 * (size + 2))
  bytes[1] = size
  return bytes
}

const icmp6 = fc.record({
  proto: fc.constant(58 as const),
  value: fc.record({
    kind: fc.constantFrom('echoRequest' as const, 'echoReply' as const),
    id: u16,
    sequence: u16,
    data: payload,
  }),
})

const ip6Frame = fc
  .record({
    header: fc.record({
      trafficClass: u8,
      flowLabel: fc.nat(0xf_ffff),
      hopLimit: u8,
      src: u128,
      dst: u128,
    }),
    extensions: fc.oneof(
      { weight: 2, arbitrary: fc.array(extension, { maxLength: 0 }) },
      { weight: 2, arbitrary: fc.array(extension, { minLength: 1, maxLength: 3 }) },
      { weight: 1, arbitrary: fc.array(extension, { minLength: 7, maxLength: 10 }) },
    ),
    inner: fc.oneof(transport, icmp6),
  })
  .map(({ header, extensions, inner }) => {
    const numbers = [...extensions.map(({ number }) => number), inner.proto]
    const above =
      inner.proto === 58 ? encode(icmpv6(header), inner.value) : encodeTransport(header, inner)
    const parts = extensions.map(({ bytes }, at) => {
      const part = Uint8Array.from(bytes)
      part[0] = numbers[at + 1] ?? 59
      return part
    })
    const body = Uint8Array.from([...parts, above].flatMap((part) => [...part]))
    const nextHeader = numbers[0] ?? 59
    return { etherType: 0x86dd, body: encode(ipv6, { ...header, nextHeader, payload: body }) }
  })

const arpFrame = fc
  .record({ op: u16, sha: mac, spa: u32, tha: mac, tpa: u32 })
  .map((message) => ({ etherType: 0x0806, body: encode(arp, message) }))

const otherFrame = payload.map((body) => ({ etherType: 0x88cc, body }))

const vlan = fc.record({ id: fc.nat(0xfff), priority: fc.nat(7), dropEligible: fc.boolean() })

/** A frame whose lengths and checksums are right: IP, ARP or something else, tagged or not. */
export const anySoundFrame = fc
  .tuple(
    mac,
    mac,
    fc.option(vlan, { nil: undefined }),
    fc.oneof(ipFrame, ipFrame, ip6Frame, ip6Frame, arpFrame, otherFrame),
  )
  .map(([dst, src, tag, { etherType: type, body }]) =>
    Uint8Array.from([...encode(ethernet, { dst, src, vlan: tag, etherType: type }), ...body]),
  )
