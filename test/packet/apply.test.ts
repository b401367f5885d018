import test from 'ava'
import fc from 'fast-check'
import type { Action } from '../../packet/action.ts'
import { applyActions } from '../../packet/apply.ts'
import { type Arp, arp } from '../../packet/arp.ts'
import { buildFrame } from '../../packet/build.ts'
import { decode, encode, MalformedError, Reader } from '../../packet/bytes.ts'
import { checksum } from '../../packet/checksum.ts'
import { ethernet } from '../../packet/ethernet.ts'
import { extractKey } from '../../packet/extract.ts'
import { createKey } from '../../packet/flow-key.ts'
import { type Icmpv6, icmpv6 } from '../../packet/icmpv6.ts'
import { type Ipv4, ipv4 } from '../../packet/ipv4.ts'
import { type Ipv6, ipv6 } from '../../packet/ipv6.ts'
import { type Tcp, tcp } from '../../packet/tcp.ts'
import { formatKey, parseActions } from '../../packet/text.ts'
import { type Udp, udp } from '../../packet/udp.ts'
import { anyAction, anySoundFrame, mutated } from './arbitrary.ts'
import { captures, fromHex, hexOf } from './captures.ts'

function apply(frame: Uint8Array, text: string): Uint8Array {
  return applyActions(frame, parseActions(`${text},1`))[0]?.frame ?? new Uint8Array(0)
}

function keyText(frame: Uint8Array): string {
  const key = createKey()
  extractKey(frame, 1, key)
  return formatKey(key)
}

test('outputs are in order, each with the packet as it was then', (t) => {
  const frame = fromHex(captures.udpHello)
  const outputs = applyActions(frame, parseActions('1,set(ipv4(ttl=9)),2,pop_vlan,3'))
  t.deepEqual(
    outputs.map(({ port, frame: sent }) => [port, sent[22]]),
    [
      [1, 64],
      [2, 9],
      [3, 9],
    ],
  )
  t.is(hexOf(frame), captures.udpHello)
})

test('no actions drop', (t) => {
  t.deepEqual(applyActions(fromHex(captures.udpHello), []), [])
})

test('a tunnel header goes with the outputs behind it', (t) => {
  const actions = parseActions('1,set(tunnel(tun_id=5,src=192.168.0.1,dst=192.168.0.2)),2')
  const [first, second] = applyActions(fromHex(captures.udpHello), actions)
  t.is(first?.tunnel, undefined)
  t.deepEqual(second?.tunnel, { id: 5, src: 0xc0a8_0001, dst: 0xc0a8_0002 })
})

test('the agent is handed the packet as it is then', (t) => {
  const seen: number[] = []
  const actions = parseActions('userspace(reason=1),set(ipv4(ttl=9)),userspace(reason=2)')
  applyActions(fromHex(captures.udpHello), actions, (packet, reason) => {
    seen.push(reason, packet[22] ?? -1)
  })
  t.deepEqual(seen, [1, 64, 2, 9])
})

test('a tag is pushed and popped', (t) => {
  const tagged = apply(fromHex(captures.udpHello), 'push_vlan(vid=5,pcp=3,cfi=1)')
  t.is(hexOf(tagged), `${captures.udpHello.slice(0, 24)}81006005${captures.udpHello.slice(24)}`)
  t.is(hexOf(apply(tagged, 'pop_vlan')), captures.udpHello)
  t.is(hexOf(apply(tagged, 'push_vlan(vid=6,pcp=0),pop_vlan,pop_vlan')), captures.udpHello)
})

test('behind two tags nothing above Ethernet is set', (t) => {
  const tags = 'push_vlan(vid=5,pcp=0),push_vlan(vid=6,pcp=0)'
  const frame = apply(fromHex(captures.udpHello), `${tags},set(ipv4(ttl=9)),pop_vlan,pop_vlan`)
  t.is(hexOf(frame), captures.udpHello)
})

