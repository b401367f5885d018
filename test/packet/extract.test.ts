import test from 'ava'
import fc from 'fast-check'
import { extractKey } from '../../packet/extract.ts'
import { createKey, equalKeys } from '../../packet/flow-key.ts'
import { formatKey } from '../../packet/text.ts'
import { mutated } from './arbitrary.ts'
import { type CaptureName, captures, fromHex } from './captures.ts'

function keyOf(frame: Uint8Array, inPort = 1) {
  const key = createKey()
  const found = extractKey(frame, inPort, key)
  return found ? formatKey(key).replace('in_port(1),', '') : undefined
}

const ab = 'eth(src=02:00:00:00:00:0a,dst=02:00:00:00:00:0b)'
const ba = 'eth(src=02:00:00:00:00:0b,dst=02:00:00:00:00:0a)'
const ip = (proto: number, more = 'tos=0,ttl=64,frag=no') =>
  `eth_type(0x0800),ipv4(src=10.9.0.1,dst=10.9.0.2,proto=${proto},${more})`

const keys: readonly (readonly [CaptureName, string])[] = [
  [
    'arpRequest',
    'eth(src=02:00:00:00:00:0a,dst=ff:ff:ff:ff:ff:ff),eth_type(0x0806),arp(sip=10.9.0.1,tip=10.9.0.2,op=1,sha=02:00:00:00:00:0a,tha=00:00:00:00:00:00)',
  ],
  [
    'arpReply',
    `${ba},eth_type(0x0806),arp(sip=10.9.0.2,tip=10.9.0.1,op=2,sha=02:00:00:00:00:0b,tha=02:00:00:00:00:0a)`,
  ],
  ['echoRequest', `${ab},${ip(1)},icmp(type=8,code=0)`],
  [
    'portUnreachable',
    `${ba},eth_type(0x0800),ipv4(src=10.9.0.2,dst=10.9.0.1,proto=1,tos=0xc0,ttl=64,frag=no),icmp(type=3,code=3)`,
  ],
  ['udpHello', `${ab},${ip(17)},udp(src=54312,dst=9999)`],
  ['tcpSyn', `${ab},${ip(6)},tcp(src=39788,dst=81),tcp_flags(0x2)`],
  ['fragmentLater', `${ab},${ip(17, 'tos=0,ttl=64,frag=later')}`],
  [
    'echoRequestV6',
    `${ab},eth_type(0x86dd),ipv6(src=fe80::ff:fe00:a,dst=fe80::ff:fe00:b,proto=58,tclass=0,hlimit=64,frag=no),icmpv6(type=128,code=0)`,
  ],
  [
    'udpHelloV6',
    `${ab},eth_type(0x86dd),ipv6(src=fe80::ff:fe00:a,dst=fe80::ff:fe00:b,proto=17,tclass=0,hlimit=64,frag=no),udp(src=43253,dst=9999)`,
  ],
]

for (const [name, text] of keys)
  test(`the key of ${name}`, (t) => {
    t.is(keyOf(fromHex(captures[name])), text)
  })

const tagged = (hex: string) => `${hex.slice(0, 24)}81006005${hex.slice(24)}`
const tag = 'vlan(vid=5,pcp=3)'

test('one tag is read, its present bit set; the rest is as without it', (t) => {
  t.is(keyOf(fromHex(tagged(captures.udpHello))), `${ab},${tag},${ip(17)},udp(src=54312,dst=9999)`)
})

test('a second tag is just an ethType, and so is the tag of a provider', (t) => {
  const hex = captures.udpHello
  const twice = `${hex.slice(0, 24)}8100000581000006${hex.slice(24)}`
  t.is(keyOf(fromHex(twice)), `${ab},vlan(vid=5,pcp=0),eth_type(0x8100)`)
  t.is(keyOf(fromHex(`${hex.slice(0, 24)}88a80005${hex.slice(24)}`)), `${ab},eth_type(0x88a8)`)
})

test('a tag cut off is just an ethType', (t) => {
  const frame = fromHex(`${captures.udpHello.slice(0, 24)}8100000508`)
  t.is(keyOf(frame), `${ab},eth_type(0x8100)`)
})

test('a frame that ends with its Ethernet header has a key, tagged or not', (t) => {
  const header = `${captures.udpHello.slice(0, 24)}88cc`
  t.is(keyOf(fromHex(header)), `${ab},eth_type(0x88cc)`)
  t.is(keyOf(fromHex(tagged(header))), `${ab},${tag},eth_type(0x88cc)`)
})

test('a length is no ethType, and the least ethType no length', (t) => {
  const macs = captures.udpHello.slice(0, 24)
  t.is(keyOf(fromHex(`${macs}05ff4242`)), `${ab},eth_type(0x0000)`)
  t.is(keyOf(fromHex(`${macs}06004242`)), `${ab},eth_type(0x0600)`)
})

/** With four bytes of IP options. */
const optioned = (hex: string) =>
  `${hex.slice(0, 28)}46${hex.slice(30, 68)}01020304${hex.slice(68)}`

