/**
 * bpf(2): maps and programs. Offsets are those of union bpf_attr, struct bpf_prog_info and struct
 * bpf_map_info in linux/bpf.h.
 */
import { DatapathError } from '../datapath.ts'
import { type Arena, arena, bpf, close, errnoName, mapShare } from '../syscall.ts'
import type { Program } from './assembler.ts'

const command = {
  mapCreate: 0,
  lookup: 1,
  update: 2,
  remove: 3,
  nextKey: 4,
  programLoad: 5,
  testRun: 10,
  programById: 13,
  mapById: 14,
  infoByFd: 15,
} as const
const programTypeTc = 3 // BPF_PROG_TYPE_SCHED_CLS
const mapTypes = { hash: 1, array: 2 } as const
/** BPF_F_NO_PREALLOC for hashes, BPF_F_MMAPABLE for arrays. */
const mapFlags = { hash: 1, array: 1024 } as const
const noExist = 1
const nameMax = 15
const logSize = 1 << 20
/** Not GPL: the programs call no helper that asks for it. */
const license = 'Apache-2.0\0'

export interface MapShape {
  readonly name: string
  readonly type: 'hash' | 'array'
  readonly keySize: number
  readonly valueSize: number
  readonly count: number
}

/** Where the attributes of a call, and what they point to, are written. */
class Attributes {
  readonly #arena: Arena = arena(1 << 17)

  /** The buffer beside the attributes, for keys, values and answers. */
  readonly buffer = 4096

  get bytes(): Uint8Array {
    return this.#arena.bytes
  }

  get view(): DataView {
    return this.#arena.view
  }

  address(offset: number): number {
    return this.#arena.address + offset
  }

  clear(): this {
    this.#arena.bytes.fill(0, 0, 256)
    return this
  }

  u32(offset: number, value: number): this {
    this.#arena.view.setUint32(offset, value, true)
    return this
  }

  pointer(offset: number, address: number): this {
    this.#arena.view.setBigUint64(offset, BigInt(address), true)
    return this
  }

  text(offset: number, value: string): this {
    this.#arena.bytes.set(Buffer.from(value.slice(0, nameMax)), offset)
    return this
  }

  call(number: number, size: number): number {
    return bpf(number, this.#arena.address, size)
  }
}

let attributes: Attributes | undefined

/** Attributes of a call, all zero; each call uses them anew. */
export function beginCall(): Attributes {
  attributes ??= new Attributes()
  return attributes.clear()
}

/** An error that says what to do, for those that a user can do something about. */
export function refusal(what: string, result: number): DatapathError {
  const code = errnoName(-result)
  if (code === 'EPERM' || code === 'EACCES')
    return new DatapathError(code, `${what}: ${code}: run as root with CAP_BPF and CAP_NET_ADMIN`)
  if (code === 'ENOSYS')
    return new DatapathError(code, `${what}: this kernel is built without CONFIG_BPF_SYSCALL`)
  return new DatapathError(code, `${what}: ${code}`)
}

/** A map of the kernel. Keys and values pass through buffers that each call uses anew. */
export class BpfMap {
  readonly fd: number
  readonly shape: MapShape
  readonly #key: Arena
  readonly #value: Arena

  constructor(fd: number, shape: MapShape) {
    this.fd = fd
    this.shape = shape
    this.#key = arena(4096)
    this.#value = arena(4096)
  }

  /** Write the key here before a call; read it here after `nextKey`. */
  get keyWords(): Uint32Array {
    return this.#key.words
  }

  get valueView(): DataView {
    return this.#value.view
  }

  /** False when the key is not there. */
  lookup(): boolean {
    const result = this.#call(command.lookup, this.#key.address, 0)
    if (result < 0 && errnoName(-result) !== 'ENOENT') throw this.#refusal('look-up', result)
    return result >= 0
  }

  /** Stores key and value; with `fresh` false says that the key is there already. */
  update(fresh = false): boolean {
    const result = this.#call(command.update, this.#key.address, fresh ? noExist : 0)
    if (fresh && result < 0 && errnoName(-result) === 'EEXIST') return false
    if (result >= 0) return true
    // A full hash says E2BIG: linux/kernel/bpf/hashtab.c.
    if (errnoName(-result) === 'E2BIG')
      throw new DatapathError('ENOSPC', `${this.shape.name} is full: remove some first`)
    throw this.#refusal('update', result)
  }

