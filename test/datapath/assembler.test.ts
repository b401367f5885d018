import test from 'ava'
import { DatapathError } from '../../datapath/datapath.ts'
import { Assembler, AssemblerError } from '../../datapath/ebpf/assembler.ts'
import { EntryPool } from '../../datapath/ebpf/entry-pool.ts'
import { hexOf } from '../packet/captures.ts'

function bytes(build: (a: Assembler) => void): string[] {
  const assembler = new Assembler()
  build(assembler)
  return hexOf(assembler.finish().code).match(/.{16}/g) ?? []
}

// Each line as `llvm-objdump -d` names it.
test('instructions are encoded as the kernel reads them', (t) => {
  t.deepEqual(
    bytes((a) => {
      a.mov(0, 2).mov(6, { r: 1 }).op32('mul', 1, 3).op('add', 2, { r: 3 })
      a.load(32, 7, 6, 76).load(8, 1, 9, 13).store(64, 10, -8, 0).store(16, 10, -8, { r: 1 })
      a.atomicAdd(7, 8, 1).swap(1, 16).swap(1, 32).helper(23).exit()
    }),
    [
      'b700000002000000', // r0 = 2
      'bf16000000000000', // r6 = r1
      '2401000003000000', // w1 *= 3
      '0f32000000000000', // r2 += r3
      '61674c0000000000', // r7 = *(u32 *)(r6 + 76)
      '71910d0000000000', // r1 = *(u8 *)(r9 + 13)
      '7a0af8ff00000000', // *(u64 *)(r10 - 8) = 0
      '6b1af8ff00000000', // *(u16 *)(r10 - 8) = r1
      'db17080000000000', // lock *(u64 *)(r7 + 8) += r1
      'dc01000010000000', // r1 = be16 r1
      'dc01000020000000', // r1 = be32 r1
      '8500000017000000', // call 23
      '9500000000000000', // exit
    ],
  )
})

test('jumps count from the next instruction, forward and back', (t) => {
  t.deepEqual(
    bytes((a) => {
      a.label('top').when(1, 'gt', { r: 8 }, 'out').when(2, 'eq', 6, 'top').jump('out')
      a.call('function').label('out').exit().label('function').exit()
    }),
    [
      '2d81030000000000', // if r1 > r8 goto +3
      '1502feff06000000', // if r2 == 6 goto -2
      '0500010000000000', // goto +1
      '8510000001000000', // call pc+1
      '9500000000000000',
      '9500000000000000',
    ],
  )
})

test('a map takes two instructions, and says where its descriptor belongs', (t) => {
  const assembler = new Assembler().mov(0, 0).map(1, 'flows').mapValue(2, 'table', 64)
  const { code, relocations } = assembler.finish()
  t.is(
    hexOf(code).slice(16),
    '18110000000000000000000000000000182200000000000000000000' + '40000000',
  )
  t.deepEqual(relocations, [
    { at: 1, map: 'flows' },
    { at: 3, map: 'table' },
  ])
})

test('mistakes with labels are found', (t) => {
  t.throws(() => new Assembler().jump('nowhere').finish(), { instanceOf: AssemblerError })
  t.throws(() => new Assembler().label('twice').label('twice'), { instanceOf: AssemblerError })
  const far = new Assembler().jump('end')
  for (let count = 0; count < 0x8000; count++) far.mov(0, 0)
  t.throws(() => far.label('end').finish(), { instanceOf: AssemblerError })
})

test('an entry given back rests before it is given out again', (t) => {
  let now = 0
  const pool = new EntryPool(
    8,
    12,
    () => now,
    (index) => index === 9,
  )
  t.deepEqual([...pool.take(3)].toSorted(), [10, 11, 8].toSorted())
  pool.giveBack([10, 11])
  t.throws(() => pool.take(1), { instanceOf: DatapathError })
  now += 60
  pool.giveBack([8])
  now += 60
  t.deepEqual([...pool.take(2)].toSorted(), [10, 11])
  t.throws(() => pool.take(1), { instanceOf: DatapathError })
  now += 60
  t.deepEqual(pool.take(1), [8])
})
