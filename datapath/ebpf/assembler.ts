/**
 * An assembler for eBPF: methods named after what the instruction does, labels for jumps, names
 * for maps. An instruction is 8 bytes (linux/bpf.h, struct bpf_insn): opcode, destination and
 * source register, 16-bit offset, 32-bit immediate.
 *
 * Registers: r0 holds results; r1 to r5 hold arguments and are lost in a call; r6 to r9 live over
 * calls; r10 is the end of the stack, which is read and written below it.
 */

export type Register = 0 | 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9 | 10

/** Bits that a load or store moves. */
export type Width = 8 | 16 | 32 | 64

export type Comparison = 'eq' | 'ne' | 'gt' | 'ge' | 'lt' | 'le' | 'sgt' | 'slt' | 'set'

/** A jump to a label that nothing defines, or too far: a mistake in a program's source. */
export class AssemblerError extends Error {
  override readonly name = 'AssemblerError'
  readonly code = 'ASSEMBLER'
}

/** Where the loader has to write the descriptor of a map. */
export interface Relocation {
  /** Index of the instruction. */
  readonly at: number
  readonly map: string
}

export interface Program {
  readonly code: Uint8Array<ArrayBuffer>
  readonly relocations: readonly Relocation[]
}

const widths: Record<Width, number> = { 8: 0x10, 16: 0x08, 32: 0x00, 64: 0x18 }
const comparisons: Record<Comparison, number> = {
  eq: 0x10,
  gt: 0x20,
  ge: 0x30,
  set: 0x40,
  ne: 0x50,
  sgt: 0x60,
  lt: 0xa0,
  le: 0xb0,
  slt: 0xc0,
}
const operations = {
  add: 0x00,
  sub: 0x10,
  mul: 0x20,
  or: 0x40,
  and: 0x50,
  shl: 0x60,
  shr: 0x70,
  xor: 0xa0,
  mov: 0xb0,
} as const
const registerOperand = 0x08
const class32 = 0x04
const class64 = 0x07

export type Operation = keyof typeof operations

/** A register or an immediate; immediates are written as numbers, registers as `{ r: 1 }`. */
export type Operand = number | { readonly r: Register }

/** Registers as operands. */
export const r0 = { r: 0 } as const
export const r1 = { r: 1 } as const
export const r2 = { r: 2 } as const
export const r3 = { r: 3 } as const
export const r4 = { r: 4 } as const
export const r5 = { r: 5 } as const
export const r7 = { r: 7 } as const
export const r8 = { r: 8 } as const
export const r9 = { r: 9 } as const

export class Assembler {
  readonly #instructions: { op: number; registers: number; offset: number; value: number }[] = []
  readonly #labels = new Map<string, number>()
  readonly #jumps: { readonly at: number; readonly label: string; readonly call: boolean }[] = []
  readonly #relocations: Relocation[] = []
  #fresh = 0

  /** A label that no other will be. */
  unique(stem: string): string {
    this.#fresh++
    return `${stem}#${this.#fresh}`
  }

