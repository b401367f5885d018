import test from 'ava'
import fc from 'fast-check'
import { buildFrame, buildIcmpError } from '../../packet/build.ts'
import { decode, encode, Reader } from '../../packet/bytes.ts'
import { checksum, transportChecksum } from '../../packet/checksum.ts'
import { icmp } from '../../packet/icmp.ts'
import { readIcmpQuote, writeIcmpQuote } from '../../packet/icmp-quote.ts'
import { type Ipv4, ipv4 } from '../../packet/ipv4.ts'
import { buildRefusal } from '../../packet/refusal.ts'
import { tcp } from '../../packet/tcp.ts'
import { udp } from '../../packet/udp.ts'

const ethernet = {
  dst: 0x0200_0000_0001,
  src: 0x0200_0000_0002,
  vlan: undefined,
  etherType: 0x0800,
}
const addresses = { src: 0x0a01_0002, dst: 0x0808_0808 }
const none = new Uint8Array(0)

function packet(proto: number, payload: Uint8Array): Uint8Array {
  const header: Ipv4 = {
    tos: 0,
    id: 7,
    dontFragment: false,
    moreFragments: false,
    fragmentOffset: 0,
    ttl: 9,
    proto,
    ...addresses,
    options: none,
    payload,
  }
  return buildFrame(ethernet, ipv4, header)
}

const segment = {
  srcPort: 40000,
  dstPort: 80,
  sequence: 1000,
  acknowledgment: 5,
  flags: 0x18,
  window: 1,
  urgent: 0,
  options: none,
}
const bodies: Readonly<Record<string, (data: Uint8Array) => Uint8Array>> = {
  tcp: (data) => packet(6, encode(tcp(addresses), { ...segment, payload: data })),
  udp: (data) =>
    packet(
      17,
      encode(udp(addresses), { srcPort: 40000, dstPort: 80, hasChecksum: true, payload: data }),
    ),
  echo: (data) => packet(1, encode(icmp, { kind: 'echoRequest', id: 5, sequence: 1, data })),
}

for (const [name, body] of Object.entries(bodies))
  test(`an error about ${name} is about another packet after, and sound`, (t) => {
    fc.assert(
      fc.property(
        fc.uint8Array({ maxLength: 40 }),
        fc.integer({ min: 1, max: 0xdfff_ffff }),
        fc.integer({ min: 0, max: 0xffff }),
        fc.integer({ min: 0, max: 60 }),
        (data, address, port, cut) => {
          const cause = body(data)
          const error = { type: 11, code: 0, srcMac: 3, srcIp: 0x1400_0001 }
          const frame = buildIcmpError(cause.subarray(0, Math.max(42, cause.length - cut)), error)
          const quote = frame && readIcmpQuote(frame)
          if (frame === undefined || quote === undefined) return false
          const ports = (port | (port << 16)) >>> 0
          const changed = writeIcmpQuote(frame, { ...quote, src: address, dst: 1, ports })
          const again = readIcmpQuote(changed)
          const inner = changed.subarray(42)
          const isWhole = inner.length === cause.length - 14
          const l4 = inner.subarray(20)
          const proto = inner[9] ?? 0
          const sum =
            proto === 1 ? checksum(l4) : transportChecksum({ src: address, dst: 1 }, proto, l4)
          return (
            again?.src === address &&
            again.dst === 1 &&
            again.ports === ports &&
            checksum(changed, 34) === 0 &&
            checksum(inner, 0, 20) === 0 &&
            (!isWhole || sum === 0)
          )
        },
      ),
    )
    t.pass()
  })

test('an echo gets another id, and its checksum follows', (t) => {
  const frame = bodies.echo?.(Uint8Array.of(1, 2, 3)) ?? none
  const quote = readIcmpQuote(frame)
  t.like(quote, { kind: 'echo', isRequest: true, ports: 0x0005_0005 })
  if (quote === undefined) return
  const changed = writeIcmpQuote(frame, { ...quote, ports: 0x0009_0009 })
  t.is(readIcmpQuote(changed)?.ports, 0x0009_0009)
  t.is(checksum(changed, 34), 0)
})

test('no cut frame makes the quote throw', (t) => {
  const error = { type: 3, code: 1, srcMac: 3, srcIp: 1 }
  const frame = buildIcmpError(bodies.udp?.(none) ?? none, error) ?? none
  for (let size = 0; size < frame.length; size++)
    t.notThrows(() => readIcmpQuote(frame.subarray(0, size)))
  t.is(readIcmpQuote(frame.subarray(0, 69)), undefined)
})

test('a refused segment is reset with the number its sender waits for', (t) => {
  const refusal = buildRefusal(bodies.tcp?.(Uint8Array.of(1)) ?? none) ?? none
  const answer = ipv4.decode(new Reader(refusal.subarray(14)))
  const reset = decode(tcp({ src: answer.src, dst: answer.dst }), answer.payload)
  t.like(reset, { srcPort: 80, dstPort: 40000, sequence: 5, acknowledgment: 0, flags: 0x04 })
  const opening = encode(tcp(addresses), { ...segment, flags: 0x02, payload: none })
  const second = ipv4.decode(new Reader((buildRefusal(packet(6, opening)) ?? none).subarray(14)))
  const answered = decode(tcp({ src: second.src, dst: second.dst }), second.payload)
  t.like(answered, { sequence: 0, acknowledgment: 1001, flags: 0x14 })
})

test('resets are not reset, and what is no TCP is prohibited', (t) => {
  const reset = encode(tcp(addresses), { ...segment, flags: 0x04, payload: none })
  t.is(buildRefusal(packet(6, reset)), undefined)
  const refusal = ipv4.decode(
    new Reader((buildRefusal(bodies.udp?.(none) ?? none) ?? none).subarray(14)),
  )
  t.is(refusal.src, addresses.dst)
  t.like(decode(icmp, refusal.payload), { kind: 'error', type: 3, code: 13 })
})
