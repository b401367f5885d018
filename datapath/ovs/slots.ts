/** Room for the messages that one system call receives: each has a slot of its own. */
import { type Arena, arena, receiveMany } from '../syscall.ts'

// struct mmsghdr with its struct iovec behind; the length received is at 56.
const headerSize = 64
const vectorSize = 16
const lengthAt = 56
const doNotWait = 0x40

/** Made once: its memory lives as long as the process. */
export class MessageSlots {
  readonly count: number
  /** Bytes of a slot: slot `n` begins at `n * size`. */
  readonly size: number
  readonly memory: Arena
  readonly #headers: Arena

  constructor(count: number, size: number) {
    this.count = count
    this.size = size
    this.memory = arena(count * size)
    this.#headers = arena(count * (headerSize + vectorSize))
    const { view, address } = this.#headers
    for (let index = 0; index < count; index++) {
      const [at, vector] = [index * headerSize, count * headerSize + index * vectorSize]
      view.setBigUint64(at + 16, BigInt(address + vector), true)
      view.setBigUint64(at + 24, 1n, true)
      view.setBigUint64(vector, BigInt(this.memory.address + index * size), true)
      view.setBigUint64(vector + 8, BigInt(size), true)
    }
  }

  /** Takes up to `count` messages that are there; how many, or an errno below zero. */
  receive(fd: number, count: number): number {
    return receiveMany(fd, this.#headers.address, Math.min(count, this.count), doNotWait)
  }

  /** Bytes of the message in a slot. */
  lengthOf(slot: number): number {
    return this.#headers.view.getUint32(slot * headerSize + lengthAt, true)
  }
}