test('a request becomes its reply', (t) => {
  const frame = apply(
    fromHex(captures.arpRequest),
    'set(eth(src=02:00:00:00:00:0b,dst=02:00:00:00:00:0a)),set(arp(sip=10.9.0.2,tip=10.9.0.1,op=2,sha=02:00:00:00:00:0b,tha=02:00:00:00:00:0a))',
  )
  t.is(hexOf(frame), captures.arpReply)
})

test('a field the packet lacks is not set', (t) => {
  const sets = 'set(ipv4(src=1.2.3.4,dst=1.2.3.4,ttl=1,tos=1)),set(tp(src=1,dst=2))'
  t.is(hexOf(apply(fromHex(captures.arpRequest), sets)), captures.arpRequest)
  const v4 = 'set(ipv4(src=1.2.3.4,dst=1.2.3.4))'
  t.is(hexOf(apply(fromHex(captures.udpHelloV6), v4)), captures.udpHelloV6)
  const v6 = 'set(ipv6(src=fd00::1,dst=fd00::2))'
  t.is(hexOf(apply(fromHex(captures.udpHello), v6)), captures.udpHello)
  const ports = 'set(tp(src=1,dst=2))'
  for (const name of ['echoRequest', 'fragmentLater'] as const)
    t.is(hexOf(apply(fromHex(captures[name]), ports)), captures[name])
  const setArp =
    'set(arp(sip=1.1.1.1,tip=1.1.1.1,op=7,sha=02:00:00:00:00:01,tha=02:00:00:00:00:01))'
  t.is(hexOf(apply(fromHex(captures.udpHello), setArp)), captures.udpHello)
})

for (const [name, size] of [
  ['tcpSyn', 34 + 18],
  ['udpHello', 34 + 8],
] as const)
  test(`the ports of ${name} are set from ${size} bytes on, where its checksum is`, (t) => {
    const frame = fromHex(captures[name])
    const cut = frame.slice(0, size - 1)
    t.is(hexOf(apply(cut, 'set(tp(src=7,dst=8))')), hexOf(cut))
    const whole = apply(frame.slice(0, size), 'set(tp(src=7,dst=8))')
    t.is(hexOf(whole.slice(34, 38)), '00070008')
    const changed = apply(frame, 'set(tp(src=7,dst=8))')
    t.is(hexOf(whole), hexOf(changed.slice(0, size)))
    t.notThrows(() => readFrame(changed))
    // An address is set in any case, and the IPv4 checksum follows it.
    const moved = apply(cut, 'set(ipv4(src=10.9.0.7))')
    t.is(checksum(moved, 14, 34), 0)
    t.is(hexOf(moved.slice(34)), hexOf(cut.slice(34)))
  })

test('a UDP checksum of 0 stays 0', (t) => {
  const frame = apply(fromHex(captures.udpUnchecked), 'set(ipv4(src=1.2.3.4)),set(tp(dst=1))')
  t.is(hexOf(frame.slice(40, 42)), '0000')
  t.is(keyText(frame).includes('udp(src=52624,dst=1)'), true)
})

test('a UDP checksum that becomes 0 is written as 0xffff', (t) => {
  const empty = {
    tos: 0,
    id: 0,
    dontFragment: false,
    moreFragments: false,
    fragmentOffset: 0,
    ttl: 1,
    proto: 17,
    src: 0,
    dst: 0,
    options: new Uint8Array(0),
  }
  const datagram = { srcPort: 0, dstPort: 1, hasChecksum: true, payload: fromHex('ffda') }
  const header = { dst: 0, src: 0, vlan: undefined, etherType: 0x0800 }
  const payload = encode(udp({ src: 0, dst: 0 }), datagram)
  const frame = buildFrame(header, ipv4, { ...empty, payload })
  t.is(hexOf(apply(frame, 'set(tp(dst=0))').slice(34)), '00000000000affffffda')
})

test('a wrong checksum stays wrong', (t) => {
  for (const at of [25, 50]) {
    const frame = fromHex(captures.tcpSyn)
    frame[at] = (frame[at] ?? 0) ^ 1
    const changed = apply(frame, 'set(ipv4(src=1.2.3.4,ttl=1)),set(tp(src=7))')
    t.throws(() => readFrame(changed), { instanceOf: MalformedError })
  }
})

