import test from 'ava'
import fc from 'fast-check'
import { DatapathError } from '../../datapath/datapath.ts'
import { decodePeer, decodeSlots, SlotList, slotsMax } from '../../datapath/ebpf/encode.ts'
import { slot } from '../../datapath/ebpf/layout.ts'
import type { Action } from '../../packet/action.ts'
import { formatActions, parseActions } from '../../packet/text.ts'
import { anyAction } from '../packet/arbitrary.ts'

function encode(actions: readonly Action[], peer?: number): Uint8Array {
  const list = new SlotList()
  list.encode(actions, () => peer)
  return list.bytes.slice(0, list.count * 32)
}

/** The slots' kinds in order. */
function kinds(text: string, peer?: number): number[] {
  const bytes = encode(parseActions(text), peer)
  return Array.from({ length: bytes.length / 32 }, (_, index) => bytes[index * 32] ?? -1)
}

test('what is encoded decodes to the same, up to the last output', (t) => {
  fc.assert(
    fc.property(fc.array(anyAction, { maxLength: 15 }), fc.nat(0xffff), (before, port) => {
      const actions: Action[] = before
        .filter(({ kind }) => kind !== 'userspace')
        .map((action) =>
          action.kind === 'pushVlan' ? { kind: 'pushVlan', tci: action.tci & 0xefff } : action,
        )
      const sent: Action[] = [...actions, { kind: 'output', port }]
      t.deepEqual(decodeSlots(encode([...sent, { kind: 'popVlan' }])), sent)
    }),
  )
})

test('the last output takes the packet itself, straight to its peer where that can be', (t) => {
  t.deepEqual(kinds('set(ipv4(ttl=1)),5'), [slot.setTtl, slot.last])
  t.deepEqual(kinds('5', 0x02_0000_0000_0a), [slot.lastPeer])
  t.deepEqual(decodePeer(encode(parseActions('5'), 0x02_0000_0000_0a)), [5, 0x02_0000_0000_0a])
  t.is(decodePeer(encode(parseActions('5'))), undefined)
  t.deepEqual(kinds('4,5', 0x02_0000_0000_0a), [slot.outputs, slot.lastPeer])
  t.deepEqual(kinds('drop'), [])
  t.deepEqual(kinds('set(ipv4(ttl=1))'), [])
})

test('an output that is the same object as the last one is not taken for it', (t) => {
  const output = { kind: 'output', port: 5 } as const
  const tunnel = (id: number): Action => ({ kind: 'setTunnel', id, dst: 1, src: 2 })
  const bytes = encode([tunnel(1), output, tunnel(2), output])
  t.is(bytes[32], slot.outputs)
  t.is(bytes[96], slot.last)
})

test('seven copies share a slot', (t) => {
  t.deepEqual(kinds('1,2,3,4,5,6,7,8'), [slot.outputs, slot.last])
  t.deepEqual(kinds('1,2,3,4,5,6,7,8,9'), [slot.outputs, slot.outputs, slot.last])
  t.deepEqual(kinds('1,set(ipv4(ttl=1)),2,3'), [slot.outputs, slot.setTtl, slot.outputs, slot.last])
})

test('the packet for the agent comes last', (t) => {
  const ordered = (text: string) => formatActions(decodeSlots(encode(parseActions(text))) ?? [])
  t.is(ordered('userspace(reason=3),1,2'), '1,2,userspace(reason=3)')
  t.is(ordered('1,userspace(reason=3)'), '1,userspace(reason=3)')
  const error = t.throws(() => kinds('userspace(reason=3),set(ipv4(ttl=1)),1'), {
    instanceOf: DatapathError,
  })
  t.is(error?.code, 'E2BIG')
})

test('a list that is too long is refused', (t) => {
  const pops = (count: number): Action[] =>
    Array.from({ length: count }, () => ({ kind: 'popVlan' }))
  t.notThrows(() => encode([...pops(slotsMax - 1), { kind: 'output', port: 1 }]))
  const error = t.throws(() => encode([...pops(slotsMax), { kind: 'output', port: 1 }]), {
    instanceOf: DatapathError,
  })
  t.is(error?.code, 'E2BIG')
})

test('slots of an unknown kind are not guessed at', (t) => {
  const bytes = encode(parseActions('pop_vlan,1'))
  bytes[0] = 99
  t.is(decodeSlots(bytes), undefined)
})
