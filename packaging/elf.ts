/**
 * What the packaging must know of an ELF file (64 bits, little endian; System V ABI, gABI 4.1): the
 * libraries that it needs, its loader, and how much of it is loaded at all.
 */
import { PackagingError } from './error.ts'

export interface Elf {
  /** Names such as `libc.so.6`, in the file's order (DT_NEEDED). */
  readonly needed: readonly string[]
  /** Absolute path of the dynamic loader (PT_INTERP). */
  readonly interpreter: string | undefined
  /** Bytes up to the end of the last segment; symbols and section headers come behind. */
  readonly loadedSize: number
}

const headerSize = 64
const segmentHeaderSize = 56
/** p_type */
const segmentTypes = { load: 1, dynamic: 2, interpreter: 3 } as const
/** d_tag */
const tags = { end: 0, needed: 1, stringTable: 5 } as const

interface Segment {
  readonly type: number
  readonly offset: number
  readonly address: number
  readonly fileSize: number
}

/** Whether the bytes are those of an ELF file of the kind that is read here. */
export function isElf(bytes: Buffer): boolean {
  return bytes.length >= headerSize && bytes.readUInt32BE(0) === 0x7f454c46 && bytes[4] === 2
}

/** @throws PackagingError code `INVALID` */
export function readElf(bytes: Buffer): Elf {
  if (!isElf(bytes)) throw new PackagingError('INVALID', 'not an ELF file of 64 bits')
  const segments = readSegments(bytes)
  const interpreter = segments.find(({ type }) => type === segmentTypes.interpreter)
  const tableEnd = Number(bytes.readBigUInt64LE(32)) + segmentHeaderSize * segments.length
  return {
    needed: readNeeded(bytes, segments),
    interpreter: interpreter && readText(bytes, interpreter.offset),
    loadedSize: Math.max(tableEnd, ...segments.map(({ offset, fileSize }) => offset + fileSize)),
  }
}

/** The file without what is never loaded: symbols, debugging information, section headers. */
export function stripElf(bytes: Buffer): Buffer {
  const { loadedSize } = readElf(bytes)
  const stripped = Buffer.from(bytes.subarray(0, loadedSize))
  // e_shoff, e_shentsize stays, e_shnum and e_shstrndx: there are no sections any more.
  stripped.writeBigUInt64LE(0n, 40)
  stripped.writeUInt32LE(0, 60)
  return stripped
}

function readSegments(bytes: Buffer): readonly Segment[] {
  const first = Number(bytes.readBigUInt64LE(32))
  return Array.from({ length: bytes.readUInt16LE(56) }, (_, index) => {
    const at = first + index * segmentHeaderSize
    return {
      type: bytes.readUInt32LE(at),
      offset: Number(bytes.readBigUInt64LE(at + 8)),
      address: Number(bytes.readBigUInt64LE(at + 16)),
      fileSize: Number(bytes.readBigUInt64LE(at + 32)),
    }
  })
}

function readNeeded(bytes: Buffer, segments: readonly Segment[]): readonly string[] {
  const dynamic = segments.find(({ type }) => type === segmentTypes.dynamic)
  if (dynamic === undefined) return []
  const offsets: number[] = []
  let strings = 0
  for (let at = dynamic.offset; at < dynamic.offset + dynamic.fileSize; at += 16) {
    const tag = Number(bytes.readBigUInt64LE(at))
    const value = Number(bytes.readBigUInt64LE(at + 8))
    if (tag === tags.end) break
    if (tag === tags.needed) offsets.push(value)
    if (tag === tags.stringTable) strings = offsetOf(segments, value)
  }
  return offsets.map((offset) => readText(bytes, strings + offset))
}

function offsetOf(segments: readonly Segment[], address: number): number {
  const holder = segments.find(
    (segment) =>
      segment.type === segmentTypes.load &&
      address >= segment.address &&
      address < segment.address + segment.fileSize,
  )
  if (holder === undefined) throw new PackagingError('INVALID', 'ELF: a table is not loaded')
  return address - holder.address + holder.offset
}

function readText(bytes: Buffer, at: number): string {
  const end = bytes.indexOf(0, at)
  return bytes.toString('latin1', at, end < 0 ? bytes.length : end)
}
