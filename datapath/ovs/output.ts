/** Messages to the kernel, one behind the other in memory it reads: no object for each. */
import { type Arena, arena } from '../syscall.ts'
import { messageHeader } from './protocol.ts'

const nestedBit = 0x8000

export class Output {
  readonly arena: Arena
  readonly #view: DataView
  readonly #bytes: Uint8Array
  #size = 0
  #message = 0

  constructor(size: number) {
    this.arena = arena(size)
    this.#view = this.arena.view
    this.#bytes = this.arena.bytes
  }

  get size(): number {
    return this.#size
  }

  clear(): void {
    this.#size = 0
  }

  /** Starts a message of one of Open vSwitch's families. */
  begin(type: number, flags: number, sequence: number, command: number, datapath: number): void {
    const at = this.#size
    this.#message = at
    const view = this.#view
    view.setUint16(at + 4, type, true)
    view.setUint16(at + 6, flags, true)
    view.setUint32(at + 8, sequence, true)
    view.setUint32(at + 12, 0, true)
    view.setUint32(at + 16, command | 0x100, true)
    view.setUint32(at + 20, datapath, true)
    this.#size = at + messageHeader
  }

  end(): void {
    this.#view.setUint32(this.#message, this.#size - this.#message, true)
  }

  /** Takes back the message that was begun last. */
  cancel(): void {
    this.#size = this.#message
  }

  /** Starts an attribute whose payload the calls that follow write, up to `close`. */
  open(type: number): number {
    const at = this.#size
    this.#view.setUint16(at + 2, type, true)
    this.#size = at + 4
    return at
  }

  nest(type: number): number {
    return this.open(type | nestedBit)
  }

  close(start: number): void {
    this.#view.setUint16(start, this.#size - start, true)
    while (this.#size & 3) this.#bytes[this.#size++] = 0
  }

  /** An attribute of one number in host order. */
  attribute32(type: number, value: number): void {
    const at = this.#size
    this.#view.setUint32(at, 8 | (type << 16), true)
    this.#view.setUint32(at + 4, value, true)
    this.#size = at + 8
  }

  /** An attribute of one number of 16 bits in network order. */
  attributeBe16(type: number, value: number): void {
    const at = this.#size
    this.#view.setUint32(at, 6 | (type << 16), true)
    this.#view.setUint16(at + 4, value)
    this.#view.setUint16(at + 6, 0)
    this.#size = at + 8
  }

  attributeBytes(type: number, value: Uint8Array): void {
    const start = this.open(type)
    this.bytes(value)
    this.close(start)
  }

  u8(value: number): void {
    this.#bytes[this.#size++] = value
  }

  /** Network order, as the rest. */
  be16(value: number): void {
    this.#view.setUint16(this.#size, value)
    this.#size += 2
  }

  be32(value: number): void {
    this.#view.setUint32(this.#size, value)
    this.#size += 4
  }

  host16(value: number): void {
    this.#view.setUint16(this.#size, value, true)
    this.#size += 2
  }

  host32(value: number): void {
    this.#view.setUint32(this.#size, value, true)
    this.#size += 4
  }

  bytes(value: Uint8Array): void {
    this.#bytes.set(value, this.#size)
    this.#size += value.length
  }

  zeros(count: number): void {
    this.#bytes.fill(0, this.#size, this.#size + count)
    this.#size += count
  }
}