  label(name: string): this {
    if (this.#labels.has(name)) throw new AssemblerError(`label ${name} is defined twice`)
    this.#labels.set(name, this.#instructions.length)
    return this
  }

  /** `dst = dst operation operand` on 64 bits. */
  op(operation: Operation, dst: Register, operand: Operand): this {
    return this.#arithmetic(operations[operation] | class64, dst, operand)
  }

  /** The same on 32 bits; the upper half of `dst` becomes 0. */
  op32(operation: Operation, dst: Register, operand: Operand): this {
    return this.#arithmetic(operations[operation] | class32, dst, operand)
  }

  mov(dst: Register, operand: Operand): this {
    return this.op('mov', dst, operand)
  }

  /** From network order to this machine's, which is little-endian; upper bits become 0. */
  swap(dst: Register, width: 16 | 32): this {
    return this.#emit(0xdc, dst, 0, 0, width)
  }

  /** `dst` = memory at `base` + `offset`. */
  load(width: Width, dst: Register, base: Register, offset: number): this {
    return this.#emit(0x61 | widths[width], dst, base, offset, 0)
  }

  /** Memory at `base` + `offset` = operand. */
  store(width: Width, base: Register, offset: number, operand: Operand): this {
    if (typeof operand === 'number')
      return this.#emit(0x62 | widths[width], base, 0, offset, operand)
    return this.#emit(0x63 | widths[width], base, operand.r, offset, 0)
  }

  /** Adds a register to the 64 bits at `base` + `offset`, as one step for all processors. */
  atomicAdd(base: Register, offset: number, src: Register): this {
    return this.#emit(0xdb, base, src, offset, 0)
  }

  /** `dst` = the map itself, as helpers want it. */
  map(dst: Register, name: string): this {
    return this.#wide(dst, 1, 0, name) // BPF_PSEUDO_MAP_FD
  }

  /** `dst` = address of the one value of an array map, plus `offset`: no look-up. */
  mapValue(dst: Register, name: string, offset: number): this {
    return this.#wide(dst, 2, offset, name) // BPF_PSEUDO_MAP_VALUE
  }

  /** Calls a helper of the kernel. */
  helper(number: number): this {
    return this.#emit(0x85, 0, 0, 0, number)
  }

  /** Calls a function of this program that starts at `label`. */
  call(label: string): this {
    this.#jumps.push({ at: this.#instructions.length, label, call: true })
    return this.#emit(0x85, 0, 1, 0, 0) // BPF_PSEUDO_CALL
  }

  exit(): this {
    return this.#emit(0x95, 0, 0, 0, 0)
  }

  jump(label: string): this {
    return this.#jump(0x05, 0, 0, 0, label)
  }

  /** Jumps when `left comparison right` on 64 bits; `set` is: they share a bit. */
  when(left: Register, comparison: Comparison, right: Operand, label: string): this {
    const op = comparisons[comparison] | 0x05
    if (typeof right === 'number') return this.#jump(op, left, 0, right, label)
    return this.#jump(op | registerOperand, left, right.r, 0, label)
  }

  /** The bytes, with all jumps resolved. @throws AssemblerError */
  finish(): Program {
    for (const { at, label, call } of this.#jumps) {
      const target = this.#labels.get(label)
      const instruction = this.#instructions[at]
      if (target === undefined || instruction === undefined)
        throw new AssemblerError(`no label ${label}`)
      const distance = target - at - 1
      if (call) instruction.value = distance
      else if (distance > 0x7fff || distance < -0x8000)
        throw new AssemblerError(`label ${label} is too far away`)
      else instruction.offset = distance
    }
    const code = new Uint8Array(this.#instructions.length * 8)
    const view = new DataView(code.buffer)
    for (const [index, { op, registers, offset, value }] of this.#instructions.entries()) {
      view.setUint8(index * 8, op)
      view.setUint8(index * 8 + 1, registers)
      view.setInt16(index * 8 + 2, offset, true)
      view.setInt32(index * 8 + 4, value, true)
    }
    return { code, relocations: this.#relocations }
  }

  #arithmetic(op: number, dst: Register, operand: Operand): this {
    if (typeof operand === 'number') return this.#emit(op, dst, 0, 0, operand)
    return this.#emit(op | registerOperand, dst, operand.r, 0, 0)
  }

  #jump(op: number, dst: Register, src: Register, value: number, label: string): this {
    this.#jumps.push({ at: this.#instructions.length, label, call: false })
    return this.#emit(op, dst, src, 0, value)
  }

  /** A 64-bit immediate takes two instructions. */
  #wide(dst: Register, kind: number, offset: number, map: string): this {
    this.#relocations.push({ at: this.#instructions.length, map })
    return this.#emitRaw(0x18, dst | (kind << 4), 0, 0).#emitRaw(0, 0, 0, offset)
  }

  #emit(op: number, dst: Register, src: Register, offset: number, value: number): this {
    return this.#emitRaw(op, dst | (src << 4), offset, value)
  }

  #emitRaw(op: number, registers: number, offset: number, value: number): this {
    this.#instructions.push({ op, registers, offset, value: value | 0 })
    return this
  }
}
