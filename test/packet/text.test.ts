import test from 'ava'
import fc from 'fast-check'
import type { Action } from '../../packet/action.ts'
import { createKey, maskKey, readField, writeField } from '../../packet/flow-key.ts'
import {
  formatActions,
  formatFlow,
  formatKey,
  parseActions,
  parseFlow,
  parseKey,
  TextError,
} from '../../packet/text.ts'
import { anyDeepAction, anyKey, anyMask } from './arbitrary.ts'

const texts = [
  '',
  'in_port(3)',
  'in_port(3/0xff)',
  'in_port(3),eth(src=02:00:00:00:00:0a,dst=02:00:00:00:00:0b),eth_type(0x0800),ipv4(src=10.1.0.0/255.255.255.0,dst=10.2.0.2,proto=6,tos=0x10,ttl=64,frag=no),tcp(src=1,dst=2),tcp_flags(0x2/0x17)',
  'tunnel(tun_id=0x5,src=192.168.0.1),in_port(1),eth_type(0x0806),arp(sip=10.0.0.1,tip=10.0.0.2,op=1,sha=02:00:00:00:00:0a,tha=00:00:00:00:00:00)',
  'eth(dst=01:00:00:00:00:00/01:00:00:00:00:00),vlan(none)',
  'vlan(vid=5,pcp=0),eth_type(0x0800),ipv4(proto=17,frag=first),udp(dst=53)',
  'vlan(cfi=1)',
  'vlan(cfi=0)',
  'vlan(vid=5,cfi=0/0)',
  'eth_type(0x86dd),ipv6(src=fd00::1,dst=fd00::/ffff::,proto=58,tclass=0,hlimit=255,frag=no),icmpv6(type=135,code=0)',
  'eth_type(0x0800),ipv4(proto=1,frag=later),icmp(type=8,code=0)',
  'eth_type(0x0800),ipv4(proto=132,frag=no),sctp(src=1,dst=2)',
  'eth_type(0x0800),ipv4(src=10.0.0.1),tp(src=7,dst=9/0xff)',
  'eth_type(0x0800/0xff00),word(10=0xa/0xff,18=0x1)',
]

for (const text of texts)
  test(`the key "${text.slice(0, 40)}" prints as it was read`, (t) => {
    const { key, mask } = parseKey(text)
    t.is(formatKey(key, mask), text)
  })

test('fields stand where the key has them', (t) => {
  const { key, mask } = parseKey(
    'in_port(3),eth(src=02:00:00:00:00:0a),vlan(vid=5,pcp=2),ipv4(dst=10.2.0.0/255.255.0.0,ttl=64),tcp(dst=80)',
  )
  t.is(readField(key, 'inPort'), 3)
  t.is(readField(key, 'ethSrc'), 0x02_0000_0000_0a)
  t.is(readField(key, 'vlan'), 0x5005)
  t.is(readField(mask, 'vlan'), 0xffff)
  t.is(readField(key, 'ipDst'), 0x0a02_0000)
  t.is(readField(mask, 'ipDst'), 0xffff_0000)
  t.is(readField(key, 'ipTtl'), 64)
  t.is(readField(mask, 'ethDst'), 0)
  t.is(readField(key, 'tpDst'), 80)
})

test('spaces, numbers in either base, and masks of nothing are read', (t) => {
  const { key, mask } = parseKey(' in_port( 0x10 ) , ipv4( tos=0/0, proto=0x6 )')
  t.is(formatKey(key, mask), 'in_port(16),word(9=0x6/0xff)')
})

test('without a mask, what such a packet has is printed', (t) => {
  const { key } = parseKey('in_port(1),eth_type(0x0800),ipv4(src=10.0.0.1,proto=17),udp(dst=53)')
  t.is(
    formatKey(key),
    'in_port(1),eth(src=00:00:00:00:00:00,dst=00:00:00:00:00:00),eth_type(0x0800),ipv4(src=10.0.0.1,dst=0.0.0.0,proto=17,tos=0,ttl=0,frag=no),udp(src=0,dst=53)',
  )
})

test('a flow prints its match, then its actions', (t) => {
  const { key, mask } = parseKey('in_port(1)')
  const actions: Action[] = [
    { kind: 'setTtl', ttl: 63 },
    { kind: 'output', port: 2 },
  ]
  t.is(formatFlow({ key, mask }, actions), 'in_port(1), actions:set(ipv4(ttl=63)),2')
  t.is(formatFlow({ key: createKey(), mask: createKey() }, []), 'actions:drop')
})

test('actions print as they were read', (t) => {
  const text =
    'set(eth(src=02:00:00:00:00:0a,dst=02:00:00:00:00:0b)),set(ipv4(src=10.0.0.1)),set(ipv4(dst=10.0.0.2)),set(ipv4(ttl=63)),set(ipv4(tos=0x10)),set(tp(src=1)),set(tp(dst=2)),push_vlan(vid=5,pcp=3),pop_vlan,set(arp(sip=10.0.0.1,tip=10.0.0.2,op=2,sha=02:00:00:00:00:0a,tha=02:00:00:00:00:0b)),set(tunnel(tun_id=0x5,src=192.168.0.1,dst=192.168.0.2)),userspace(reason=0),3'
  t.is(formatActions(parseActions(text)), text)
  t.is(formatActions(parseActions('drop')), 'drop')
})

