/**
 * The sockets between the kernel and the forwarding thread. Each vport has one for its upcalls, so
 * that a noisy one fills its own and no other; one more sends. Their netlink port ids follow from
 * the datapath's name and the vport's number: a flow that hands packets over finds the next agent
 * too, and a second agent at the same time is refused.
 */
import { DatapathError } from '../datapath.ts'
import {
  type Arena,
  arena,
  bind,
  check,
  close,
  eAgain,
  eInterrupted,
  eNoBuffers,
  epollControl,
  epollCreate,
  epollWait,
  eventfd,
  read,
  receiveInto,
  setSocketOption,
  socket,
  write,
} from '../syscall.ts'
import { genericProtocol } from './protocol.ts'
import { MessageSlots } from './slots.ts'

// bits/socket.h, asm-generic/socket.h, linux/netlink.h
const afNetlink = 16
const sockRawCloexec = 3 | 0x80000
const solSocket = 1
const soReceiveBufferForce = 33
const solNetlink = 270
const capAck = 10
const doNotWait = 0x40
const eAddressInUse = -98

export const limits = {
  receiveBuffer: 4 << 20,
  /** Upcalls taken in one call of a vport that is alone, and of one while others wait. */
  perVport: 32,
  perVportShared: 8,
  /** The largest message: a packet of 64 KiB with its key. */
  messageSizeMax: 68 * 1024,
  /** Sockets looked at in one go. */
  ready: 64,
  /** Answers taken in one call, and the largest that is sought: what is left of longer ones is cut. */
  answers: 64,
  answerSizeMax: 256,
} as const

/**
 * The netlink port id of the datapath's own socket. That of a vport's has the vport's number in its
 * low 16 bits, which are 0 here.
 */
export function portIdOf(name: string): number {
  let hash = 0
  for (const byte of Buffer.from(name)) hash = (Math.imul(hash, 31) + byte) >>> 0
  // Above every process id, which is what the kernel gives out.
  return (0x4000 | (hash & 0x3fff)) << 16
}

/** Opens a socket for upcalls under a port id. @throws DatapathError `EBUSY` */
export function openUpcallSocket(portId: number): number {
  const fd = check('socket(AF_NETLINK)', socket(afNetlink, sockRawCloexec, genericProtocol))
  const address = new Uint8Array(12)
  new DataView(address.buffer).setUint16(0, afNetlink, true)
  new DataView(address.buffer).setUint32(4, portId, true)
  const bound = bind(fd, address)
  if (bound < 0) {
    close(fd)
    if (bound === eAddressInUse)
      throw new DatapathError('EBUSY', 'another agent runs this datapath: stop it first')
    check('bind(AF_NETLINK)', bound)
  }
  setSocketOption(fd, solSocket, soReceiveBufferForce, limits.receiveBuffer)
  return fd
}

/** The socket that requests without an answer go by, many in one call. */
export class Sender {
  readonly #fd: number
  readonly #memory: Arena = arena(1 << 16)
  readonly #slots = new MessageSlots(limits.answers, limits.answerSizeMax)