  /** No such key is no error. */
  remove(): void {
    const result = this.#call(command.remove, this.#key.address, 0)
    if (result < 0 && errnoName(-result) !== 'ENOENT') throw this.#refusal('removal', result)
  }

  /** All keys; each is valid until the next. Keys that change meanwhile may be missed or come twice. */
  *keys(): Iterable<Uint32Array> {
    let from = 0
    const words = this.shape.keySize / 4
    // A hash that changes all the time could go on for ever.
    for (let round = 0; round < 2 * this.shape.count; round++) {
      const attr = beginCall().u32(0, this.fd).pointer(8, from).pointer(16, this.#value.address)
      const result = attr.call(command.nextKey, 32)
      if (result < 0) return
      const key = this.#value.words.slice(0, words)
      yield key
      this.#key.words.set(key)
      from = this.#key.address
    }
  }

  /** The whole of an array map as memory. */
  share(): Arena {
    return mapShare(this.fd, this.shape.valueSize * this.shape.count)
  }

  close(): void {
    close(this.fd)
  }

  #call(number: number, key: number, flags: number): number {
    const attr = beginCall().u32(0, this.fd).pointer(8, key).u32(24, flags)
    // A removal must not name a value.
    if (number !== command.remove) attr.pointer(16, this.#value.address)
    return attr.call(number, 32)
  }

  #refusal(what: string, result: number): DatapathError {
    return refusal(`${what} in map ${this.shape.name}`, result)
  }
}

/** @throws DatapathError */
export function createMap(shape: MapShape): BpfMap {
  const attr = beginCall()
    .u32(0, mapTypes[shape.type])
    .u32(4, shape.keySize)
    .u32(8, shape.valueSize)
  attr.u32(12, shape.count).u32(16, mapFlags[shape.type]).text(28, shape.name)
  const fd = attr.call(command.mapCreate, 72)
  if (fd < 0) throw refusal(`creating map ${shape.name}`, fd)
  return new BpfMap(fd, shape)
}

/** The map with this id if it has this shape, whatever its name; otherwise undefined. */
export function openMap(id: number, shapes: readonly MapShape[]): BpfMap | undefined {
  const fd = beginCall().u32(0, id).call(command.mapById, 12)
  if (fd < 0) return undefined
  const { view, bytes, buffer } = info(fd, 80)
  const end = bytes.indexOf(0, buffer + 24)
  const name = Buffer.from(bytes.subarray(buffer + 24, end)).toString()
  const shape = shapes.find(
    (candidate) =>
      candidate.name === name &&
      view.getUint32(buffer, true) === mapTypes[candidate.type] &&
      view.getUint32(buffer + 8, true) === candidate.keySize &&
      view.getUint32(buffer + 12, true) === candidate.valueSize &&
      view.getUint32(buffer + 16, true) === candidate.count &&
      view.getUint32(buffer + 20, true) === mapFlags[candidate.type],
  )
  if (shape !== undefined) return new BpfMap(fd, shape)
  close(fd)
  return undefined
}

let codeArena: Arena | undefined
/** Attempts to load a program, as many as libbpf makes. */
const loadsMax = 5

/** Loads a tc program. @throws DatapathError with the verifier's words */
export function loadProgram(
  name: string,
  program: Program,
  maps: Readonly<Record<string, BpfMap>>,
): number {
  codeArena ??= arena(logSize + (1 << 18))
  const code = codeArena.bytes.subarray(logSize + 4096, logSize + 4096 + program.code.length)
  code.set(program.code)
  const view = new DataView(code.buffer, code.byteOffset, code.byteLength)
  for (const { at, map } of program.relocations) {
    const fd = maps[map]?.fd
    if (fd === undefined) throw new DatapathError('EINVAL', `program ${name} needs a map ${map}`)
    view.setInt32(at * 8 + 4, fd, true)
  }
  codeArena.bytes.set(Buffer.from(license), logSize)
  const first = load(name, program.code.length / 8, codeArena, 0)
  if (first >= 0) return first
  // Again with a log: written always, it would cost more than the check itself.
  const second = load(name, program.code.length / 8, codeArena, 1)
  if (second >= 0) return second
  const words = logText(codeArena)
  const { code: errno, message } = refusal(`loading program ${name}`, second)
  throw new DatapathError(
    errno,
    words === '' ? message : `${message}; the verifier says:\n${words}`,
  )
}

function load(name: string, count: number, memory: Arena, logLevel: number): number {
  const attr = beginCall().u32(0, programTypeTc).u32(4, count)
  attr.pointer(8, memory.address + logSize + 4096).pointer(16, memory.address + logSize)
  memory.bytes[0] = 0
  if (logLevel > 0) attr.u32(24, logLevel).u32(28, logSize).pointer(32, memory.address)
  attr.text(48, name)
  // A signal, as a profiler sends them, breaks off the kernel's check of a program.
  for (let attempt = 1; ; attempt++) {
    const fd = attr.call(command.programLoad, 72)
    if (fd >= 0 || errnoName(-fd) !== 'EAGAIN' || attempt === loadsMax) return fd
  }
}

/** The end of what the verifier wrote: its complaint, and how it came there. */
function logText(memory: Arena): string {
  const end = memory.bytes.indexOf(0)
  const text = Buffer.from(memory.bytes.subarray(0, Math.min(end, logSize)))
    .toString()
    .trimEnd()
  return text.slice(-2000)
}

/** `name` is at most 15 characters; `mapIds` of at most 16 maps, in the order of their use. */
export interface ProgramDetails {
  readonly id: number
  readonly name: string
  readonly mapIds: readonly number[]
}

/** What the kernel knows of a program, by the id that tc tells; undefined when it is gone. */
export function describeProgram(id: number): ProgramDetails | undefined {
  const fd = openProgram(id)
  if (fd === undefined) return undefined
  const details = describeProgramFd(fd)
  close(fd)
  return details
}

/** A descriptor of a loaded program; undefined when it is gone. */
export function openProgram(id: number): number | undefined {
  const fd = beginCall().u32(0, id).call(command.programById, 12)
  return fd < 0 ? undefined : fd
}

/** The same of a program by its descriptor. @throws DatapathError */
export function describeProgramFd(fd: number): ProgramDetails {
  const idsMax = 16
  const { bytes, view, buffer } = info(fd, 80, (attr) => {
    attr.u32(attr.buffer + 52, idsMax).pointer(attr.buffer + 56, attr.address(attr.buffer + 512))
  })
  const id = view.getUint32(buffer + 4, true)
  const nameAt = buffer + 64
  const name = Buffer.from(bytes.subarray(nameAt, bytes.indexOf(0, nameAt))).toString()
  const count = Math.min(view.getUint32(buffer + 52, true), idsMax)
  const mapIds = Array.from({ length: count }, (_, index) =>
    view.getUint32(buffer + 512 + 4 * index, true),
  )
  return { id, name, mapIds }
}

function info(fd: number, size: number, prepare?: (attr: Attributes) => void): Attributes {
  const attr = beginCall()
  attr.bytes.fill(0, attr.buffer, attr.buffer + 1024)
  prepare?.(attr)
  attr.u32(0, fd).u32(4, size).pointer(8, attr.address(attr.buffer))
  const result = attr.call(command.infoByFd, 16)
  if (result < 0) throw refusal('reading what the kernel has', result)
  return attr
}

/** Runs a program on a frame, `repeat` times; says its result, the frame after, and mean ns. */
export function testRun(
  fd: number,
  frame: Uint8Array,
  repeat = 1,
): { readonly result: number; readonly frame: Uint8Array; readonly ns: number } {
  const attr = beginCall()
  const [input, output] = [attr.buffer, attr.buffer + 32_768]
  attr.bytes.set(frame, input)
  attr.u32(0, fd).u32(8, frame.length).u32(12, 32_768)
  attr.pointer(16, attr.address(input)).pointer(24, attr.address(output)).u32(32, repeat)
  const result = attr.call(command.testRun, 80)
  if (result < 0) throw refusal('running a program', result)
  const size = attr.view.getUint32(12, true)
  return {
    result: attr.view.getUint32(4, true),
    frame: attr.bytes.slice(output, output + size),
    ns: attr.view.getUint32(36, true),
  }
}
