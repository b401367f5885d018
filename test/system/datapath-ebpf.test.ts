import { randomInt } from 'node:crypto'
import test from 'ava'
import fc from 'fast-check'
import { DatapathError, type FlowId } from '../../datapath/datapath.ts'
import { findAttached } from '../../datapath/ebpf/attach.ts'
import { type EbpfDatapath, openEbpfDatapath } from '../../datapath/ebpf/ebpf-datapath.ts'
import { flowsMax, table, upcallBurst } from '../../datapath/ebpf/layout.ts'
import { adoptMaps, closeMaps } from '../../datapath/ebpf/maps.ts'
import { NetlinkSocket } from '../../datapath/netlink.ts'
import { routeProtocol } from '../../datapath/rtnetlink.ts'
import { arena, write } from '../../datapath/syscall.ts'
import type { Action } from '../../packet/action.ts'
import { applyActions } from '../../packet/apply.ts'
import { type Addresses, finishSum, sumPseudo } from '../../packet/checksum.ts'
import { createKey } from '../../packet/flow-key.ts'
import { formatActions, parseActions } from '../../packet/text.ts'
import { exact, keyOf, type World } from '../datapath/net.ts'
import { testDatapath } from '../datapath/suite.ts'
import { anyAction, anySoundFrame, mutated } from '../packet/arbitrary.ts'
import { captures, fromHex, hexOf } from '../packet/captures.ts'
import { enterFreshNetwork, type TapFrame, TapPort } from './tap-port.ts'

const hello = fromHex(captures.udpHello)
const seed = Number(process.env.SEED ?? randomInt(2 ** 31))
const runs = Number(process.env.RUNS ?? 2000)
const tunOffloads = 0x0f // linux/if_tun.h: TUN_F_CSUM, TUN_F_TSO4, TUN_F_TSO6, TUN_F_TSO_ECN

enterFreshNetwork()
// The first has the name of an interface of ours: where the kernel has tcx, that runs its program
// from the first wait on.
const own = 'mn0000000000a'
const names = [own, 'mdb', 'mdc']
const tapA = new TapPort(own)
const tapB = new TapPort('mdb')
const taps = [tapA, tapB, new TapPort('mdc')]
let current: EbpfDatapath = openEbpfDatapath({ promoteAfterMs: 0 })

function worldOf(datapath: EbpfDatapath): World {
  return {
    datapath,
    interfaces: names,
    send(name, frame) {
      current.wait(0)
      taps.find((tap) => tap.name === name)?.send(frame)
    },
    take: () => taps.flatMap((tap) => tap.take().map(({ frame }) => ({ name: tap.name, frame }))),
    reopen() {
      current = openEbpfDatapath({ promoteAfterMs: 0 })
      return worldOf(current)
    },
  }
}

/** The one datapath, without ports, flows and packets under way. */
function restore(): World {
  for (const { id } of [...current.flows()]) current.remove(id)
  for (const { number } of current.ports()) current.removePort(number)
  while (current.receive(1000, () => {}) > 0);
  for (const tap of taps) tap.take()
  return worldOf(current)
}

testDatapath(test, restore)

/** A fresh start with two ports: what `tapA` receives, `tapB` sends, changed by `actions`. */
function connect(): { readonly a: number; readonly b: number } {
  restore()
  return { a: current.addPort(own).number, b: current.addPort('mdb').number }
}

function everything(inPort: number): { key: Uint32Array; mask: Uint32Array } {
  const match = { key: createKey(), mask: createKey() }
  match.key[0] = inPort
  match.mask[0] = 0xffff_ffff
  return match
}

/** A tagged frame with less than two bytes behind the tag: the kernel drops it before any program. */
function isStub(frame: Uint8Array): boolean {
  const type = (frame[12] ?? 0) * 256 + (frame[13] ?? 0)
  return frame.length < 14 || ((type === 0x8100 || type === 0x88a8) && frame.length < 20)
}

