/**
 * Frames that only go out of interfaces, sent past the module: by a packet socket, many in one
 * call. The kernel spares what it does for each packet that it is asked to carry actions out on: a
 * flow made for it, its key read from it, its actions copied. Otherwise it is the same: the frame
 * meets the interface's queue, MTU and statistics as if the module had sent it (packet(7)).
 */
import createDebug from 'debug'
import { DatapathError } from '../datapath.ts'
import {
  type Arena,
  arena,
  close,
  eInterrupted,
  errnoName,
  sendMany,
  setSocketOption,
  socket,
} from '../syscall.ts'

const debug = createDebug('midonet:datapath')

// bits/socket.h: AF_PACKET, SOCK_RAW and SOCK_CLOEXEC, MSG_DONTWAIT;
// asm-generic/socket.h: SOL_SOCKET, SO_SNDBUFFORCE
const afPacket = 17
const rawCloexec = 3 | 0x80000
const doNotWait = 0x40
const solSocket = 1
const sendBufferForce = 32

export const limits = {
  /** Frames in one call. */
  frames: 64,
  /** Of frames on their way: it takes longer to fill than to be told of. */
  sendBuffer: 4 << 20,
  /** For those that stand where the kernel cannot read them; the largest is 64 KiB. */
  copies: 256 * 1024,
} as const

// struct mmsghdr, struct iovec, and struct sockaddr_ll with the interface's index at 4.
const messageSize = 64
const vectorSize = 16
const addressSize = 20
const nameLength = 8
const vectorAt = 16
const vectorCount = 24

/**
 * A packet socket, and the frames that wait for its next call. A frame may stand in memory that is
 * used again: `flush` before that. One that its interface does not take (it is down, or gone, or its
 * queue full, or the frame too long) is dropped alone.
 */
export class WireSender {
  readonly #fd: number
  readonly #memory: Arena
  readonly #words: Uint32Array
  readonly #copies: Arena = arena(limits.copies)
  readonly #vectors = limits.frames * messageSize
  readonly #addresses = this.#vectors + limits.frames * vectorSize
  #count = 0
  #copied = 0

  /** @throws DatapathError where packet sockets are not allowed */
  constructor() {
    // Protocol 0: this socket receives nothing.
    const fd = socket(afPacket, rawCloexec, 0)
    if (fd < 0)
      throw new DatapathError(
        errnoName(-fd),
        `socket(AF_PACKET): ${errnoName(-fd)}: run as root with CAP_NET_RAW`,
      )
    this.#fd = fd
    setSocketOption(fd, solSocket, sendBufferForce, limits.sendBuffer)
    this.#memory = arena(this.#addresses + limits.frames * addressSize)
    this.#words = this.#memory.words
    const { view, address } = this.#memory
    for (let index = 0; index < limits.frames; index++) {
      const at = index * messageSize
      const name = this.#addresses + index * addressSize
      view.setBigUint64(at, BigInt(address + name), true)
      view.setUint32(at + nameLength, addressSize, true)
      const vector = this.#vectors + index * vectorSize
      view.setBigUint64(at + vectorAt, BigInt(address + vector), true)
      view.setBigUint64(at + vectorCount, 1n, true)
      view.setUint16(name, afPacket, true)
    }
  }

  /** Takes a frame for an interface; `address` is where the kernel can read it, 0 for nowhere. */
  add(ifindex: number, frame: Uint8Array, address: number): void {
    const size = frame.length
    const isFull = address === 0 && this.#copied + size > limits.copies
    if (isFull || this.#count === limits.frames) this.flush()
    const at = address === 0 ? this.#copy(frame) : address
    const words = this.#words
    const vector = (this.#vectors + this.#count * vectorSize) >>> 2
    words[vector] = at
    words[vector + 1] = at / 0x1_0000_0000
    words[vector + 2] = size
    words[(this.#addresses + this.#count * addressSize + 4) >>> 2] = ifindex
    this.#count++
  }

  /** The interfaces have them, or have refused them, before this returns. */
  flush(): void {
    const count = this.#count
    if (count === 0) return
    this.#count = 0
    this.#copied = 0
    for (let done = 0; done < count; ) {
      const sent = sendMany(
        this.#fd,
        this.#memory.address + done * messageSize,
        count - done,
        doNotWait,
      )
      if (sent > 0) done += sent
      else if (sent !== eInterrupted) {
        // The first that is left; those behind it may be for other interfaces.
        debug('an interface has not taken a packet: %s', errnoName(-sent))
        done++
      }
    }
  }

  close(): void {
    close(this.#fd)
  }

  #copy(frame: Uint8Array): number {
    const at = this.#copied
    this.#copies.bytes.set(frame, at)
    this.#copied = at + frame.length
    return this.#copies.address + at
  }
}
