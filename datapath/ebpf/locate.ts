/**
 * Finds the headers of a packet whose tags have changed, or that the agent sends: a function of its
 * own, since few packets need it. Arguments: the context and the place to fill, below.
 */
import { type Assembler, r1, r2, r7, r9 } from './assembler.ts'
import {
  context,
  helper,
  placeNone,
  stack,
  wireArp,
  wireIpv4,
  wireIpv6,
  wireVlan,
} from './kernel.ts'
import { emitWalk } from './walk.ts'

/** Bytes in the place, the second argument. */
const kind = stack.place.kind - stack.place.at
const l3 = stack.place.l3 - stack.place.at
const l4 = stack.place.l4 - stack.place.at
const proto = stack.place.proto - stack.place.at

/** Bytes below the function's own r10. */
const buffer = -24

/** Fills `stack.place` anew. */
export function callLocate(a: Assembler): void {
  a.mov(1, { r: 6 }).mov(2, { r: 10 }).op('add', 2, stack.place.at).call('locate')
}

/** r6 the context, r7 the place, r9 the offset of the network header. */
export function emitLocate(a: Assembler): void {
  a.label('locate').mov(6, r1).mov(7, r2)
  a.store(32, 7, kind, placeNone).store(32, 7, l4, 0).mov(9, 14)
  a.load(32, 1, 6, context.vlanPresent).when(1, 'eq', 0, 'locateInline')
  a.load(32, 1, 6, context.vlanProto).when(1, 'ne', wireVlan, 'located')
  load(a, 12, 2)
  a.jump('locateType')
  a.label('locateInline')
  load(a, 12, 2)
  a.when(1, 'ne', wireVlan, 'locateType').mov(9, 18)
  load(a, 16, 2)

  a.label('locateType').store(32, 7, l3, r9)
  a.when(1, 'eq', wireIpv4, 'locateIpv4').when(1, 'eq', wireIpv6, 'locateIpv6')
  a.when(1, 'ne', wireArp, 'located')
  load(a, r9, 20)
  a.when(1, 'ne', 0x0100, 'located').load(16, 1, 10, buffer + 2)
  a.when(1, 'ne', wireIpv4, 'located').load(16, 1, 10, buffer + 4)
  a.when(1, 'ne', 0x0406, 'located').load(32, 1, 6, context.len)
  a.mov(2, r9).op('add', 2, 28).when(2, 'gt', r1, 'located')
  a.store(32, 7, kind, 0x0806).jump('located')

  a.label('locateIpv4')
  load(a, r9, 20)
  a.op('and', 1, 15).op('shl', 1, 2).when(1, 'lt', 20, 'located')
  a.store(32, 7, kind, 0x0800)
    .load(8, 2, 10, buffer + 9)
    .store(32, 7, proto, r2)
  a.load(16, 3, 10, buffer + 6)
    .swap(3, 16)
    .op('and', 3, 0x1fff)
    .when(3, 'ne', 0, 'located')
  a.op('add', 1, r9).store(32, 7, l4, r1)
  a.label('located').mov(0, 0).exit()

  a.label('locateIpv6').load(32, 1, 6, context.len).mov(3, r9).op('add', 3, 40)
  a.when(3, 'gt', r1, 'located')
  load(a, r9, 20)
  a.store(32, 7, kind, 0x86dd)
  a.mov(1, { r: 6 }).mov(2, r7).mov(3, r9).op('add', 3, 40)
  a.load(8, 4, 10, buffer + 6)
    .call('walk')
    .jump('located')
  emitWalk(a)
}

/** Loads bytes of the packet to the buffer, and the first two to r1; no such bytes: done. */
function load(a: Assembler, offset: number | typeof r9, size: number): void {
  a.mov(1, { r: 6 }).mov(2, offset).mov(3, { r: 10 }).op('add', 3, buffer).mov(4, size)
  a.helper(helper.loadBytes).when(0, 'ne', 0, 'located').load(16, 1, 10, buffer)
}