test('a set of several fields is several actions', (t) => {
  t.is(
    formatActions(parseActions('set(ipv4(src=10.0.0.1,ttl=63)), set(udp(src=1,dst=2)), 7')),
    'set(ipv4(src=10.0.0.1)),set(ipv4(ttl=63)),set(tp(src=1)),set(tp(dst=2)),7',
  )
})

const wrong: readonly (readonly [string, number, RegExp])[] = [
  ['in_port', 7, /the end: expected "\("/],
  ['in_port(x)', 8, /expected a number/],
  ['in_port(4294967296)', 8, /at most 4294967295/],
  ['foo(1)', 0, /expected one of recirc_id, tunnel, in_port/],
  ['eth(src=02:00:00:00:00)', 8, /MAC address/],
  ['eth(constructor=1)', 4, /one of src, dst/],
  ['ipv4(src=1.2.3.4,src=1.2.3.4)', 21, /each field once/],
  ['ipv4(src=1.2.3.4', 16, /"\)"/],
  ['vlan(vid=4096)', 9, /at most 4095/],
  ['word(20=1)', 5, /a word from 0 to 19/],
  ['ipv6(src=1::2::3)', 9, /IPv6 address/],
  ['in_port(1) eth_type(1)', 11, /"," or the end/],
  ['in_port(1),', 11, /one of/],
]

for (const [text, position, message] of wrong)
  test(`"${text}" is refused with the place and what was expected`, (t) => {
    const error = t.throws(() => parseKey(text), { instanceOf: TextError, code: 'INVALID_TEXT' })
    t.is(error?.position, position)
    t.regex(error?.message ?? '', message)
  })

test('actions within actions print as they were read, and so does connection tracking', (t) => {
  const text =
    'meter(3),clone(push_vlan(vid=5,pcp=0),2,check_pkt_len(size=100,gt(drop),le(7))),ct,ct(zone=5),ct(commit,zone=5,mark=0x1/0xff),recirc(0x7)'
  t.is(formatActions(parseActions(text)), text)
  t.is(formatActions(parseActions('ct(mark=3)')), 'ct(mark=0x3/0xffffffff)')
  t.throws(() => parseActions(`${'clone('.repeat(4000)}1${')'.repeat(4000)}`), {
    instanceOf: TextError,
    message: /4 deep/,
  })
})

test('what connection tracking said is matched by its bits', (t) => {
  const text = 'recirc_id(0x7),in_port(1),ct_state(0x22/0x23),eth(dst=02:00:00:00:00:0a)'
  const { key, mask } = parseKey(text)
  t.is(formatKey(key, mask), text)
  t.is(readField(key, 'recirculation'), 7)
  t.is(readField(key, 'ethDst'), 0x02_0000_0000_0a)
})

const wrongActions = [
  '',
  'set(eth(src=02:00:00:00:00:0a))',
  'set(ipv4(ttl=256))',
  '1,',
  'drop,1',
  'clone(1',
  'ct(zone=65536)',
  'ct(force)',
  'recirc(0)',
  'meter()',
]

for (const text of wrongActions)
  test(`the actions "${text}" are refused`, (t) => {
    t.throws(() => parseActions(text), { instanceOf: TextError })
  })

test('every key and mask comes back from its text, masked', (t) => {
  fc.assert(
    fc.property(anyKey, anyMask, (key, mask) => {
      const back = parseKey(formatKey(key, mask))
      const masked = createKey()
      maskKey(key, mask, masked)
      t.deepEqual(back.mask, mask)
      t.deepEqual(back.key, masked)
    }),
    { numRuns: 2000 },
  )
  t.pass()
})

test('every flow comes back from its text', (t) => {
  fc.assert(
    fc.property(anyMask, fc.array(anyDeepAction, { maxLength: 6 }), (mask, actions) => {
      const back = parseFlow(formatFlow({ key: mask, mask }, actions))
      t.deepEqual(back, { key: mask, mask, actions })
    }),
    { numRuns: 1000 },
  )
})

test('no text makes the parsers throw anything else', (t) => {
  const pieces = fc.constantFrom(...'in_port,eth,(,),=,/,1,0x1,src,set,ipv4,word, ,vlan'.split(','))
  const anyText = fc.oneof(
    fc.string(),
    fc.array(pieces, { maxLength: 20 }).map((parts) => parts.join('')),
  )
  fc.assert(
    fc.property(anyText, (text) => {
      for (const parse of [parseKey, parseActions, parseFlow])
        try {
          parse(text)
        } catch (error) {
          if (!(error instanceof TextError)) throw error
        }
    }),
    { numRuns: 5000 },
  )
  t.pass()
})

test('a field that must be 0 is printed', (t) => {
  const key = createKey()
  const mask = createKey()
  writeField(mask, 'tunnelId', 0xffff_ffff)
  t.is(formatKey(key, mask), 'tunnel(tun_id=0)')
})
