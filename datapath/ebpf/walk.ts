/**
 * Follows the extension headers of an IPv6 packet, by the rules of packet/extension.ts: a function
 * of its own. Arguments: the context, the place to fill, the offset of the first header and its
 * number. The result is the word of the key with protocol and fragment; `place.l4` is 0 where there
 * is nothing to read.
 */
import {
  extensionsMax,
  protoAuthentication,
  protoDestination,
  protoFragment,
  protoHopByHop,
  protoNone,
  protoRouting,
  protoUnreadable,
} from '../../packet/extension.ts'
import { fragFirst, fragLater } from '../../packet/flow-key.ts'
import { type Assembler, r1, r2, r3, r4, r8, r9 } from './assembler.ts'
import { helper, stack } from './kernel.ts'

/** The headers that are followed. */
export const extensions = [
  protoHopByHop,
  protoRouting,
  protoFragment,
  protoAuthentication,
  protoDestination,
] as const

/** Bytes in the place, the second argument. */
const l4 = stack.place.l4 - stack.place.at
const proto = stack.place.proto - stack.place.at

/** Bytes below the function's own r10. */
const placePointer = -8
const buffer = -16

/** From the main program: r3 is the offset, r4 the number. */
export function callWalk(a: Assembler): void {
  a.mov(1, { r: 6 }).mov(2, { r: 10 }).op('add', 2, stack.place.at).call('walk')
}

/** r6 the context, r7 the headers so far, r8 the number and fragment, r9 the offset. */
export function emitWalk(a: Assembler): void {
  a.label('walk').store(64, 10, placePointer, r2)
  a.mov(6, r1).mov(7, 0).mov(8, r4).mov(9, r3)

  a.label('walkNext').mov(1, r8).op('and', 1, 0xff)
  for (const header of extensions) a.when(1, 'eq', header, 'walkHeader')
  a.jump('walked')

  a.label('walkHeader').when(7, 'ge', extensionsMax, 'walkUnreadable').op('add', 7, 1)
  a.mov(1, { r: 6 }).mov(2, r9).mov(3, { r: 10 }).op('add', 3, buffer).mov(4, 4)
  a.helper(helper.loadBytes).when(0, 'ne', 0, 'walkShort')
  // The header at hand to r1, the number of the next into r8, its size field to r2.
  a.mov(1, r8).op('and', 1, 0xff).op('and', 8, 0x7f00_0000)
  a.load(8, 2, 10, buffer)
    .op('or', 8, r2)
    .load(8, 2, 10, buffer + 1)
  a.when(1, 'eq', protoFragment, 'walkFragment').when(1, 'eq', protoAuthentication, 'walkAuth')
  a.when(1, 'ne', protoRouting, 'walkSize')
  a.load(8, 3, 10, buffer + 3).when(3, 'ne', 0, 'walkUnreadable')
  a.label('walkSize').op('add', 2, 1).op('shl', 2, 3).op('add', 9, r2).jump('walkNext')
  a.label('walkAuth').op('add', 2, 2).op('shl', 2, 2).op('add', 9, r2).jump('walkNext')

  a.label('walkFragment')
    .load(16, 3, 10, buffer + 2)
    .swap(3, 16)
    .op('and', 3, 0xfff8)
  a.when(3, 'ne', 0, 'walkLater').op('and', 8, 0xff)
  a.op('or', 8, fragFirst << 24)
    .op('add', 9, 8)
    .jump('walkNext')

  a.label('walkLater')
    .mov(8, protoFragment | (fragLater << 24))
    .mov(9, 0)
    .jump('walked')
  a.label('walkUnreadable').op('and', 8, 0x7f00_0000).op('or', 8, protoUnreadable)
  a.mov(9, 0).jump('walked')
  a.label('walkShort').op('and', 8, 0x7f00_0000).op('or', 8, protoNone).mov(9, 0)

  a.label('walked').load(64, 1, 10, placePointer).store(32, 1, l4, r9)
  a.mov(2, r8).op('and', 2, 0xff).store(32, 1, proto, r2).mov(0, r8).exit()
}
