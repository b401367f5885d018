import test, { type ExecutionContext } from 'ava'
import { arp } from '../../packet/arp.ts'
import { decode, encode, MalformedError } from '../../packet/bytes.ts'
import { checksum } from '../../packet/checksum.ts'
import { type Dhcp, dhcp } from '../../packet/dhcp.ts'
import { ethernet } from '../../packet/ethernet.ts'
import { icmp } from '../../packet/icmp.ts'
import { icmpv6 } from '../../packet/icmpv6.ts'
import { ipv4, ipv4Header } from '../../packet/ipv4.ts'
import { ipv6 } from '../../packet/ipv6.ts'
import { tcp } from '../../packet/tcp.ts'
import { udp } from '../../packet/udp.ts'
import { vxlan } from '../../packet/vxlan.ts'
import { capture, fromHex, hexOf } from './captures.ts'
import { check } from './check.ts'

const a = {
  mac: 0x02_0000_0000_0a,
  ip: 0x0a09_0001,
  ip6: 0xfe80_0000_0000_0000_0000_00ff_fe00_000an,
}
const b = {
  mac: 0x02_0000_0000_0b,
  ip: 0x0a09_0002,
  ip6: 0xfe80_0000_0000_0000_0000_00ff_fe00_000bn,
}
const aToB = { src: a.ip, dst: b.ip }
const bToA = { src: b.ip, dst: a.ip }
const aToB6 = { src: a.ip6, dst: b.ip6 }
const none = new Uint8Array(0)
const text = (words: string) => Uint8Array.from(Buffer.from(words))

const plain = {
  tos: 0,
  id: 0,
  dontFragment: false,
  moreFragments: false,
  fragmentOffset: 0,
  ttl: 64,
  options: none,
}

test('ethernet', (t) => {
  const header = { dst: b.mac, src: a.mac, vlan: undefined, etherType: 0x0800 }
  check(t, ethernet, header, capture('echoRequest', 0, 14))
})

test('ethernet with a tag', (t) => {
  const vlan = { id: 5, priority: 3, dropEligible: true }
  const header = { dst: b.mac, src: a.mac, vlan, etherType: 0x0800 }
  check(t, ethernet, header, `02000000000b02000000000a810070050800`)
})

test('arp', (t) => {
  const request = { op: 1, sha: a.mac, spa: a.ip, tha: 0, tpa: b.ip }
  check(t, arp, request, capture('arpRequest', 14))
  const reply = { op: 2, sha: b.mac, spa: b.ip, tha: a.mac, tpa: a.ip }
  check(t, arp, reply, capture('arpReply', 14))
})

test('arp about something else is malformed', (t) => {
  const bytes = fromHex(capture('arpRequest', 14).replace('0800', '86dd'))
  t.throws(() => decode(arp, bytes), { instanceOf: MalformedError, code: 'MALFORMED' })
})

test('ipv4', (t) => {
  const packet = { ...plain, ...aToB, id: 0x2222, dontFragment: true, proto: 1 }
  const payload = fromHex(capture('echoRequest', 34))
  check(t, ipv4, { ...packet, payload }, capture('echoRequest', 14))
  check(t, ipv4Header, { ...packet, payloadSize: 16 }, capture('echoRequest', 14, 34))
})

test('ipv4 fragment', (t) => {
  const payload = fromHex(capture('fragmentLater', 34))
  const packet = { ...plain, ...aToB, id: 0x5a83, fragmentOffset: 1480, proto: 17, payload }
  check(t, ipv4, packet, capture('fragmentLater', 14))
})

test('ipv4 with options', (t) => {
  const options = Uint8Array.of(7, 7, 4, 0, 0, 0, 0, 0)
  const packet = { ...plain, ...aToB, options, proto: 17, payload: text('x') }
  const hex = hexOf(encode(ipv4, packet))
  t.is(hex.slice(0, 8), '4700001d')
  t.is(checksum(fromHex(hex.slice(0, 56))), 0)
  check(t, ipv4, packet, hex)
})

test('padding behind an ipv4 packet is not payload', (t) => {
  const packet = decode(ipv4, fromHex(`${capture('echoRequest', 14)}0000`))
  t.is(packet.payload.length, 16)
})

for (const [name, at, byte] of [
  ['version', 0, 0x65],
  ['header size', 0, 0x44],
  ['checksum', 10, 0xff],
] as const)
  test(`ipv4 with a wrong ${name} is malformed`, (t) => {
    const bytes = fromHex(capture('echoRequest', 14))
    bytes[at] = byte
    t.throws(() => decode(ipv4, bytes), { instanceOf: MalformedError })
  })

