import test from 'ava'
import fc from 'fast-check'
import { readU16 } from '../../packet/bytes.ts'
import { encodeNamedOption, optionNames } from '../../packet/dhcp-named-option.ts'
import { buildDhcpReply, type DhcpLease } from '../../packet/dhcp-reply.ts'
import { fragmentFrame, ipLength, mayFragment } from '../../packet/fragment.ts'
import { clientFrame } from '../simulator/script-service.ts'
import { captures, fromHex, hexOf } from './captures.ts'

const lease: DhcpLease = {
  mac: 0x0200_0000_000a,
  address: 0x0a01_000a,
  prefixLength: 24,
  server: 0x0a01_0001,
  gateway: 0x0a01_0001,
  dnsServers: [],
  mtu: 1450,
  routes: [],
  leaseSeconds: 60,
  domain: undefined,
  name: undefined,
  extra: [],
}
const server = 0x02a8_9cde_3927

test('a message cut or damaged anywhere is answered or not, and never throws', (t) => {
  const frame = clientFrame(lease.mac, 'request', new Map([['ask', '10.1.0.10']]))
  t.truthy(buildDhcpReply(frame, lease, server))
  for (let size = 0; size < frame.length; size++)
    buildDhcpReply(frame.subarray(0, size), lease, server)
  fc.assert(
    fc.property(fc.nat({ max: frame.length - 1 }), fc.nat({ max: 255 }), (at, value) => {
      const damaged = frame.slice()
      damaged[at] = value
      buildDhcpReply(damaged, lease, server)
    }),
    { numRuns: 2000 },
  )
})

test('what another client asks, or one behind a relay, is left alone', (t) => {
  const other = clientFrame(0x0200_0000_000b, 'discover', new Map())
  t.is(buildDhcpReply(other, lease, server), undefined)
  const relayed = clientFrame(lease.mac, 'discover', new Map())
  relayed[14 + 20 + 8 + 27] = 9
  t.is(buildDhcpReply(relayed, lease, server), undefined)
})

test('options are known by number and name, and values that do not fit are refused', (t) => {
  t.deepEqual(encodeNamedOption('ntp-server', '10.0.0.1,10.0.0.2'), {
    code: 42,
    value: Uint8Array.of(10, 0, 0, 1, 10, 0, 0, 2),
  })
  t.deepEqual(encodeNamedOption(26, '1400').value, Uint8Array.of(5, 120))
  t.is(hexOf(encodeNamedOption('domain-search', 'a.example').value), '0161076578616d706c6500')
  t.is(hexOf(encodeNamedOption(224, '0x0102').value), '0102')
  t.is(hexOf(encodeNamedOption(224, 'hi').value), '6869')
  for (const [option, value] of [
    ['nonsense', '1'],
    [0, '1'],
    [255, '1'],
    [54, '10.0.0.1'],
    ['mtu', '70000'],
    ['mtu', 'big'],
    ['ntp-server', '10.0.0'],
    ['hostname', ''],
    ['ip-forward-enable', '2'],
    [224, '0x1'],
    ['toString', '1'],
  ] as const)
    t.throws(() => encodeNamedOption(option, value), { code: 'MALFORMED' }, `${option}`)
  t.true(optionNames.includes('tftp-server'))
})

test('fragments put together are the packet', (t) => {
  const hello = fromHex(captures.udpHello)
  const frame = new Uint8Array(14 + 20 + 3000)
  frame.set(hello.subarray(0, 34))
  for (let at = 34; at < frame.length; at++) frame[at] = at
  frame[16] = 3020 >> 8
  frame[17] = 3020 & 0xff
  frame[20] = 0
  frame[21] = 0
  frame[24] = 0
  frame[25] = 0
  const sum = headerSum(frame)
  frame[24] = sum >> 8
  frame[25] = sum & 0xff
  const parts = fragmentFrame(frame, 1000) ?? []
  t.true(parts.every((part) => ipLength(part) <= 1000))
  const whole = new Uint8Array(3000)
  for (const part of parts) whole.set(part.subarray(34), (readU16(part, 20) & 0x1fff) * 8)
  t.deepEqual(whole, frame.slice(34))
  t.deepEqual(
    parts.map((part) => (readU16(part, 20) & 0x2000) !== 0),
    parts.map((_, at) => at < parts.length - 1),
  )
  t.true(mayFragment(frame))
  // A checksum that its sender left is completed over the whole before it is cut.
  const left = fragmentFrame(frame, 1000, { start: 34, offset: 6 }) ?? []
  t.not(readU16(left[0] ?? frame, 40), readU16(frame, 40))
})

test('of a packet to be cut into segments one segment counts', (t) => {
  const syn = fromHex(captures.tcpSyn)
  const headers = syn.length - 14
  const long = new Uint8Array(60_000)
  long.set(syn)
  t.is(ipLength(long), 60_000 - 14)
  t.is(ipLength(long, 1400), headers + 1400)
  t.is(ipLength(fromHex('00'), 1400), 0)
})

function headerSum(frame: Uint8Array): number {
  let sum = 0
  for (let at = 14; at < 34; at += 2) sum += readU16(frame, at)
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16)
  return ~sum & 0xffff
}
