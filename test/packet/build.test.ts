import test from 'ava'
import fc from 'fast-check'
import {
  buildArpReply,
  buildArpRequest,
  buildEchoReply,
  buildFrame,
  buildIcmpError,
} from '../../packet/build.ts'
import { Reader } from '../../packet/bytes.ts'
import { ethernet } from '../../packet/ethernet.ts'
import { icmp } from '../../packet/icmp.ts'
import { ipv4 } from '../../packet/ipv4.ts'
import { mutated } from './arbitrary.ts'
import { captures, fromHex, hexOf } from './captures.ts'

const a = { mac: 0x02_0000_0000_0a, ip: 0x0a09_0001 }
const b = { mac: 0x02_0000_0000_0b, ip: 0x0a09_0002 }

function read(frame: Uint8Array) {
  const reader = new Reader(frame)
  const header = ethernet.decode(reader)
  const packet = ipv4.decode(reader)
  return { header, packet, message: icmp.decode(new Reader(packet.payload)) }
}

/** Without the IPv4 identification and checksum, which each host chooses for itself. */
function withoutId(frame: Uint8Array): string {
  const copy = Uint8Array.from(frame)
  copy.fill(0, 18, 20)
  copy.fill(0, 24, 26)
  return hexOf(copy)
}

test('ARP as Linux sends it', (t) => {
  t.is(hexOf(buildArpRequest({ sha: a.mac, spa: a.ip, tpa: b.ip })), captures.arpRequest)
  const reply = { sha: b.mac, spa: b.ip, tha: a.mac, tpa: a.ip }
  t.is(hexOf(buildArpReply(reply)), captures.arpReply)
})

test('an echo reply as Linux sends it', (t) => {
  const reply = buildEchoReply(fromHex(captures.echoRequest))
  t.is(withoutId(reply ?? new Uint8Array(0)), withoutId(fromHex(captures.echoReply)))
})

test('an echo reply keeps the tag', (t) => {
  const hex = captures.echoRequest
  const reply = buildEchoReply(fromHex(`${hex.slice(0, 24)}81006005${hex.slice(24)}`))
  t.deepEqual(read(reply ?? new Uint8Array(0)).header.vlan, {
    id: 5,
    priority: 3,
    dropEligible: false,
  })
})

test('only a whole and sound echo request is answered', (t) => {
  t.is(buildEchoReply(fromHex(captures.echoReply)), undefined)
  t.is(buildEchoReply(fromHex(captures.udpHello)), undefined)
  t.is(buildEchoReply(fromHex(captures.echoRequestV6)), undefined)
  const frame = fromHex(captures.echoRequest)
  t.is(buildEchoReply(frame.slice(0, -1)), undefined)
  for (const at of [14, 24, 36, 40]) {
    const damaged = Uint8Array.from(frame)
    damaged[at] = 0x77
    t.is(buildEchoReply(damaged), undefined, `byte ${at}`)
  }
})

const unreachable = { type: 3, code: 3, srcMac: b.mac, srcIp: b.ip }

test('an ICMP error as Linux sends it', (t) => {
  const error = buildIcmpError(fromHex(captures.udpHello), unreachable)
  t.is(withoutId(error ?? new Uint8Array(0)), withoutId(fromHex(captures.portUnreachable)))
})

test('an ICMP error quotes as much as 576 bytes hold, and no padding of the frame', (t) => {
  const long = udpFrame(new Uint8Array(1400).fill(7))
  const error = read(buildIcmpError(long, unreachable) ?? new Uint8Array(0))
  t.is(error.packet.payload.length, 556)
  t.is(error.message.kind === 'error' ? hexOf(error.message.quote) : '', hexOf(long.slice(14, 562)))
  const padded = Uint8Array.from([...fromHex(captures.udpHello), 0, 0, 0])
  t.deepEqual(
    buildIcmpError(padded, unreachable),
    buildIcmpError(fromHex(captures.udpHello), unreachable),
  )
})

test('the MTU of the next hop goes where RFC 1191 wants it', (t) => {
  const request = { ...unreachable, code: 4, parameter: 1400 }
  const frame = buildIcmpError(fromHex(captures.udpHello), request)
  t.is(hexOf((frame ?? new Uint8Array(0)).slice(38, 42)), '00000578')
})

function udpFrame(payload: Uint8Array, change: object = {}, dst = b.mac): Uint8Array {
  const header = { dst, src: a.mac, vlan: undefined, etherType: 0x0800 }
  const packet = {
    tos: 0,
    id: 1,
    dontFragment: false,
    moreFragments: false,
    fragmentOffset: 0,
    ttl: 1,
    proto: 17,
    src: a.ip,
    dst: b.ip,
    options: new Uint8Array(0),
    payload,
    ...change,
  }
  return buildFrame(header, ipv4, packet)
}

const silent: readonly (readonly [string, Uint8Array])[] = [
  ['an ICMP error', fromHex(captures.portUnreachable)],
  ['a later fragment', fromHex(captures.fragmentLater)],
  ['a frame to a group', udpFrame(new Uint8Array(8), {}, 0x0100_5e00_0001)],
  ['a frame to all', udpFrame(new Uint8Array(8), {}, 0xffff_ffff_ffff)],
  ['a multicast packet', udpFrame(new Uint8Array(8), { dst: 0xe000_0001 })],
  ['a broadcast packet', udpFrame(new Uint8Array(8), { dst: 0xffff_ffff })],
  ['a packet from nobody', udpFrame(new Uint8Array(8), { src: 0 })],
  ['a packet from loopback', udpFrame(new Uint8Array(8), { src: 0x7f00_0001 })],
  ['a packet from a group', udpFrame(new Uint8Array(8), { src: 0xe000_0001 })],
  ['an ICMP packet without a type', udpFrame(new Uint8Array(0), { proto: 1 })],
  ['ARP', fromHex(captures.arpRequest)],
  ['IPv6', fromHex(captures.udpHelloV6)],
  ['a header cut off', fromHex(captures.udpHello).slice(0, 33)],
]

for (const [what, frame] of silent)
  test(`no ICMP error about ${what}`, (t) => {
    t.is(buildIcmpError(frame, unreachable), undefined)
  })

test('an ICMP error about an echo request is sent', (t) => {
  t.truthy(buildIcmpError(fromHex(captures.echoRequest), unreachable))
})

test('any frame is answered with a sound frame or not at all', (t) => {
  fc.assert(
    fc.property(mutated, (frame) => {
      for (const answer of [buildEchoReply(frame), buildIcmpError(frame, unreachable)])
        if (answer !== undefined) t.not(read(answer).message.kind, 'other')
    }),
    { numRuns: 3000 },
  )
  t.pass()
})
