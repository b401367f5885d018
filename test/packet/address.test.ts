import test from 'ava'
import fc from 'fast-check'
import {
  broadcastOf,
  contains,
  formatCidr,
  formatIp,
  formatIpv6,
  formatMac,
  isGroupMac,
  networkOf,
  overlaps,
  parseCidr,
  parseIp,
  parseIpv6,
  parseMac,
  prefixMask,
} from '../../packet/address.ts'

test('addresses come back from their text', (t) => {
  fc.assert(
    fc.property(fc.nat(0xffff_ffff), fc.nat(0xffff_ffff_ffff), (ip, mac) => {
      t.is(parseIp(formatIp(ip)), ip)
      t.is(parseMac(formatMac(mac)), mac)
    }),
  )
})

test('an IPv6 address comes back from its text, zeros in any place', (t) => {
  const group = fc.oneof(fc.constant(0n), fc.bigInt({ min: 0n, max: 0xffffn }))
  fc.assert(
    fc.property(fc.array(group, { minLength: 8, maxLength: 8 }), (groups) => {
      const address = groups.reduce((value, part) => (value << 16n) | part, 0n)
      t.is(parseIpv6(formatIpv6(address)), address)
    }),
    { numRuns: 1000 },
  )
})

for (const [text, canonical] of [
  ['::', '::'],
  ['::1', '::1'],
  ['FD00:0:0:0:0:0:0:2', 'fd00::2'],
  ['2001:db8:0:0:1:0:0:1', '2001:db8::1:0:0:1'],
  ['2001:db8:0:1:1:1:1:1', '2001:db8:0:1:1:1:1:1'],
  ['ffff::', 'ffff::'],
  ['::ffff:10.0.0.1', '::ffff:a00:1'],
] as const)
  test(`${text} in the form of RFC 5952 is ${canonical}`, (t) => {
    t.is(formatIpv6(parseIpv6(text) ?? -1n), canonical)
  })

for (const text of [
  '',
  ':',
  '1',
  '1:2',
  ':::',
  '1::2::3',
  '1:2:3:4:5:6:7:8:9',
  '1:2:3:4:5:6:7::8',
  '12345::',
  'g::',
  '1.2.3.4',
  '1.2.3.4::',
  ':1:2:3:4:5:6:7:8',
  'fe80::1%eth0',
])
  test(`"${text}" is not an IPv6 address`, (t) => {
    t.is(parseIpv6(text), undefined)
  })

for (const text of ['', '1.2.3', '1.2.3.4.5', '01.2.3.4', '256.0.0.1', '1.2.3.-4', ' 1.2.3.4'])
  test(`"${text}" is not an IPv4 address`, (t) => {
    t.is(parseIp(text), undefined)
  })

test('networks', (t) => {
  const network = { address: 0x0a01_0203, prefixLength: 24 }
  t.deepEqual(parseCidr('10.1.2.3/24'), network)
  t.is(formatCidr(network), '10.1.2.3/24')
  t.is(networkOf(network), 0x0a01_0200)
  t.is(broadcastOf(network), 0x0a01_02ff)
  t.true(contains(network, 0x0a01_02fe))
  t.false(contains(network, 0x0a01_0300))
  t.is(prefixMask(0), 0)
  t.is(prefixMask(32), 0xffff_ffff)
  t.true(overlaps(network, { address: 0x0a00_0000, prefixLength: 8 }))
  t.false(overlaps(network, { address: 0x0a01_0300, prefixLength: 24 }))
  for (const text of ['10.0.0.0/33', '10.0.0.0', '10.0.0.0/', '10.0.0.0/08'])
    t.is(parseCidr(text), undefined)
})

test('group addresses have the lowest bit of the first octet', (t) => {
  t.true(isGroupMac(0x0100_5e00_0001))
  t.true(isGroupMac(0xffff_ffff_ffff))
  t.false(isGroupMac(0x0200_0000_000a))
})