/** A frame, and how much of it the kernel keeps in one piece: in a large one only its start. */
const anyFrame = fc
  .record({
    bytes: fc
      .oneof(anySoundFrame, mutated, fc.uint8Array({ minLength: 14, maxLength: 90 }))
      .filter((frame) => !isStub(frame)),
    contiguous: fc.option(fc.integer({ min: 14, max: 100 }), { nil: undefined, freq: 3 }),
  })
  .map(({ bytes, contiguous }) => {
    const header = new Uint8Array(10)
    if (contiguous === undefined) return { frame: bytes, header }
    const frame = new Uint8Array(5000)
    frame.set(bytes)
    header[2] = contiguous
    return { frame, header }
  })

test.serial(`the program reads the same key as extractKey (SEED=${seed})`, (t) => {
  const { a, b } = connect()
  t.timeout(600_000)
  fc.assert(
    fc.property(anyFrame, ({ frame, header }) => {
      const id = current.install(exact(frame, a), [{ kind: 'output', port: b }])
      tapA.send(frame, header)
      const got = tapB.take().map((sent) => hexOf(sent.frame))
      current.receive(10, () => {})
      current.remove(id)
      if (got.join() !== hexOf(frame)) t.log(`${hexOf(frame)}: key ${keyOf(frame, a)}`)
      return got.join() === hexOf(frame)
    }),
    { seed, numRuns: runs },
  )
  t.pass()
})

const rewrites = anyAction.filter(
  ({ kind }) => !['output', 'userspace', 'setTunnel'].includes(kind),
)

test.serial(`the program changes packets as applyActions does (SEED=${seed})`, (t) => {
  const { a, b } = connect()
  t.timeout(600_000)
  fc.assert(
    fc.property(anyFrame, fc.array(rewrites, { maxLength: 5 }), ({ frame, header }, changes) => {
      const actions: Action[] = [...changes, { kind: 'output', port: b }]
      const expected = applyActions(frame, actions)
        .map((out) => hexOf(out.frame))
        .join()
      current.install(everything(a), actions)
      tapA.send(frame, header)
      const flow = tapB
        .take()
        .map((sent) => hexOf(sent.frame))
        .join()
      current.execute(frame, undefined, a, actions)
      const executed = tapB
        .take()
        .map((sent) => hexOf(sent.frame))
        .join()
      if (flow !== expected || executed !== expected)
        t.log([hexOf(frame), formatActions(actions), expected, flow, executed].join('\n'))
      return flow === expected && executed === expected
    }),
    { seed, numRuns: runs },
  )
  t.pass()
})

/** A TCP or UDP frame whose checksum the sender has left to be completed, and its virtio header. */
function unfinished(frame: Uint8Array, gsoType = 0, gsoSize = 0): TapFrame {
  const isIpv6 = frame[12] === 0x86
  const l4 = isIpv6 ? 54 : 34
  const isTcp = frame[isIpv6 ? 20 : 23] === 6
  const sumOffset = isTcp ? 16 : 6
  const changed = Uint8Array.from(frame)
  const view = new DataView(changed.buffer)
  const pseudo = sumPseudo(addressesOf(view, isIpv6), isTcp ? 6 : 17, frame.length - l4)
  // What stands in the field is the pseudo-header's sum, not inverted.
  view.setUint16(l4 + sumOffset, ~finishSum(pseudo) & 0xffff)
  const header = new Uint8Array(10)
  const fields = new DataView(header.buffer)
  header.set([1, gsoType]) // VIRTIO_NET_HDR_F_NEEDS_CSUM
  fields.setUint16(2, l4 + (isTcp ? 20 : 8), true)
  fields.setUint16(4, gsoSize, true)
  fields.setUint16(6, l4, true)
  fields.setUint16(8, sumOffset, true)
  return { frame: changed, header }
}

function addressesOf(view: DataView, isIpv6: boolean): Addresses {
  if (!isIpv6) return { src: view.getUint32(26), dst: view.getUint32(30) }
  const address = (at: number) => (view.getBigUint64(at) << 64n) | view.getBigUint64(at + 8)
  return { src: address(22), dst: address(38) }
}

