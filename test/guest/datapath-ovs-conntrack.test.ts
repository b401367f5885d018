/** Runs in a guest (test/vm): the kernel's connection tracking, meters over a restart, features. */
import { release } from 'node:os'
import test from 'ava'
import type { FlowMatch, Upcall } from '../../datapath/datapath.ts'
import { type OvsDatapath, openOvsDatapath } from '../../datapath/ovs/ovs-datapath.ts'
import { readField } from '../../packet/flow-key.ts'
import { formatActions, parseActions, parseKey } from '../../packet/text.ts'
import { frame } from '../simulator/frame.ts'
import { enterFreshNetwork, TapPort } from '../system/tap-port.ts'

enterFreshNetwork()
const [tapA, tapB] = [new TapPort('mda'), new TapPort('mdb')]
let datapath: OvsDatapath = openOvsDatapath()
const a = datapath.addPort('mda').number
const b = datapath.addPort('mdb').number
const request = frame(
  'eth(src=02:00:00:00:00:0a,dst=02:00:00:00:00:0b),eth_type(0x0800),ipv4(src=10.0.0.1,dst=10.0.0.2,proto=17,tos=0,ttl=64,frag=no),udp(src=1000,dst=53)',
)
const answer = frame(
  'eth(src=02:00:00:00:00:0b,dst=02:00:00:00:00:0a),eth_type(0x0800),ipv4(src=10.0.0.2,dst=10.0.0.1,proto=17,tos=0,ttl=64,frag=no),udp(src=53,dst=1000)',
)
// OVS_CS_F_…
const [isNew, isEstablished, isReply, isTracked] = [0x01, 0x02, 0x08, 0x20]

function flow(text: string): FlowMatch {
  return parseKey(text.replaceAll('$a', `${a}`).replaceAll('$b', `${b}`))
}

function install(match: string, actions: string): void {
  datapath.install(
    flow(match),
    parseActions(actions.replaceAll('$a', `${a}`).replaceAll('$b', `${b}`)),
  )
}

function upcalls(): {
  readonly recirculation: number
  readonly state: number
  complete: boolean
}[] {
  const seen: { recirculation: number; state: number; complete: boolean }[] = []
  datapath.receive(100, ({ key, keyComplete }: Upcall) => {
    const [recirculation, state] = [readField(key, 'recirculation'), readField(key, 'ctState')]
    seen.push({ recirculation, state, complete: keyComplete })
  })
  return seen
}

function fresh(): void {
  for (const { id } of [...datapath.flows()]) datapath.remove(id)
  upcalls()
  for (const tap of [tapA, tapB]) tap.take()
}

test.serial('connections are remembered in a zone, and answers known by it', (t) => {
  fresh()
  const ip = 'eth_type(0x0800)'
  install(`in_port($a),${ip}`, 'ct(commit,zone=5,mark=0x7/0xff),recirc(1)')
  install(`in_port($b),${ip}`, 'ct(zone=5),recirc(2)')
  install(`recirc_id(1),in_port($a),ct_state(0x20/0x20),${ip}`, '$b')
  install(`recirc_id(2),in_port($b),ct_state(0x2a/0x3b),${ip}`, '$a')
  tapB.send(answer)
  t.deepEqual(tapA.take(), [], 'nobody asked')
  t.deepEqual(upcalls(), [{ recirculation: 2, state: isTracked | isNew, complete: true }])
  tapA.send(request)
  t.is(tapB.take().length, 1)
  tapB.send(answer)
  t.is(tapA.take().length, 1)
  t.deepEqual(upcalls(), [])
  for (const { id } of [...datapath.flows()].filter(({ key }) => key[3] === 2 << 16))
    datapath.remove(id)
  tapB.send(answer)
  const [again] = upcalls()
  t.is(again?.state, isTracked | isEstablished | isReply)
  t.false(again?.complete ?? true, 'of the mark our key knows nothing')
})

test.serial('such flows are read back as they were asked for, also by the next agent', (t) => {
  fresh()
  const actions = 'ct(commit,zone=5,mark=0x7/0xff),clone(pop_vlan,2),recirc(0x9)'
  install('in_port($a),eth_type(0x0800)', actions)
  install('recirc_id(0x9),in_port($a),ct_state(0x22/0x23),eth_type(0x0800)', '$b')
  const shown = (): string[] =>
    [...datapath.flows()].map((found) => formatActions(found.actions ?? [])).toSorted()
  const before = shown()
  t.true(before.includes(actions), before.join('\n'))
  datapath.close()
  datapath = openOvsDatapath()
  t.deepEqual(shown(), before)
  const again = [...datapath.flows()].find(({ key }) => readField(key, 'recirculation') === 9)
  t.is(readField(again?.mask ?? new Uint32Array(20), 'ctState'), 0x23)
})

test.serial('a meter outlives the agent, and counts', (t) => {
  fresh()
  datapath.setMeter(a, { kbps: 1000, burstKb: 1000 })
  datapath.setMeter(4711, { kbps: 500, burstKb: 700 })
  install('in_port($a)', 'meter(4711),$b')
  for (let count = 0; count < 10; count++) tapA.send(request)
  t.is(tapB.take().length, 10)
  datapath.close()
  datapath = openOvsDatapath()
  t.is([...datapath.flows()].length, 1)
  t.is([...datapath.flows()].length, 1)
  t.deepEqual([...datapath.meters()].toSorted(), [a, 4711].toSorted())
  t.deepEqual(datapath.meter(4711), { rate: undefined, seen: 10, dropped: 0 })
  for (const id of datapath.meters()) datapath.removeMeter(id)
})

test.serial('a meter holds back packets before they are handed over', (t) => {
  fresh()
  const large = Uint8Array.from({ length: 1500 }, (_, at) => request[at] ?? 0)
  const startMs = performance.now()
  datapath.setMeter(9, { kbps: 8, burstKb: 600 })
  install('in_port($a)', 'meter(9),userspace(reason=1)')
  for (let count = 0; count < 300; count++) tapA.send(large)
  const got = upcalls().length + upcalls().length + upcalls().length
  // 50 from the bucket, and what came into it: 8 bits in a millisecond.
  const most = 51 + Math.ceil((performance.now() - startMs) / 1500)
  t.true(got >= 40 && got <= most, `${got} of 300, ${most} at most`)
  t.is(datapath.meter(9)?.dropped, 300 - got)
  datapath.removeMeter(9)
})

test.serial('what this kernel can do was found out by trying', (t) => {
  fresh()
  t.deepEqual(datapath.capabilities, {
    meter: true,
    clone: true,
    checkPacketLength: true,
    ct: true,
  })
  t.is(datapath.features.includes('upcall statistics'), !release().startsWith('6.1.'))
  t.true(datapath.features.includes('masks cache of 256'))
  t.deepEqual(
    [...datapath.flows()].map(({ key }) => readField(key, 'recirculation')),
    [],
    'no flow is left of it',
  )
})
