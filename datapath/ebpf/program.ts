/**
 * The two programs of the embedded datapath, as the instructions that the kernel runs.
 *
 * `portProgram` runs for every packet that a vport receives: it reads the flow key, looks for the
 * flow, counts, and carries out the actions. `executeProgram` runs for the packets that the agent
 * itself sends, and carries out the actions that lie ready for it. Both are for tc in direct-action
 * mode, where the result says what becomes of the packet.
 *
 * Registers over the whole of a program: r6 the context (struct __sk_buff). While a key is read:
 * r7 the frame's start, r8 its end, r9 the header being read. While masks are tried: r8 the hint,
 * r9 the mask's id. While actions are carried out: r7 the slot, r8 its index in the entry, r9 the
 * count of entries so far.
 */
import { emitActions } from './actions.ts'
import { Assembler, type Program, r0, r1, r2, r3, r4, r9 } from './assembler.ts'
import { emitExtract } from './extract.ts'
import { context, count, helper, shot, stack } from './kernel.ts'
import { entry, executeMark, masksMax, table } from './layout.ts'
import { callLocate } from './locate.ts'
import { emitTunnelKey } from './tunnel-key.ts'

export interface ProgramOptions {
  /** Whether the kernel has the cheap clock (5.11). */
  readonly coarseClock: boolean
  /** Whether the vport is a tunnel's: its packets say whence and for whom they came. */
  readonly isTunnel: boolean
}

/** The program on the ingress of every vport. */
export function portProgram(options: ProgramOptions): Program {
  const a = new Assembler()
  a.mov(6, r1)
  emitExtract(a)
  if (options.isTunnel) emitTunnelKey(a)
  emitLookup(a)
  a.label('found').load(32, 1, 0, 0).store(32, 10, stack.scratch, r1)
  a.map(1, 'entries').mov(2, { r: 10 }).op('add', 2, stack.scratch).helper(helper.mapLookup)
  a.when(0, 'eq', 0, 'drop').mov(7, r0)
  emitStatistics(a, options)
  a.op('add', 7, entry.slots)
  emitActions(a, { withMiss: true, isTunnel: options.isTunnel })
  return a.finish()
}

/** The program on the egress of the interface that `execute` sends by. */
export function executeProgram(): Program {
  const a = new Assembler()
  a.mov(6, r1).load(32, 1, 6, context.mark)
  // Whatever else the kernel sends there is noise.
  a.when(1, 'ne', executeMark, 'drop')
  a.mov(1, 0).store(32, 6, context.mark, r1)
  callLocate(a)
  a.store(32, 10, stack.scratch, 0)
  a.map(1, 'entries').mov(2, { r: 10 }).op('add', 2, stack.scratch).helper(helper.mapLookup)
  a.when(0, 'eq', 0, 'drop').mov(7, r0).op('add', 7, entry.slots)
  emitActions(a, { withMiss: false, isTunnel: false })
  return a.finish()
}

/**
 * Looks for the flow: jumps to `found` with r0 at its value, or to `miss`. The mask that fitted the
 * last packet alike is tried first; only then all of them, in order.
 */
function emitLookup(a: Assembler): void {
  const word = (index: number): number => stack.key + 4 * index
  // A hash of what tells connections apart: MAC and IP addresses, ports, protocol, the vport.
  a.load(32, 1, 10, word(4)).load(32, 2, 10, word(0)).op32('add', 1, r2)
  for (const index of [18, 14, 10, 9, 6]) {
    a.op32('mul', 1, 0x9e37_79b1 | 0)
    a.load(32, 2, 10, word(index)).op32('add', 1, r2)
  }
  a.op32('mul', 1, 0x9e37_79b1 | 0).op32('shr', 1, 32 - table.hintBits)
  a.mapValue(8, 'table', table.hints).op('add', 8, r1)
  a.load(8, 9, 8, 0).when(9, 'ge', masksMax, 'scan')
  emitTryMask(a, 'scan')
  a.jump('found')

  a.label('scan').mov(9, 0)
  a.label('nextMask').mapValue(1, 'table', table.maskCount).load(32, 1, 1, 0)
  a.when(9, 'ge', r1, 'miss')
  emitTryMask(a, 'notThis')
  a.store(8, 8, 0, r9).jump('found')
  a.label('notThis').op('add', 9, 1).when(9, 'lt', masksMax, 'nextMask').jump('miss')
}

/** Looks up the key under mask r9; falls through with r0 at the flow's value, or jumps. */
function emitTryMask(a: Assembler, otherwise: string): void {
  a.mov(1, r9).op('mul', 1, table.maskSize)
  a.mapValue(2, 'table', table.masks).op('add', 2, r1)
  a.load(32, 3, 2, 0).when(3, 'eq', 0, otherwise)
  for (let at = 0; at < 80; at += 8) {
    a.load(64, 3, 10, stack.key + at).load(64, 4, 2, table.maskWords + at)
    a.op('and', 3, r4).store(64, 10, stack.maskedKey + at, r3)
  }
  // 64 bits although 32 count: a whole word of the stack is written, so the verifier can forget the
  // masks tried before, and need not think each of them through with each that comes after.
  a.store(64, 10, stack.maskedKey + 80, r9)
  a.map(1, 'flows').mov(2, { r: 10 }).op('add', 2, stack.maskedKey).helper(helper.mapLookup)
  a.when(0, 'eq', 0, otherwise)
}

function emitStatistics(a: Assembler, { coarseClock }: ProgramOptions): void {
  a.mov(1, 1).atomicAdd(7, entry.packets, 1)
  a.load(32, 1, 6, context.len).atomicAdd(7, entry.bytes, 1)
  a.helper(coarseClock ? helper.ktimeCoarse : helper.ktime).store(64, 7, entry.usedAt, r0)
}

/** A program that only drops: shows at start whether the kernel takes programs at all. */
export function probeProgram(): Program {
  const a = new Assembler()
  count(a, table.failures)
  return a.mov(0, shot).exit().finish()
}