const nat = 'set(ipv4(src=1.2.3.4,dst=9.8.7.6,ttl=3)),set(tp(src=7,dst=8))'
const nat6 = 'set(ipv6(src=fd00::1,dst=fd00:9:8::7,hlimit=3,tclass=5)),set(tp(src=7,dst=8))'

for (const [name, change] of [
  ['udpHello', nat],
  ['tcpSyn', nat],
  ['udpHelloV6', nat6],
] as const)
  test.serial(`a checksum left to be completed comes out right: ${name}`, (t) => {
    const { a, b } = connect()
    const whole = fromHex(captures[name])
    const actions = parseActions(`${change},push_vlan(vid=5,pcp=0),${b}`)
    const expected = applyActions(whole, actions).map((out) => hexOf(out.frame))
    const { frame, header } = unfinished(whole)
    current.install(everything(a), actions)
    tapA.send(frame, header)
    t.deepEqual(
      tapB.take().map((sent) => hexOf(sent.frame)),
      expected,
      'through a flow',
    )
    for (const { id } of [...current.flows()]) current.remove(id)

    tapA.send(frame, header)
    current.receive(10, ({ packet, offload }) => {
      t.is(hexOf(packet), hexOf(frame))
      t.not(offload, undefined)
      current.execute(packet, offload, a, actions)
    })
    t.deepEqual(
      tapB.take().map((sent) => hexOf(sent.frame)),
      expected,
      'through the agent',
    )

    const tagged = applyActions(frame, parseActions('push_vlan(vid=9,pcp=0),1'))[0]?.frame ?? frame
    const moved = header.slice()
    const start = new DataView(header.buffer).getUint16(6, true)
    new DataView(moved.buffer).setUint16(6, start + 4, true)
    tapA.send(tagged, moved)
    current.receive(10, ({ packet, offload }) => {
      t.is(hexOf(packet), hexOf(tagged))
      const untag = parseActions(`pop_vlan,${formatActions(actions)}`)
      current.execute(packet, offload, a, untag)
    })
    t.deepEqual(
      tapB.take().map((sent) => hexOf(sent.frame)),
      expected,
      'with a tag',
    )
  })

test.serial('segments left to be cut stay one packet all the way', (t) => {
  const { a } = connect()
  const big = new TapPort('mdbig', tunOffloads)
  const port = current.addPort('mdbig').number
  const syn = fromHex(captures.tcpSyn)
  const data = new Uint8Array(34 + 20 + 20_000)
  data.set(syn.subarray(0, 54))
  data[46] = 0x50 // data offset: no options
  new DataView(data.buffer).setUint16(16, data.length - 14)
  const { frame, header } = unfinished(data, 1, 1448) // VIRTIO_NET_HDR_GSO_TCPV4
  const actions = parseActions(`set(ipv4(ttl=3)),${port}`)
  const check = ([got, ...others]: readonly TapFrame[]): void => {
    t.deepEqual(others, [])
    t.is(got?.frame.length, data.length)
    t.is(got?.frame[22], 3)
    t.deepEqual([...(got?.header.subarray(0, 2) ?? [])], [1, 1])
    t.is(new DataView((got?.header ?? new Uint8Array(10)).buffer).getUint16(4, true), 1448)
  }
  tapA.send(frame, header)
  t.is(
    current.receive(10, ({ packet, offload }) => current.execute(packet, offload, a, actions)),
    1,
  )
  check(big.take())
  current.install(everything(a), actions)
  tapA.send(frame, header)
  check(big.take())
  big.close()
})