test('ipv4 with a total length under its header is malformed', (t) => {
  const bytes = fromHex(capture('echoRequest', 14, 34))
  bytes.set([0, 19], 2)
  bytes.set([0, 0], 10)
  const sum = checksum(bytes)
  bytes.set([sum >>> 8, sum & 0xff], 10)
  t.throws(() => decode(ipv4Header, bytes), { message: /total length 19/ })
})

test('ipv6', (t) => {
  const packet = {
    ...aToB6,
    trafficClass: 0,
    flowLabel: 0x21c87,
    nextHeader: 17,
    hopLimit: 64,
    payload: fromHex(capture('udpHelloV6', 54)),
  }
  check(t, ipv6, packet, capture('udpHelloV6', 14))
})

test('icmp echo', (t) => {
  const data = fromHex('3b6833b500000000')
  const request = { kind: 'echoRequest', id: 0x3698, sequence: 0, data } as const
  const reply = { ...request, kind: 'echoReply' } as const
  t.deepEqual(decode(icmp, fromHex(capture('echoRequest', 34))), request)
  t.is(hexOf(encode(icmp, request)), capture('echoRequest', 34))
  t.is(hexOf(encode(icmp, reply)), capture('echoReply', 34))
  // The captured data ends in zeros, which can be cut without changing the checksum.
  const marked = { ...request, data: text('marked') }
  check(t, icmp, marked, hexOf(encode(icmp, marked)))
})

test('icmp error quotes a packet', (t) => {
  const quote = fromHex(capture('portUnreachable', 42))
  const error = { kind: 'error', type: 3, code: 3, parameter: 0, quote } as const
  check(t, icmp, error, capture('portUnreachable', 34))
  t.is(decode(ipv4Header, quote).dst, b.ip)
  t.deepEqual(quote, fromHex(capture('udpHello', 14)))
})

test('an unknown icmp message is kept', (t) => {
  const message = { kind: 'other', type: 13, code: 0, body: text('timestamp') } as const
  const bytes = encode(icmp, message)
  t.deepEqual(decode(icmp, bytes), message)
})

test('icmpv6 echo', (t) => {
  const data = fromHex(capture('echoRequestV6', 62))
  const request = { kind: 'echoRequest', id: 0x36de, sequence: 0, data } as const
  check(t, icmpv6(aToB6), request, capture('echoRequestV6', 54))
})

test('icmpv6 error', (t) => {
  const quote = fromHex(capture('portUnreachableV6', 62))
  const error = { kind: 'error', type: 1, code: 4, parameter: 0, quote } as const
  check(t, icmpv6({ src: b.ip6, dst: a.ip6 }), error, capture('portUnreachableV6', 54))
})

test('icmpv6 neighbor discovery', (t) => {
  const group = 0xff02_0000_0000_0000_0000_0001_ff00_000bn
  const routers = 0xff02_0000_0000_0000_0000_0000_0000_0002n
  const from = (type: number, mac: string) => [{ type, value: fromHex(mac) }]
  check(
    t,
    icmpv6({ src: a.ip6, dst: group }),
    { kind: 'neighborSolicitation', target: b.ip6, options: from(1, '02000000000a') },
    capture('neighborSolicitation', 54),
  )
  check(
    t,
    icmpv6({ src: b.ip6, dst: routers }),
    { kind: 'routerSolicitation', options: from(1, '02000000000b') },
    capture('routerSolicitation', 54),
  )
  const flags = { fromRouter: false, solicited: true, override: true }
  check(
    t,
    icmpv6({ src: b.ip6, dst: a.ip6 }),
    {
      kind: 'neighborAdvertisement',
      ...flags,
      target: b.ip6,
      options: from(2, '02000000000b'),
    },
    capture('neighborAdvertisement', 54),
  )
})

test('icmpv6 router advertisement and redirect come back', (t) => {
  const codec = icmpv6(aToB6)
  const options = [{ type: 3, value: new Uint8Array(30) }]
  const advertisement = {
    kind: 'routerAdvertisement',
    hopLimit: 64,
    flags: 0xc0,
    lifetimeSeconds: 1800,
    reachableMs: 30_000,
    retransmitMs: 1000,
    options,
  } as const
  const redirect = { kind: 'redirect', target: a.ip6, destination: b.ip6, options } as const
  for (const message of [advertisement, redirect])
    check(t, codec, message, hexOf(encode(codec, message)))
})

test('an icmpv6 option of length 0 is malformed, not endless', (t) => {
  const bytes = encode(icmpv6(aToB6), {
    kind: 'other',
    type: 133,
    code: 0,
    body: new Uint8Array(12),
  })
  t.throws(() => decode(icmpv6(aToB6), bytes), { message: /length 0/ })
})

