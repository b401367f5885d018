/**
 * Reads a packet's flow key, by the rules that stand above `extractKey` in packet/extract.ts. The
 * frame is read in place. When its start is not contiguous it is made so, once, and read again.
 */
import { type Assembler, r0, r1, r2, r3, r4, r7, r8, r9 } from './assembler.ts'
import { context, helper, placeNone, stack, wireVlan } from './kernel.ts'
import { callWalk, extensions } from './walk.ts'

/** As far into a frame as any field stands: Ethernet, a tag, IPv4 with all options, TCP to its flags. */
const headersMax = 14 + 4 + 60 + 14

const word = (index: number): number => stack.key + 4 * index

/** Ends at the label `extracted`; jumps to `drop` when there is no Ethernet header. */
export function emitExtract(a: Assembler): void {
  // A zero that the verifier does not know for one: else it would take each set of fields that a
  // packet can have for a case of its own, and go through all masks again for each.
  a.load(32, 1, 6, context.len).op('xor', 1, r1)
  for (let at = 0; at < 80; at += 8) a.store(64, 10, stack.key + at, r1)
  a.store(32, 10, stack.place.l4, r1).store(32, 10, stack.place.proto, r1)
  a.store(32, 10, stack.place.kind, placeNone).store(32, 10, stack.pulled, 0)
  a.load(32, 1, 6, context.ifindex).store(32, 10, word(0), r1)

  a.label('read').load(32, 7, 6, context.data).load(32, 8, 6, context.dataEnd)
  emitEthernet(a)
  a.when(2, 'eq', 0x0800, 'ipv4').when(2, 'eq', 0x86dd, 'ipv6').when(2, 'eq', 0x0806, 'arp')
  a.jump('extracted')
  emitIpv4(a)
  emitIpv6(a)
  emitTransport(a)
  emitArp(a)

  a.label('short').load(32, 1, 10, stack.pulled).when(1, 'ne', 0, 'truncated')
  a.store(32, 10, stack.pulled, 1).mov(1, { r: 6 }).load(32, 2, 6, context.len)
  a.when(2, 'le', headersMax, 'pull').mov(2, headersMax)
  a.label('pull').helper(helper.pullData).when(0, 'eq', 0, 'read').jump('failed')
  a.label('truncated').load(32, 1, 6, context.len).when(1, 'lt', 14, 'drop')
  a.label('extracted')
}

/** Goes on with r9 at the header behind and r2 its type; a frame with no more to read is done. */
function emitEthernet(a: Assembler): void {
  need(a, 7, 14)
  loadSwapped(a, 16, 1, 7, 0).store(32, 10, word(3), r1)
  loadSwapped(a, 32, 1, 7, 2).store(32, 10, word(4), r1)
  loadSwapped(a, 16, 1, 7, 6).store(32, 10, word(5), r1)
  loadSwapped(a, 32, 1, 7, 8).store(32, 10, word(6), r1)
  loadSwapped(a, 16, 2, 7, 12)
  a.mov(9, r7).op('add', 9, 14).store(32, 10, stack.place.l3, 14)

  // The kernel keeps the outermost tag beside the frame, mostly.
  a.load(32, 1, 6, context.vlanPresent).when(1, 'eq', 0, 'inline')
  a.load(32, 1, 6, context.vlanProto).when(1, 'eq', wireVlan, 'tag')
  a.store(32, 10, word(8), 0x88a8).jump('extracted')
  a.label('tag').load(32, 1, 6, context.vlanTci).op('or', 1, 0x1000).op('and', 1, 0xffff)
  a.store(32, 10, word(7), r1).jump('typed')

  a.label('inline').when(2, 'ne', 0x8100, 'typed').store(32, 10, word(8), r2)
  need(a, 9, 4)
  loadSwapped(a, 16, 1, 9, 0).op('or', 1, 0x1000).store(32, 10, word(7), r1)
  loadSwapped(a, 16, 2, 9, 2)
  a.op('add', 9, 4).store(32, 10, stack.place.l3, 18).store(32, 10, word(8), 0)

  a.label('typed').when(2, 'lt', 0x600, 'extracted').store(32, 10, word(8), r2)
}

/** To `transport` with r4 the protocol, r9 at its header. */
function emitIpv4(a: Assembler): void {
  a.label('ipv4')
  need(a, 9, 20)
  a.load(8, 3, 9, 0).op('and', 3, 15).op('shl', 3, 2).when(3, 'lt', 20, 'extracted')
  loadSwapped(a, 32, 1, 9, 12).store(32, 10, word(10), r1)
  loadSwapped(a, 32, 1, 9, 16).store(32, 10, word(14), r1)
  a.load(8, 4, 9, 9).mov(2, r4)
  a.load(8, 1, 9, 1).op('shl', 1, 8).op('or', 2, r1)
  a.load(8, 1, 9, 8).op('shl', 1, 16).op('or', 2, r1).store(32, 10, word(9), r2)
  a.store(32, 10, stack.place.kind, 0x0800).store(32, 10, stack.place.proto, r4)
  loadSwapped(a, 16, 1, 9, 6).op('and', 1, 0x3fff).when(1, 'eq', 0, 'whole')
  a.op('and', 1, 0x1fff).when(1, 'eq', 0, 'first')
  a.store(8, 10, word(9) + 3, 2).jump('extracted')
  a.label('first').store(8, 10, word(9) + 3, 1)
  a.label('whole').load(32, 1, 10, stack.place.l3).op('add', 1, r3)
  a.store(32, 10, stack.place.l4, r1).op('add', 9, r3)
  a.when(4, 'eq', 1, 'icmp').jump('transport')
}