  constructor() {
    this.#fd = check('socket(AF_NETLINK)', socket(afNetlink, sockRawCloexec, genericProtocol))
    const address = new Uint8Array(12)
    address[0] = afNetlink
    check('bind(AF_NETLINK)', bind(this.#fd, address))
    setSocketOption(this.#fd, solNetlink, capAck, 1)
    setSocketOption(this.#fd, solSocket, soReceiveBufferForce, limits.receiveBuffer)
  }

  /** Readable when the kernel has refused something. */
  get fd(): number {
    return this.#fd
  }

  /** The kernel does all that is asked before this returns. @throws SystemCallError */
  send(address: number, size: number): void {
    let written = write(this.#fd, address, size)
    while (written === eInterrupted) written = write(this.#fd, address, size)
    check('sending to the kernel', written)
  }

  /** Hands on the datagrams that came back, each valid until the next. */
  drain(handle: (bytes: Uint8Array) => void): void {
    for (;;) {
      const size = receiveInto(this.#fd, this.#memory.address, this.#memory.size, doNotWait)
      if (size === eAgain) return
      if (size === eInterrupted || size === eNoBuffers) continue
      handle(this.#memory.bytes.subarray(0, check('hearing from the kernel', size)))
    }
  }

  /** Memory that `collect` hands on parts of. */
  get answers(): Arena {
    return this.#slots.memory
  }

  /** Hands on where in `answers` each datagram stands that came back, one message in each. */
  collect(handle: (start: number, end: number) => void): void {
    const slots = this.#slots
    for (;;) {
      const got = slots.receive(this.#fd, slots.count)
      if (got === eAgain) return
      if (got === eInterrupted || got === eNoBuffers) continue
      check('hearing from the kernel', got)
      for (let slot = 0; slot < got; slot++)
        handle(slot * slots.size, slot * slots.size + slots.lengthOf(slot))
      if (got < slots.count) return
    }
  }

  /** One datagram, waited for. */
  receive(): Uint8Array {
    for (;;) {
      const size = receiveInto(this.#fd, this.#memory.address, this.#memory.size, 0)
      if (size === eInterrupted || size === eNoBuffers) continue
      return this.#memory.bytes.subarray(0, check('hearing from the kernel', size))
    }
  }

  close(): void {
    close(this.#fd)
  }
}

// sys/epoll.h; struct epoll_event is packed on x86-64 only.
const epollCloexec = 0x80000
const epollAdd = 1
const epollIn = 1
const eventSize = process.arch === 'x64' ? 12 : 16
const eventData = eventSize - 8
// sys/eventfd.h: EFD_NONBLOCK, EFD_CLOEXEC
const eventFlags = 0x800 | 0x80000

/** Sockets that upcalls come by, and the descriptor that ends the wait for them. */
export class Receiver {
  readonly wakeFd: number
  /** Whether something was refused, when sockets were looked at last. */
  hasRefusals = false
  /** How many messages came with the one that is being handed on, itself among them. */
  together = 0
  /** Times that a socket was full: the kernel counts what was lost by it. */
  overruns = 0
  readonly #epoll: number
  readonly #refusals: number
  readonly #events: Arena = arena(4096)
  readonly #slots = new MessageSlots(limits.perVport, limits.messageSizeMax)
  /** By slot: what was looked at last, since a view costs more than the rest of reading a message. */
  readonly #views: (Uint8Array | undefined)[] = []
  readonly #viewAt = new Int32Array(limits.perVport)
  readonly #viewSize = new Int32Array(limits.perVport)

  /** @param refusals readable when the kernel has refused something */
  constructor(refusals: number) {
    this.#refusals = refusals
    this.#epoll = check('epoll_create1', epollCreate(epollCloexec))
    this.wakeFd = check('eventfd', eventfd(eventFlags))
    this.add(this.wakeFd)
    this.add(refusals)
  }

  /** Memory that received messages stand in. */
  get memory(): Arena {
    return this.#slots.memory
  }

  /** What stands at a place of a received message, until the next are received. */
  part(at: number, size: number): Uint8Array {
    const slot = Math.floor(at / limits.messageSizeMax)
    const known = this.#views[slot]
    if (known !== undefined && this.#viewAt[slot] === at && this.#viewSize[slot] === size)
      return known
    const view = this.#slots.memory.bytes.subarray(at, at + size)
    this.#views[slot] = view
    this.#viewAt[slot] = at
    this.#viewSize[slot] = size
    return view
  }

  /** A socket leaves when it is closed. */
  add(fd: number): void {
    const { view, address } = this.#events
    view.setUint32(0, epollIn, true)
    view.setInt32(eventData, fd, true)
    view.setInt32(eventData + 4, 0, true)
    check('epoll_ctl', epollControl(this.#epoll, epollAdd, fd, address))
  }

  /** Sockets with upcalls to read. The wake descriptor is not among them; `true` reads it. */
  ready(timeoutMs: number, readsWake: boolean): readonly number[] {
    const { address, view } = this.#events
    const count = epollWait(this.#epoll, address, limits.ready, timeoutMs)
    if (count < 0 && count !== eInterrupted) check('epoll_wait', count)
    const sockets: number[] = []
    let isWoken = false
    this.hasRefusals = false
    for (let index = 0; index < count; index++) {
      const fd = view.getInt32(index * eventSize + eventData, true)
      if (fd === this.wakeFd) isWoken = true
      else if (fd === this.#refusals) this.hasRefusals = true
      else sockets.push(fd)
    }
    if (readsWake && isWoken) read(this.wakeFd, address, 8)
    return sockets
  }

  /** Reads up to `count` messages of a socket; hands on where each starts and ends in `bytes`. */
  receive(fd: number, count: number, handle: (start: number, end: number) => void): number {
    const slots = this.#slots
    let got = slots.receive(fd, count)
    while (got === eNoBuffers || got === eInterrupted) {
      if (got === eNoBuffers) this.overruns++
      got = slots.receive(fd, count)
    }
    if (got < 0) return 0
    this.together = got
    for (let slot = 0; slot < got; slot++) {
      const start = slot * slots.size
      handle(start, start + slots.lengthOf(slot))
    }
    return got
  }

  /** The wake descriptor stays open: another thread may be about to write to it. */
  close(): void {
    close(this.#epoll)
  }
}
