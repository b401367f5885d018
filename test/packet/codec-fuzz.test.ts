import test, { type ExecutionContext } from 'ava'
import fc from 'fast-check'
import { arp } from '../../packet/arp.ts'
import { type Codec, decode, encode } from '../../packet/bytes.ts'
import { dhcp } from '../../packet/dhcp.ts'
import { ethernet } from '../../packet/ethernet.ts'
import { icmp } from '../../packet/icmp.ts'
import { icmpv6 } from '../../packet/icmpv6.ts'
import { ipv4, ipv4Header } from '../../packet/ipv4.ts'
import { ipv6 } from '../../packet/ipv6.ts'
import { tcp } from '../../packet/tcp.ts'
import { udp } from '../../packet/udp.ts'
import { vxlan } from '../../packet/vxlan.ts'
import { mutated } from './arbitrary.ts'
import { capture, fromHex } from './captures.ts'
import { decodeAnything } from './check.ts'

const aToB = { src: 0x0a09_0001, dst: 0x0a09_0002 }
const aToB6 = { src: 0xfe80_0000_0000_0000_0000_00ff_fe00_000an, dst: 1n }

const codecs: readonly Codec<unknown>[] = [
  ethernet,
  arp,
  ipv4,
  ipv4Header,
  ipv6,
  icmp,
  icmpv6(aToB6),
  udp(aToB),
  udp(aToB6),
  tcp(aToB),
  tcp(aToB6),
  vxlan,
  dhcp,
]

function writesWhatItReads<T>(t: ExecutionContext, codec: Codec<T>, bytes: Uint8Array): void {
  const value = decodeAnything(codec, bytes)
  if (value !== undefined) t.deepEqual(decode(codec, encode(codec, value)), value)
}

for (const [at, codec] of codecs.entries())
  test(`${codec.name} (${at}) takes any bytes, and writes what it read`, (t) => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 400 }), (bytes) => writesWhatItReads(t, codec, bytes)),
      { numRuns: 1000 },
    )
    // Real frames with some bytes changed reach deeper than noise does.
    fc.assert(
      fc.property(mutated, fc.constantFrom(0, 14, 34, 42, 54), (frame, start) =>
        writesWhatItReads(t, codec, frame.subarray(start)),
      ),
      { numRuns: 3000 },
    )
    t.pass()
  })

test('whatever stands behind a right checksum is taken, and written as it was read', (t) => {
  const message = fc.record({
    kind: fc.constant('other' as const),
    type: fc.integer({ min: 0, max: 255 }),
    code: fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 255 })),
    body: fc.uint8Array({ maxLength: 100 }),
  })
  const type6 = fc.constantFrom(1, 128, 129, 133, 134, 135, 136, 137)
  fc.assert(
    fc.property(message, type6, (other, type) => {
      writesWhatItReads(t, icmp, encode(icmp, other))
      writesWhatItReads(t, icmpv6(aToB6), encode(icmpv6(aToB6), { ...other, type }))
    }),
    { numRuns: 2000 },
  )
  t.pass()
})

test('any bytes as dhcp options are taken or refused', (t) => {
  const start = fromHex(capture('dhcpOffer', 42)).subarray(0, 240)
  const option = fc.constantFrom('00', '3501', '3501ff', 'ff', '7900', '79ff')
  const options = fc.oneof(
    fc.uint8Array({ maxLength: 600 }),
    fc.array(option, { maxLength: 40 }).map((parts) => fromHex(parts.join(''))),
  )
  fc.assert(
    fc.property(options, (bytes) => {
      writesWhatItReads(t, dhcp, Uint8Array.from([...start, ...bytes]))
    }),
    { numRuns: 2000 },
  )
  t.pass()
})