test('udp', (t) => {
  const datagram = { srcPort: 0xd428, dstPort: 9999, hasChecksum: true, payload: text('hello') }
  check(t, udp(aToB), datagram, capture('udpHello', 34))
  const over6 = { srcPort: 0xa8f5, dstPort: 9999, hasChecksum: true, payload: text('hello6') }
  check(t, udp(aToB6), over6, capture('udpHelloV6', 54))
})

test('udp without a checksum', (t) => {
  const datagram = { srcPort: 0xcd90, dstPort: 9998, hasChecksum: false, payload: text('nocheck!') }
  check(t, udp(aToB), datagram, capture('udpUnchecked', 34))
  t.throws(() => decode(udp(aToB6), fromHex(capture('udpUnchecked', 34))), {
    message: /no checksum over IPv6/,
  })
})

test('udp whose checksum comes out as 0 is sent as 0xffff', (t) => {
  const codec = udp({ src: 0, dst: 0 })
  const payload = fromHex('ffda')
  const bytes = encode(codec, { srcPort: 0, dstPort: 0, hasChecksum: true, payload })
  t.is(hexOf(bytes), '00000000000affffffda')
  t.true(decode(codec, bytes).hasChecksum)
})

test('tcp', (t) => {
  const syn = {
    srcPort: 0x9b6c,
    dstPort: 81,
    sequence: 0xda46_8495,
    acknowledgment: 0,
    flags: 2,
    window: 0xfaf0,
    urgent: 0,
    options: fromHex('020405b40402080a870dc841000000000103030a'),
    payload: none,
  }
  check(t, tcp(aToB), syn, capture('tcpSyn', 34))
  const reset = { ...syn, srcPort: 81, dstPort: 0x9b6c, sequence: 0, flags: 0x14, window: 0 }
  const answer = { ...reset, acknowledgment: 0xda46_8496, options: none }
  check(t, tcp(bToA), answer, capture('tcpReset', 34))
})

test('a tcp header too short for itself is malformed', (t) => {
  const bytes = fromHex(capture('tcpSyn', 34))
  bytes[12] = 0x40
  t.throws(() => decode(tcp(aToB), bytes), { message: /header of 16 bytes/ })
})

test('vxlan', (t) => {
  check(t, vxlan, { vni: 4242 }, capture('vxlanArp', 42, 50))
  t.throws(() => decode(vxlan, new Uint8Array(8)), { message: /no VNI/ })
  const inner = fromHex(capture('vxlanArp', 50))
  t.is(decode(ethernet, inner).src, 0x02_0000_0000_1a)
})

test('dhcp discover and offer', (t) => {
  const discover = {
    op: 'request',
    hops: 0,
    transaction: 0x35b9_870d,
    seconds: 0,
    flags: 0,
    clientAddress: 0,
    yourAddress: 0,
    serverAddress: 0,
    relayAddress: 0,
    mac: a.mac,
    serverName: none,
    bootFile: none,
    options: [
      { code: 53, value: fromHex('01') },
      { code: 57, value: fromHex('0240') },
      { code: 55, value: fromHex('0103060c0f1c2a') },
      { code: 60, value: text('udhcp 1.35.0') },
      { code: 61, value: fromHex('0102000000000a') },
    ],
  } as const
  checkPadded(t, discover, capture('dhcpDiscover', 42))
  const offer = {
    ...discover,
    op: 'reply',
    yourAddress: 0x0a09_0015,
    options: [
      { code: 53, value: fromHex('02') },
      { code: 54, value: fromHex('0a090002') },
      { code: 51, value: fromHex('000d2f00') },
      { code: 1, value: fromHex('ffffff00') },
      { code: 3, value: fromHex('0a090002') },
      { code: 121, value: fromHex('100a050a090003') },
    ],
  } as const
  checkPadded(t, offer, capture('dhcpOffer', 42))
})

/** Without the zeros that clients put behind the end option. */
function checkPadded(t: ExecutionContext, value: Dhcp, hex: string): void {
  check(t, dhcp, value, hex.replace(/(00)+$/, ''))
}

test('a dhcp option over 255 bytes travels in parts', (t) => {
  const message = decode(dhcp, fromHex(capture('dhcpOffer', 42)))
  for (const size of [0, 1, 255, 256, 510, 600]) {
    const options = [{ code: 43, value: new Uint8Array(size).fill(7) }]
    const value = { ...message, options, serverName: text('server'), bootFile: text('boot') }
    check(t, dhcp, value, hexOf(encode(dhcp, value)))
  }
})

test('dhcp without its cookie, or not over Ethernet, is malformed', (t) => {
  const hex = capture('dhcpOffer', 42)
  for (const bad of [
    hex.replace('63825363', '63825364'),
    `0206${hex.slice(4)}`,
    `03${hex.slice(2)}`,
  ])
    t.throws(() => decode(dhcp, fromHex(bad)), { instanceOf: MalformedError })
})