function emitIpv6(a: Assembler): void {
  a.label('ipv6')
  need(a, 9, 40)
  a.load(8, 4, 9, 6).mov(2, r4)
  a.load(8, 1, 9, 7).op('shl', 1, 16).op('or', 2, r1)
  loadSwapped(a, 16, 1, 9, 0).op('shr', 1, 4).op('and', 1, 0xff).op('shl', 1, 8).op('or', 2, r1)
  a.store(32, 10, word(9), r2)
  for (let index = 0; index < 8; index++)
    loadSwapped(a, 32, 1, 9, 8 + 4 * index).store(32, 10, word(10 + index), r1)
  a.store(32, 10, stack.place.kind, 0x86dd).store(32, 10, stack.place.proto, r4)
  a.load(32, 3, 10, stack.place.l3).op('add', 3, 40).store(32, 10, stack.place.l4, r3)
  a.op('add', 9, 40).when(4, 'eq', 58, 'icmp').when(4, 'eq', 6, 'transport')
  for (const header of extensions) a.when(4, 'eq', header, 'extensions')
  a.jump('transport')
  emitExtensions(a)
}

/** Behind extension headers, bytes are copied: who knows how far in they are. */
function emitExtensions(a: Assembler): void {
  a.label('extensions')
  callWalk(a)
  a.load(32, 1, 10, word(9)).op('and', 1, 0x00ff_ff00).op('or', 1, r0).store(32, 10, word(9), r1)
  a.load(32, 2, 10, stack.place.l4).when(2, 'eq', 0, 'extracted')
  a.load(32, 1, 10, stack.place.proto).when(1, 'eq', 58, 'copyIcmp').when(1, 'eq', 6, 'copyTcp')
  a.when(1, 'eq', 17, 'copyPorts').when(1, 'ne', 132, 'extracted')
  a.label('copyPorts')
  copy(a, 4)
  a.label('copied').load(16, 1, 10, stack.block).swap(1, 16)
  a.load(16, 2, 10, stack.block + 2)
    .swap(2, 16)
    .op('shl', 2, 16)
    .op('or', 1, r2)
  a.store(32, 10, word(18), r1).jump('extracted')
  a.label('copyTcp')
  copy(a, 14)
  a.load(8, 1, 10, stack.block + 13)
    .store(32, 10, word(19), r1)
    .jump('copied')
  a.label('copyIcmp')
  copy(a, 2)
  a.load(8, 1, 10, stack.block)
    .load(8, 2, 10, stack.block + 1)
    .op('shl', 2, 16)
  a.op('or', 1, r2).store(32, 10, word(18), r1).jump('extracted')
}

/** Copies bytes from offset r2 on; done where they end too early. */
function copy(a: Assembler, size: number): void {
  a.mov(1, { r: 6 }).mov(3, { r: 10 }).op('add', 3, stack.block).mov(4, size)
  a.helper(helper.loadBytes).when(0, 'ne', 0, 'extracted')
}

/** Ports, or ICMP's type and code. */
function emitTransport(a: Assembler): void {
  a.label('transport').when(4, 'eq', 6, 'tcp')
  a.when(4, 'eq', 17, 'ports').when(4, 'eq', 132, 'ports').jump('extracted')
  a.label('tcp')
  need(a, 9, 14)
  a.load(8, 1, 9, 13).store(32, 10, word(19), r1).jump('readPorts')
  a.label('ports')
  need(a, 9, 4)
  a.label('readPorts')
  a.load(16, 1, 9, 0).swap(1, 16).load(16, 2, 9, 2).swap(2, 16).op('shl', 2, 16).op('or', 1, r2)
  a.store(32, 10, word(18), r1).jump('extracted')
  a.label('icmp')
  need(a, 9, 2)
  a.load(8, 1, 9, 0).load(8, 2, 9, 1).op('shl', 2, 16).op('or', 1, r2)
  a.store(32, 10, word(18), r1).jump('extracted')
}

function emitArp(a: Assembler): void {
  a.label('arp')
  need(a, 9, 28)
  a.load(32, 1, 9, 0).when(1, 'ne', 0x0008_0100, 'extracted')
  a.load(16, 1, 9, 4).when(1, 'ne', 0x0406, 'extracted')
  a.store(32, 10, stack.place.kind, 0x0806)
  loadSwapped(a, 16, 1, 9, 6).op('shl', 1, 16).store(32, 10, word(19), r1)
  loadSwapped(a, 16, 1, 9, 8).store(32, 10, word(11), r1)
  loadSwapped(a, 32, 1, 9, 10).store(32, 10, word(12), r1)
  loadSwapped(a, 32, 1, 9, 14).store(32, 10, word(10), r1)
  loadSwapped(a, 16, 1, 9, 18).store(32, 10, word(15), r1)
  loadSwapped(a, 32, 1, 9, 20).store(32, 10, word(16), r1)
  loadSwapped(a, 32, 1, 9, 24).store(32, 10, word(14), r1).jump('extracted')
}

/** Goes on when `size` bytes from the pointer on can be read, otherwise to `short`. Uses r1. */
function need(a: Assembler, pointer: 7 | 9, size: number): void {
  a.mov(1, pointer === 7 ? r7 : r9)
    .op('add', 1, size)
    .when(1, 'gt', r8, 'short')
}

function loadSwapped(a: Assembler, width: 16 | 32, dst: 1 | 2, base: 7 | 9, at: number): Assembler {
  return a.load(width, dst, base, at).swap(dst, width)
}
