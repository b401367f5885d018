/**
 * How packets reach the agent: 32 bytes go in front, and the whole is sent to an interface that the
 * agent reads. When the kernel keeps a tag beside the frame, that interface puts it back in at byte
 * 12 of what it sends, that is into our header: `decodeUpcall` moves it to where it belongs.
 */
import { type Assembler, r0, r1, r2 } from './assembler.ts'
import { context, count, helper, stack } from './kernel.ts'
import { table, upcallBurst, upcallHeader, upcallMagic, upcallsPerSecond } from './layout.ts'

const spacing = 1_000_000_000 / upcallsPerSecond
const patience = spacing * upcallBurst

/** Code for packets that no flow matches (`miss`) and that an action hands over (`userspace`). */
export function emitUpcalls(a: Assembler, withMiss: boolean, isTunnel: boolean): void {
  if (withMiss) {
    a.label('miss')
    count(a, table.misses)
    a.mov(8, 0).jump('upcall')
  }
  a.label('userspace').mov(8, 1)
  a.label('upcall')
  emitLimit(a)
  emitHeader(a, isTunnel)
  a.mov(1, { r: 6 }).mov(2, upcallHeader.size).mov(3, 0)
  a.helper(helper.changeHead).when(0, 'ne', 0, 'lost')
  a.mov(1, { r: 6 }).mov(2, 0).mov(3, { r: 10 }).op('add', 3, stack.block)
  a.mov(4, upcallHeader.size).mov(5, 0)
  a.helper(helper.storeBytes).when(0, 'ne', 0, 'lost')
  count(a, table.upcalls)
  a.mapValue(1, 'table', table.upcallPort).load(32, 1, 1, 0).mov(2, 0)
  a.helper(helper.redirect).exit()

  a.label('lost')
  count(a, table.lost)
  a.jump('drop')
}

/**
 * The generic cell rate algorithm: `ports` holds when the port's next upcall is due if they come
 * evenly. One that comes earlier than that by more than the burst allows is lost.
 */
function emitLimit(a: Assembler): void {
  a.load(32, 1, 6, context.ifindex).store(32, 10, stack.scratch, r1)
  a.map(1, 'ports').mov(2, { r: 10 }).op('add', 2, stack.scratch).helper(helper.mapLookup)
  a.when(0, 'eq', 0, 'lost').mov(9, r0)
  a.helper(helper.ktime).mov(1, r0).load(64, 2, 9, 0)
  a.when(2, 'ge', r1, 'due').mov(2, r1)
  a.label('due').mov(3, r1).op('add', 3, patience).when(2, 'gt', { r: 3 }, 'lost')
  a.op('add', 2, spacing).store(64, 9, 0, r2)
}

function emitHeader(a: Assembler, isTunnel: boolean): void {
  for (let at = 8; at < upcallHeader.size; at += 8) a.store(64, 10, stack.block + at, 0)
  a.store(32, 10, stack.block + upcallHeader.magic, upcallMagic)
  a.load(32, 1, 6, context.ifindex).store(32, 10, stack.block + upcallHeader.inPort, r1)
  a.store(8, 10, stack.block + upcallHeader.reason, { r: 8 })
  a.load(32, 1, 6, context.vlanPresent).store(8, 10, stack.block + upcallHeader.tagged, r1)
  if (!isTunnel) return
  a.load(32, 1, 10, stack.key + 4).store(32, 10, stack.block + upcallHeader.tunnelId, r1)
  a.load(32, 1, 10, stack.key + 8).store(32, 10, stack.block + upcallHeader.tunnelSrc, r1)
}
