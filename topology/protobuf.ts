/** Protocol Buffers on the wire, as far as etcd's API needs it: varints, bytes, messages. */
import { StoreError } from './error.ts'

/** Writes the fields of one message. Zero and empty values are left out, as the format has it. */
export class MessageWriter {
  readonly #parts: Uint8Array[] = []

  /** A number up to 2^53, or a 64-bit one as bigint. */
  number(field: number, value: number | bigint | boolean | undefined): this {
    const number = BigInt(value ?? 0)
    if (number === 0n) return this
    this.#parts.push(varint(BigInt(field << 3)), varint(BigInt.asUintN(64, number)))
    return this
  }

  bytes(field: number, value: string | Uint8Array | undefined): this {
    return value === undefined || value.length === 0 ? this : this.message(field, value)
  }

  /** As `bytes`, but written also when it is empty: that a message is there says something. */
  message(field: number, value: string | Uint8Array): this {
    const bytes = typeof value === 'string' ? Buffer.from(value) : value
    this.#parts.push(varint(BigInt((field << 3) | 2)), varint(BigInt(bytes.length)), bytes)
    return this
  }

  finish(): Buffer {
    return Buffer.concat(this.#parts)
  }
}

/** One field as it stands in a message. */
export interface Field {
  readonly number: number
  readonly value: bigint
  readonly bytes: Buffer
}

const none = Buffer.alloc(0)

/** The fields of a message, in order. @throws StoreError code `PROTOCOL` when it is cut or odd */
export function* readFields(message: Buffer): Generator<Field> {
  let at = 0
  /** Beyond 49 bits in whole numbers: tags, lengths and most values are far from that. */
  const next = (): number | bigint => {
    let value = 0
    for (let factor = 1; factor < 2 ** 49; factor *= 0x80) {
      const byte = message[at++]
      if (byte === undefined) throw malformed()
      value += (byte & 0x7f) * factor
      if (byte < 0x80) return value
    }
    let large = BigInt(value)
    for (let shift = 49n; shift < 70n; shift += 7n) {
      const byte = message[at++]
      if (byte === undefined) break
      large |= BigInt(byte & 0x7f) << shift
      if (byte < 0x80) return large
    }
    throw malformed()
  }
  while (at < message.length) {
    const tag = Number(next())
    const number = tag >>> 3
    if ((tag & 7) === 0) yield { number, value: BigInt(next()), bytes: none }
    else if ((tag & 7) === 2) {
      const length = Number(next())
      if (at + length > message.length) throw malformed()
      yield { number, value: 0n, bytes: message.subarray(at, at + length) }
      at += length
    } else throw malformed()
  }
}

/** A field that may be there once; the last one counts. */
export function lastField(message: Buffer, number: number): Field | undefined {
  let found: Field | undefined
  for (const field of readFields(message)) if (field.number === number) found = field
  return found
}

/** Signed 64 bits as a number; revisions stay far below 2^53. */
export function toNumber(field: Field | undefined): number {
  return field === undefined ? 0 : Number(BigInt.asIntN(64, field.value))
}

function varint(value: bigint): Uint8Array {
  const bytes: number[] = []
  let rest = value
  for (; rest >= 0x80n; rest >>= 7n) bytes.push(Number(rest & 0x7fn) | 0x80)
  bytes.push(Number(rest))
  return Uint8Array.from(bytes)
}

function malformed(): StoreError {
  return new StoreError('PROTOCOL', 'etcd answered what is no message of its API; is it etcd 3.4?')
}