test.serial('one noisy port is held back, and the others are not', (t) => {
  const { a, b } = connect()
  const before = current.counters()
  const count = upcallBurst * 2
  const start = performance.now()
  for (let sent = 0; sent < count; sent++) tapA.send(hello)
  const most = upcallBurst + 1 + (performance.now() - start) * 20
  tapB.send(hello)
  const seen = new Map<number, number>()
  current.receive(count * 2, ({ key }) => {
    seen.set(key[0] ?? 0, (seen.get(key[0] ?? 0) ?? 0) + 1)
  })
  const { lost, misses, upcalls } = current.counters()
  t.is(seen.get(b), 1)
  t.true((seen.get(a) ?? 0) >= upcallBurst && (seen.get(a) ?? 0) <= most, `${seen.get(a)}`)
  t.is(misses - before.misses, count + 1)
  t.is(lost - before.lost + upcalls - before.upcalls, count + 1)
})

test.serial('waiting ends when the wake descriptor is written to, and not before', (t) => {
  connect()
  let start = performance.now()
  current.wait(30)
  t.true(performance.now() - start >= 25)
  const one = arena(4096)
  one.view.setBigUint64(0, 1n, true)
  t.is(write(current.wakeFd, one.address, 8), 8)
  start = performance.now()
  current.wait(10_000)
  t.true(performance.now() - start < 5000)
  start = performance.now()
  current.wait(30)
  t.true(performance.now() - start >= 25, 'woken once, not for ever')
})

test.serial('a full flow table refuses, and has room again', (t) => {
  const { a, b } = connect()
  t.timeout(120_000)
  const install = (index: number): FlowId => {
    const match = exact(hello, a)
    match.key[10] = index
    return current.install(match, [{ kind: 'output', port: b }])
  }
  const ids: FlowId[] = []
  for (let index = 0; index < flowsMax; index++) ids.push(install(index))
  const error = t.throws(() => install(flowsMax), { instanceOf: DatapathError })
  t.is(error?.code, 'ENOSPC')
  t.is(current.counters().flows, flowsMax)
  for (const id of ids.slice(0, 100)) current.remove(id)
  t.notThrows(() => install(flowsMax))
})

test.serial('a second agent in the same network is refused in plain words', (t) => {
  const error = t.throws(() => openEbpfDatapath(), { instanceOf: DatapathError })
  t.is(error?.code, 'EBUSY')
  t.regex(error?.message ?? '', /another agent/)
})

test.serial('datapaths of two names share nothing', (t) => {
  const { a } = connect()
  const other = openEbpfDatapath({ name: 'mdother' })
  t.deepEqual(other.ports(), [])
  t.deepEqual([...other.flows()], [])
  tapA.send(hello)
  t.is(
    other.receive(10, () => {}),
    0,
  )
  t.is(
    current.receive(10, ({ key }) => t.is(key[0], a)),
    1,
  )
  other.close()
})

test.serial('an interface that goes takes its port with it', (t) => {
  connect()
  const brief = new TapPort('mdbrief')
  const before = current.addPort('mdbrief')
  brief.close()
  t.deepEqual(
    current
      .ports()
      .map(({ name }) => name)
      .toSorted(),
    ['mdb', own],
  )
  const again = new TapPort('mdbrief')
  t.not(current.addPort('mdbrief').number, before.number)
  again.close()
})

/** Writes another format into the maps that the program of a port uses. */
function spoilFormat(port: number): void {
  const links = new NetlinkSocket(routeProtocol)
  const attached = findAttached(links, port, 'midonet')
  links.close()
  const maps = adoptMaps(attached?.programId ?? 0)
  maps?.table.view.setUint32(table.format, 0, true)
  if (maps !== undefined) closeMaps(maps)
}

test.serial('what a program of another make has left is not misread', (t) => {
  const { a, b } = connect()
  current.install(everything(a), [{ kind: 'output', port: b }])
  current.close()
  current = openEbpfDatapath({ promoteAfterMs: 0 })
  t.is([...current.flows()].length, 1)
  spoilFormat(a)
  current.close()
  current = openEbpfDatapath({ promoteAfterMs: 0 })
  t.deepEqual([...current.flows()], [])
  t.deepEqual(
    current
      .ports()
      .map(({ number }) => number)
      .toSorted(),
    [a, b].toSorted(),
  )
  tapA.send(hello)
  t.is(
    current.receive(10, () => {}),
    1,
    'its ports hand packets to the new agent',
  )
})