test('ports stand behind IP options', (t) => {
  const frame = fromHex(optioned(captures.udpHello))
  t.is(keyOf(frame), `${ab},${ip(17)},udp(src=54312,dst=9999)`)
})

test('the first fragment has ports', (t) => {
  const frame = fromHex(captures.udpHello)
  frame[20] = 0x20
  t.is(keyOf(frame), `${ab},${ip(17, 'tos=0,ttl=64,frag=first')},udp(src=54312,dst=9999)`)
})

const sctp = (hex: string) => `${hex.slice(0, 46)}84${hex.slice(48)}`
const ip6 = (proto: number) =>
  `eth_type(0x86dd),ipv6(src=fe80::ff:fe00:a,dst=fe80::ff:fe00:b,proto=${proto},tclass=0,hlimit=64,frag=no)`

/** With destination options between the headers. */
const extended = (hex: string) =>
  `${hex.slice(0, 40)}3c${hex.slice(42, 108)}${hex.slice(40, 42)}00010400000000${hex.slice(108)}`

/** Name, frame, the size at which a header is whole, and the key one byte before. */
const cuts: readonly (readonly [string, string, number, string])[] = [
  ['ARP', captures.arpReply, 42, `${ba},eth_type(0x0806)`],
  ['IPv4', captures.udpHello, 34, `${ab},eth_type(0x0800)`],
  ['UDP', captures.udpHello, 38, `${ab},${ip(17)},udp(src=0,dst=0)`],
  ['UDP behind IP options', optioned(captures.udpHello), 42, `${ab},${ip(17)},udp(src=0,dst=0)`],
  ['SCTP', sctp(captures.udpHello), 38, `${ab},${ip(132)},sctp(src=0,dst=0)`],
  ['TCP', captures.tcpSyn, 48, `${ab},${ip(6)},tcp(src=0,dst=0),tcp_flags(0)`],
  ['ICMP', captures.echoRequest, 36, `${ab},${ip(1)},icmp(type=0,code=0)`],
  ['IPv6', captures.udpHelloV6, 54, `${ab},eth_type(0x86dd)`],
  ['extension header', extended(captures.udpHelloV6), 58, `${ab},${ip6(59)}`],
  ['UDP behind it', extended(captures.udpHelloV6), 66, `${ab},${ip6(17)},udp(src=0,dst=0)`],
  ['UDP over IPv6', captures.udpHelloV6, 58, `${ab},${ip6(17)},udp(src=0,dst=0)`],
  ['ICMPv6', captures.echoRequestV6, 56, `${ab},${ip6(58)},icmpv6(type=0,code=0)`],
]

for (const [name, hex, size, text] of cuts)
  test(`${name} cut under ${size} bytes, and under ${size + 4} with a tag`, (t) => {
    // What a cut takes away is 0 in the key and not absent: print it as if it were there.
    const zero = (key: string | undefined) =>
      key?.replace(/(arp|ipv4|ipv6)\((src|sip)=(0\.0\.0\.0|::),.*/, '').replace(/,$/, '')
    for (const [frame, whole, before] of [
      [fromHex(hex), size, text],
      [fromHex(tagged(hex)), size + 4, text.replace(',eth_type', `,${tag},eth_type`)],
    ] as const) {
      t.is(zero(keyOf(frame.slice(0, whole - 1))), before)
      t.not(zero(keyOf(frame.slice(0, whole))), before)
    }
  })

test('a frame under 14 bytes has no key, and leaves the old one', (t) => {
  const key = createKey().fill(7)
  t.false(extractKey(fromHex(captures.udpHello).slice(0, 13), 1, key))
  t.deepEqual(key, createKey().fill(7))
})

test('an IHL under 5 or another ARP leaves the ethType', (t) => {
  const udp = fromHex(captures.udpHello)
  udp[14] = 0x44
  const arp = fromHex(captures.arpReply)
  arp[18] = 8
  const key = createKey()
  extractKey(udp, 1, key)
  t.deepEqual([...key.subarray(8)], [0x0800, ...new Array<number>(11).fill(0)])
  extractKey(arp, 1, key)
  t.deepEqual([...key.subarray(8)], [0x0806, ...new Array<number>(11).fill(0)])
})

test('no bytes make it throw, and nothing stays of what was in the key', (t) => {
  const key = createKey()
  const again = createKey()
  fc.assert(
    fc.property(fc.oneof(mutated, fc.uint8Array({ maxLength: 80 })), (frame) => {
      key.fill(0)
      again.fill(0xffff_ffff)
      if (!extractKey(frame, 9, key)) return t.true(frame.length < 14)
      extractKey(frame, 9, again)
      return t.true(equalKeys(key, again))
    }),
    { numRuns: 5000 },
  )
})

test('a key depends on no byte behind the headers', (t) => {
  fc.assert(
    fc.property(mutated, fc.uint8Array({ maxLength: 4 }), (frame, more) => {
      if (frame.length < 94) return
      t.is(keyOf(Uint8Array.from([...frame, ...more])), keyOf(frame))
    }),
    { numRuns: 1000 },
  )
  t.pass()
})