/** A frame as values, so that actions can be done to values instead of bytes. */
interface Model {
  readonly tags: readonly number[]
  readonly dst: number
  readonly src: number
  readonly arp?: Arp
  readonly ip?: Omit<Ipv4, 'payload'>
  readonly ip6?: Omit<Ipv6, 'payload'>
  /** Extension headers, in hex. */
  readonly extensions?: string
  readonly icmp6?: Icmpv6
  readonly udp?: Udp
  readonly tcp?: Tcp
  readonly rest?: string
}

/** Every checksum is checked on the way: the codecs sum all bytes. */
function readFrame(frame: Uint8Array, tags: readonly number[] = []): Model {
  const reader = new Reader(frame)
  const { dst, src, vlan, etherType } = ethernet.decode(reader)
  if (vlan !== undefined) {
    const tci = vlan.id | (vlan.priority << 13) | (vlan.dropEligible ? 0x1000 : 0)
    const inner = Uint8Array.from([...frame.subarray(0, 12), ...frame.subarray(16)])
    return readFrame(inner, [...tags, tci])
  }
  if (etherType === 0x0806) return { tags, dst, src, arp: arp.decode(reader) }
  if (etherType === 0x86dd) return { tags, dst, src, ...readIpv6(reader) }
  if (etherType !== 0x0800) return { tags, dst, src, rest: hexOf(reader.rest()) }
  const { payload, ...ip } = ipv4.decode(reader)
  if (ip.fragmentOffset === 0 && ip.proto === 17)
    return { tags, dst, src, ip, udp: decode(udp(ip), payload) }
  if (ip.fragmentOffset === 0 && ip.proto === 6)
    return { tags, dst, src, ip, tcp: decode(tcp(ip), payload) }
  return { tags, dst, src, ip, rest: hexOf(payload) }
}

/** What comes behind extension headers, by a walk of its own. */
function readIpv6(reader: Reader): Partial<Model> {
  const { payload, ...ip6 } = ipv6.decode(reader)
  let [next, at] = [ip6.nextHeader, 0]
  for (let count = 0; [0, 43, 44, 51, 60].includes(next); count++) {
    const [following = 0, size = 0, third = 0, fourth = 0] = payload.subarray(at)
    const isLater = next === 44 && (third !== 0 || fourth >= 8)
    if (count === 8 || isLater || (next === 43 && fourth > 0)) return { ip6, rest: hexOf(payload) }
    at += next === 44 ? 8 : next === 51 ? 4 * (size + 2) : 8 * (size + 1)
    next = following
  }
  const above = payload.subarray(at)
  const extensions = hexOf(payload.subarray(0, at))
  if (next === 17) return { ip6, extensions, udp: decode(udp(ip6), above) }
  if (next === 6) return { ip6, extensions, tcp: decode(tcp(ip6), above) }
  if (next === 58) return { ip6, extensions, icmp6: decode(icmpv6(ip6), above) }
  return { ip6, rest: hexOf(payload) }
}

