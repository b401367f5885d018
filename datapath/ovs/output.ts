/** Messages to the kernel, one behind the other in memory it reads: no object for each. */
import type { FlowKey } from '../../packet/flow-key.ts'
import { type Arena, arena } from '../syscall.ts'
import { type PlainLayers, writePlainKey } from './plain-key.ts'
import { messageHeader } from './protocol.ts'

const nestedBit = 0x8000

export class Output {
  readonly arena: Arena
  readonly #view: DataView
  readonly #bytes: Uint8Array
  /** Attributes begin at words, and most are made of them. */
  readonly #words: Uint32Array
  #size = 0
  #message = 0

  constructor(size: number) {
    this.arena = arena(size)
    this.#view = this.arena.view
    this.#bytes = this.arena.bytes
    this.#words = this.arena.words
  }

  get size(): number {
    return this.#size
  }

  clear(): void {
    this.#size = 0
  }

  /** Starts a message of one of Open vSwitch's families. */
  begin(type: number, flags: number, sequence: number, command: number, datapath: number): void {
    const words = this.#words
    const at = this.#size >>> 2
    this.#message = at
    words[at + 1] = type | (flags << 16)
    words[at + 2] = sequence
    words[at + 3] = 0
    words[at + 4] = command | 0x100
    words[at + 5] = datapath
    this.#size += messageHeader
  }

  end(): void {
    this.#words[this.#message] = this.#size - this.#message * 4
  }

  /** Takes back the message that was begun last. */
  cancel(): void {
    this.#size = this.#message * 4
  }

  /** Starts an attribute whose payload the calls that follow write, up to `close`. */
  open(type: number): number {
    const at = this.#size
    this.#words[at >>> 2] = type << 16
    this.#size = at + 4
    return at
  }

  nest(type: number): number {
    return this.open(type | nestedBit)
  }

  close(start: number): void {
    const words = this.#words
    words[start >>> 2] = ((words[start >>> 2] ?? 0) & 0xffff_0000) | (this.#size - start)
    while (this.#size & 3) this.#bytes[this.#size++] = 0
  }

  /** An attribute of one number in host order. */
  attribute32(type: number, value: number): void {
    const at = this.#size >>> 2
    this.#words[at] = 8 | (type << 16)
    this.#words[at + 1] = value
    this.#size += 8
  }

  /** An attribute of four numbers in host order. */
  attribute128(type: number, a: number, b: number, c: number, d: number): void {
    const words = this.#words
    const at = this.#size >>> 2
    words[at] = 20 | (type << 16)
    words[at + 1] = a
    words[at + 2] = b
    words[at + 3] = c
    words[at + 4] = d
    this.#size += 20
  }

  /** Attributes that are known as they stand. */
  attributes(known: Uint32Array): void {
    const words = this.#words
    const at = this.#size >>> 2
    for (let index = 0; index < known.length; index++) words[at + index] = known[index] ?? 0
    this.#size += known.length * 4
  }

  /** An attribute of those of a plain key. */
  plainKey(type: number, key: FlowKey, mask: FlowKey, layers: PlainLayers): void {
    const at = this.#size >>> 2
    const end = writePlainKey(this.#words, at + 1, key, mask, layers)
    this.#words[at] = ((end - at) * 4) | ((type | nestedBit) << 16)
    this.#size = end * 4
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
