/**
 * Bytes in and out. Codecs go through `Reader` and `Writer`, which check lengths once, at the
 * cursor; the per-packet path reads by offset with `readU16` and its kin, after checking itself.
 * All numbers are in network order.
 */

/** The bytes end before the header does. */
export class TruncatedError extends Error {
  override readonly name = 'TruncatedError'
  readonly code = 'TRUNCATED'

  constructor(wanted: number, left: number) {
    super(`truncated: ${wanted} bytes wanted, ${left} left`)
  }
}

/** The bytes cannot be what they should be; the message names the header and the fault. */
export class MalformedError extends Error {
  override readonly name = 'MalformedError'
  readonly code = 'MALFORMED'
}

/** How one header is read and written. What `decode` returns, `encode` writes back the same. */
export interface Codec<T> {
  readonly name: string
  /** Bytes that `encode` writes for this value. */
  size(value: T): number
  /** @throws TruncatedError, MalformedError */
  decode(reader: Reader): T
  encode(writer: Writer, value: T): void
}

/** A cursor over received bytes. `bytes` and `rest` give views, not copies. */
export class Reader {
  readonly #bytes: Uint8Array
  readonly #view: DataView
  #at = 0

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  }

  /** Bytes not yet read. */
  get left(): number {
    return this.#bytes.length - this.#at
  }

  u8(): number {
    return this.#view.getUint8(this.#take(1))
  }

  u16(): number {
    return this.#view.getUint16(this.#take(2))
  }

  u32(): number {
    return this.#view.getUint32(this.#take(4))
  }

  /** A MAC address. */
  u48(): number {
    const at = this.#take(6)
    return this.#view.getUint16(at) * 0x1_0000_0000 + this.#view.getUint32(at + 2)
  }

  /** An IPv6 address. */
  u128(): bigint {
    const at = this.#take(16)
    return (this.#view.getBigUint64(at) << 64n) | this.#view.getBigUint64(at + 8)
  }

  bytes(size: number): Uint8Array {
    const at = this.#take(size)
    return this.#bytes.subarray(at, at + size)
  }

  rest(): Uint8Array {
    return this.bytes(this.left)
  }

  #take(size: number): number {
    const at = this.#at
    if (size > this.left) throw new TruncatedError(size, this.left)
    this.#at = at + size
    return at
  }
}

/** A cursor over bytes to be sent. The caller sizes them: running over is a mistake, RangeError. */
export class Writer {
  readonly #bytes: Uint8Array
  readonly #view: DataView
  #at = 0

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  }

  /** Bytes written so far. */
  get written(): number {
    return this.#at
  }

  u8(value: number): void {
    this.#view.setUint8(this.#at, value)
    this.#at += 1
  }

  u16(value: number): void {
    this.#view.setUint16(this.#at, value)
    this.#at += 2
  }

  u32(value: number): void {
    this.#view.setUint32(this.#at, value)
    this.#at += 4
  }

  u48(value: number): void {
    this.u16(Math.floor(value / 0x1_0000_0000))
    this.u32(value >>> 0)
  }

  u128(value: bigint): void {
    this.#view.setBigUint64(this.#at, value >> 64n)
    this.#view.setBigUint64(this.#at + 8, value)
    this.#at += 16
  }

  bytes(value: Uint8Array): void {
    this.#bytes.set(value, this.#at)
    this.#at += value.length
  }

  zeros(size: number): void {
    this.#bytes.fill(0, this.#at, this.#at + size)
    this.#at += size
  }
}

/** Reads a value from the start of some bytes; what follows it is not looked at. */
export function decode<T>(codec: Codec<T>, bytes: Uint8Array): T {
  return codec.decode(new Reader(bytes))
}

export function encode<T>(codec: Codec<T>, value: T): Uint8Array {
  const bytes = new Uint8Array(codec.size(value))
  codec.encode(new Writer(bytes), value)
  return bytes
}

/** Bytes beyond the end read as 0: check the length first. */
export function readU8(bytes: Uint8Array, at: number): number {
  return bytes[at] ?? 0
}

export function readU16(bytes: Uint8Array, at: number): number {
  return ((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0)
}

export function readU32(bytes: Uint8Array, at: number): number {
  return (
    (((bytes[at] ?? 0) << 24) |
      ((bytes[at + 1] ?? 0) << 16) |
      ((bytes[at + 2] ?? 0) << 8) |
      (bytes[at + 3] ?? 0)) >>>
    0
  )
}

export function writeU16(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value >>> 8
  bytes[at + 1] = value
}

export function writeU32(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value >>> 24
  bytes[at + 1] = value >>> 16
  bytes[at + 2] = value >>> 8
  bytes[at + 3] = value
}

export function writeU48(bytes: Uint8Array, at: number, value: number): void {
  writeU16(bytes, at, Math.floor(value / 0x1_0000_0000))
  writeU32(bytes, at + 2, value >>> 0)
}