function applyToModel(model: Model, action: Action): Model {
  const above = model.tags.length < 2
  const { ip, ip6, udp: datagram, tcp: segment } = model
  switch (action.kind) {
    case 'meter':
    case 'checkPacketLength':
    case 'clone':
    case 'ct':
    case 'recirculate':
      return model
    case 'pushVlan':
      return { ...model, tags: [action.tci & 0xefff, ...model.tags] }
    case 'popVlan':
      return { ...model, tags: model.tags.slice(1) }
    case 'setEth':
      return { ...model, dst: action.dst, src: action.src }
    case 'setArp': {
      const { kind: _, ...message } = action
      return model.arp && above ? { ...model, arp: message } : model
    }
    case 'setIpSrc':
      return ip && above ? { ...model, ip: { ...ip, src: action.address } } : model
    case 'setIpDst':
      return ip && above ? { ...model, ip: { ...ip, dst: action.address } } : model
    case 'setIpv6Src':
      return ip6 && above ? { ...model, ip6: { ...ip6, src: action.address } } : model
    case 'setIpv6Dst':
      return ip6 && above ? { ...model, ip6: { ...ip6, dst: action.address } } : model
    case 'setTtl':
      if (ip6 && above) return { ...model, ip6: { ...ip6, hopLimit: action.ttl } }
      return ip && above ? { ...model, ip: { ...ip, ttl: action.ttl } } : model
    case 'setTos':
      if (ip6 && above) return { ...model, ip6: { ...ip6, trafficClass: action.tos } }
      return ip && above ? { ...model, ip: { ...ip, tos: action.tos } } : model
    case 'setTpSrc':
    case 'setTpDst': {
      const port = action.kind === 'setTpSrc' ? { srcPort: action.port } : { dstPort: action.port }
      if (datagram && above) return { ...model, udp: { ...datagram, ...port } }
      return segment && above ? { ...model, tcp: { ...segment, ...port } } : model
    }
    case 'output':
    case 'userspace':
    case 'setTunnel':
      return model
  }
}

test('actions on bytes are actions on values, every checksum right when summed anew', (t) => {
  fc.assert(
    fc.property(anySoundFrame, fc.array(anyAction, { maxLength: 8 }), (frame, actions) => {
      const expected = actions.reduce(applyToModel, readFrame(frame))
      const output = applyActions(frame, [...actions, { kind: 'output', port: 1 }]).at(-1)
      t.deepEqual(readFrame(output?.frame ?? new Uint8Array(0)), expected)
    }),
    { numRuns: 3000 },
  )
})

test('no bytes make it throw, and the size changes only by tags', (t) => {
  fc.assert(
    fc.property(
      fc.oneof(mutated, fc.uint8Array({ maxLength: 60 })),
      fc.array(anyAction, { maxLength: 8 }),
      (frame, actions) => {
        const before = hexOf(frame)
        const kept = actions.filter(({ kind }) => kind !== 'pushVlan' && kind !== 'popVlan')
        const [output] = applyActions(frame, [...kept, { kind: 'output', port: 1 }]).slice(-1)
        t.is(output?.frame.length, frame.length)
        applyActions(frame, actions)
        t.is(hexOf(frame), before)
      },
    ),
    { numRuns: 3000 },
  )
})

test('what is done to a copy does not touch the packet, nor the tunnel that it takes', (t) => {
  const frame = fromHex(captures.udpHello)
  const outputs = applyActions(
    frame,
    parseActions(
      'clone(set(ipv4(ttl=9)),set(tunnel(tun_id=0x5,src=1.1.1.1,dst=2.2.2.2)),1,clone(set(ipv4(ttl=8)),2),3),4',
    ),
  )
  const ttl9 = hexOf(applyActions(frame, parseActions('set(ipv4(ttl=9)),1'))[0]?.frame ?? frame)
  t.deepEqual(
    outputs.map(({ port, tunnel }) => [port, tunnel?.id]),
    [
      [1, 5],
      [2, 5],
      [3, 5],
      [4, undefined],
    ],
  )
  t.is(hexOf(outputs[0]?.frame ?? frame), ttl9)
  t.is(hexOf(outputs[2]?.frame ?? frame), ttl9)
  t.is(hexOf(outputs[3]?.frame ?? new Uint8Array(0)), captures.udpHello)
})

test('a meter ends the list it stands in, not the one around it', (t) => {
  const outputs = applyActions(
    fromHex(captures.udpHello),
    parseActions('clone(meter(1),1),2,meter(2),3'),
    undefined,
    () => false,
  )
  t.deepEqual(
    outputs.map(({ port }) => port),
    [2],
  )
})

test('what comes after a look-up anew is not of this list', (t) => {
  const outputs = applyActions(fromHex(captures.udpHello), parseActions('ct(zone=1),1,recirc(2),3'))
  t.deepEqual(
    outputs.map(({ port }) => port),
    [1],
  )
})
