/**
 * Netlink: messages and attributes as bytes, and a socket that asks and waits for the answer.
 * Layouts are those of linux/netlink.h; numbers are in host order, which here is little-endian.
 *
 *   message     u32 length  u16 type  u16 flags  u32 sequence  u32 port  payload…  (aligned to 4)
 *   attribute   u16 length  u16 type  payload…                                     (aligned to 4)
 */
import {
  type Arena,
  arena,
  bind,
  check,
  close,
  eInterrupted,
  errnoName,
  receiveInto,
  setSocketOption,
  setSocketOptionBytes,
  socket,
  write,
} from './syscall.ts'

/** The kernel refused a request. `code` is the errno's name, such as `EEXIST`. */
export class NetlinkError extends Error {
  override readonly name = 'NetlinkError'
  readonly code: string

  /** `reason` is what the kernel says beside the errno, if anything. */
  constructor(request: string, errno: number, reason: string | undefined) {
    const code = errnoName(errno)
    super(reason === undefined ? `${request}: ${code}` : `${request}: ${code}: ${reason}`)
    this.code = code
  }
}

export interface NetlinkMessage {
  readonly type: number
  readonly flags: number
  readonly sequence: number
  readonly payload: Uint8Array
}

/** `type` is without the flag bits NLA_F_NESTED and NLA_F_NET_BYTEORDER. */
export interface Attribute {
  readonly type: number
  readonly payload: Uint8Array
}

/** Flags of a request: NLM_F_REQUEST is always added. */
export const flag = {
  multi: 0x2,
  ack: 0x4,
  dumpInterrupted: 0x10,
  dump: 0x300,
  replace: 0x100,
  exclusive: 0x200,
  create: 0x400,
} as const

const headerSize = 16
const request = 0x1
const typeError = 2
const typeDone = 3
const attributeTypeMask = 0x3fff
const nestedBit = 0x8000

/** Builds a payload: a fixed header, then attributes. Grows as needed. */
export class PayloadWriter {
  #bytes = new Uint8Array(256)
  #view = new DataView(this.#bytes.buffer)
  #size = 0

  u8(value: number): this {
    this.#view.setUint8(this.#grow(1), value)
    return this
  }

  u16(value: number): this {
    this.#view.setUint16(this.#grow(2), value, true)
    return this
  }

  u32(value: number): this {
    this.#view.setUint32(this.#grow(4), value, true)
    return this
  }

  bytes(value: Uint8Array): this {
    const at = this.#grow(value.length)
    this.#bytes.set(value, at)
    return this
  }

  attribute(type: number, value: Uint8Array): this {
    this.u16(4 + value.length)
      .u16(type)
      .bytes(value)
    return this.#align()
  }

  attributeU32(type: number, value: number): this {
    return this.u16(8).u16(type).u32(value)
  }

  /** A string with the zero at its end that the kernel expects. */
  attributeText(type: number, value: string): this {
    return this.attribute(type, Buffer.from(`${value}\0`))
  }

  /** An attribute whose payload `fill` writes. */
  nest(type: number, fill: (writer: this) => void): this {
    const start = this.#size
    this.u16(0).u16(type | nestedBit)
    fill(this)
    this.#view.setUint16(start, this.#size - start, true)
    return this.#align()
  }

  /** What was written so far; valid until more is. */
  finish(): Uint8Array {
    return this.#bytes.subarray(0, this.#size)
  }

  #align(): this {
    this.#grow((4 - (this.#size & 3)) & 3)
    return this
  }

  #grow(size: number): number {
    const at = this.#size
    this.#size += size
    if (this.#size > this.#bytes.length) {
      const larger = new Uint8Array(Math.max(this.#size, this.#bytes.length * 2))
      larger.set(this.#bytes)
      this.#bytes = larger
      this.#view = new DataView(larger.buffer)
    }
    return at
  }
}

/** Writes one message to `out`; says its size with the padding. */
export function encodeMessage(message: NetlinkMessage, out: Uint8Array): number {
  const { type, flags, sequence, payload } = message
  const view = new DataView(out.buffer, out.byteOffset, out.byteLength)
  view.setUint32(0, headerSize + payload.length, true)
  view.setUint16(4, type, true)
  view.setUint16(6, flags, true)
  view.setUint32(8, sequence, true)
  view.setUint32(12, 0, true)
  out.set(payload, headerSize)
  return headerSize + payload.length
}

/** The messages of one datagram; what is cut off at the end is left out. Payloads are views. */
export function decodeMessages(bytes: Uint8Array): readonly NetlinkMessage[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const messages: NetlinkMessage[] = []
  for (let at = 0; at + headerSize <= bytes.length; ) {
    const size = view.getUint32(at, true)
    if (size < headerSize || at + size > bytes.length) break
    messages.push(messageAt(bytes, at))
    at += (size + 3) & ~3
  }
  return messages
}

/** The message at a place, whose header says how long it is: no longer than what is there. */
function messageAt(bytes: Uint8Array, at: number): NetlinkMessage {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  return {
    type: view.getUint16(at + 4, true),
    flags: view.getUint16(at + 6, true),
    sequence: view.getUint32(at + 8, true),
    payload: bytes.subarray(at + headerSize, at + view.getUint32(at, true)),
  }
}

/** All attributes, also those nobody knows; what is cut off at the end is left out. */
export function decodeAttributes(bytes: Uint8Array): readonly Attribute[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const attributes: Attribute[] = []
  for (let at = 0; at + 4 <= bytes.length; ) {
    const size = view.getUint16(at, true)
    if (size < 4 || at + size > bytes.length) break
    const type = view.getUint16(at + 2, true) & attributeTypeMask
    attributes.push({ type, payload: bytes.subarray(at + 4, at + size) })
    at += (size + 3) & ~3
  }
  return attributes
}

/** The last attribute of a type, as the kernel reads them too. */
export function findAttribute(
  attributes: readonly Attribute[],
  type: number,
): Uint8Array | undefined {
  return attributes.findLast((attribute) => attribute.type === type)?.payload
}

export function payloadU32(payload: Uint8Array | undefined): number | undefined {
  if (payload === undefined || payload.length < 4) return undefined
  return new DataView(payload.buffer, payload.byteOffset).getUint32(0, true)
}

/** A string without the zero at its end. */
export function payloadText(payload: Uint8Array | undefined): string | undefined {
  if (payload === undefined) return undefined
  const end = payload.indexOf(0)
  return Buffer.from(end < 0 ? payload : payload.subarray(0, end)).toString()
}

/** What an NLMSG_ERROR says: errno 0 is an acknowledgement. */
export function decodeAck(message: NetlinkMessage): {
  readonly errno: number
  readonly reason: string | undefined
} {
  const { payload, flags } = message
  if (payload.length < 4 + headerSize) return { errno: 5, reason: 'acknowledgement cut short' }
  const view = new DataView(payload.buffer, payload.byteOffset, payload.byteLength)
  const errno = -view.getInt32(0, true)
  // linux/netlink.h: NLM_F_ACK_TLVS 0x200, and NLM_F_CAPPED 0x100 when the request is not echoed.
  if (!(flags & 0x200)) return { errno, reason: undefined }
  const echoed = flags & 0x100 ? headerSize : view.getUint32(4, true)
  const attributes = decodeAttributes(payload.subarray(4 + ((echoed + 3) & ~3)))
  return { errno, reason: payloadText(findAttribute(attributes, 1)) } // NLMSGERR_ATTR_MSG
}

// bits/socket.h, linux/netlink.h
const afNetlink = 16
const sockRawCloexec = 3 | 0x80000
const solSocket = 1
const soReceiveTimeout = 20
const solNetlink = 270
const capAck = 10
const extAck = 11
const receiveSize = 1 << 17
const sendSize = 1 << 16
const timeoutSeconds = 10n
/** Dumps that the kernel says it was disturbed in are asked for again, so many times. */
const dumpAttemptsMax = 10

/** A netlink socket for one request at a time, in the network namespace of the thread that opens it. */
export class NetlinkSocket {
  readonly #fd: number
  readonly #arena: Arena
  #sequence = 1

  /** @throws SystemCallError */
  constructor(protocol: number) {
    this.#fd = check('socket(AF_NETLINK)', socket(afNetlink, sockRawCloexec, protocol))
    this.#arena = sharedArena()
    const address = new Uint8Array(12)
    address[0] = afNetlink
    check('bind(AF_NETLINK)', bind(this.#fd, address))
    const timeout = new Uint8Array(new BigInt64Array([timeoutSeconds, 0n]).buffer)
    setSocketOptionBytes(this.#fd, solSocket, soReceiveTimeout, timeout)
    // Older kernels know neither: then the errno alone has to do.
    setSocketOption(this.#fd, solNetlink, capAck, 1)
    setSocketOption(this.#fd, solNetlink, extAck, 1)
  }

  /** Asks for a change; `name` names the request in an error. @throws NetlinkError */
  change(name: string, type: number, flags: number, payload: Uint8Array): void {
    this.#send(name, type, flags | flag.ack, payload)
    this.#receive(name, ignore)
  }

  /** Asks for one object. @throws NetlinkError */
  query(name: string, type: number, payload: Uint8Array): readonly NetlinkMessage[] {
    const replies: NetlinkMessage[] = []
    this.#send(name, type, flag.ack, payload)
    this.#receive(name, (bytes, at) => replies.push(messageAt(bytes, at)))
    return replies
  }

  /** Asks for all objects. @throws NetlinkError */
  dump(name: string, type: number, payload: Uint8Array): readonly NetlinkMessage[] {
    return this.dumpAs(name, type, payload, messageAt)
  }

  /**
   * The same for very many: `read` makes what is wanted of the message at `at` of `bytes`, a copy
   * that it may keep; nothing else is made of it. @throws NetlinkError
   */
  dumpAs<T>(
    name: string,
    type: number,
    payload: Uint8Array,
    read: (bytes: Uint8Array, at: number) => T,
  ): readonly T[] {
    let replies: T[] = []
    for (let attempt = 0; attempt < dumpAttemptsMax; attempt++) {
      replies = []
      this.#send(name, type, flag.dump, payload)
      if (this.#receive(name, (bytes, at) => replies.push(read(bytes, at)))) return replies
    }
    // What a crowd of changes goes on disturbing is still worth more than nothing.
    return replies
  }

  close(): void {
    close(this.#fd)
  }

  #send(name: string, type: number, flags: number, payload: Uint8Array): void {
    this.#sequence = (this.#sequence + 1) >>> 0
    const message = { type, flags: request | flags, sequence: this.#sequence, payload }
    const size = encodeMessage(message, this.#arena.bytes.subarray(0, sendSize))
    const written = write(this.#fd, this.#arena.address, size)
    if (written < 0) throw new NetlinkError(name, -written, undefined)
  }

  /** Hands on the replies, copied, until the end; false when the kernel says they do not fit together. */
  #receive(name: string, handle: (bytes: Uint8Array, at: number) => void): boolean {
    let whole = true
    const address = this.#arena.address + sendSize
    for (;;) {
      const size = receiveInto(this.#fd, address, receiveSize, 0)
      if (size === eInterrupted) continue
      if (size < 0) throw new NetlinkError(name, -size, 'no answer from the kernel')
      const bytes = this.#arena.bytes.slice(sendSize, sendSize + size)
      const view = new DataView(bytes.buffer)
      for (let at = 0, length = 0; at + headerSize <= size; at += (length + 3) & ~3) {
        length = view.getUint32(at, true)
        if (length < headerSize || at + length > size) break
        if (view.getUint32(at + 8, true) !== this.#sequence) continue
        if (view.getUint16(at + 6, true) & flag.dumpInterrupted) whole = false
        const type = view.getUint16(at + 4, true)
        if (type === typeDone) {
          checkDone(name, messageAt(bytes, at))
          return whole
        }
        if (type !== typeError) {
          handle(bytes, at)
          continue
        }
        const { errno, reason } = decodeAck(messageAt(bytes, at))
        if (errno !== 0) throw new NetlinkError(name, errno, reason)
        return whole
      }
    }
  }
}

/** The end of a dump carries the errno that ended it early, if one did. */
function checkDone(name: string, { payload }: NetlinkMessage): void {
  const result = (payloadU32(payload) ?? 0) | 0
  if (result < 0) throw new NetlinkError(name, -result, undefined)
}

function ignore(): void {}

let shared: Arena | undefined

/** One for all sockets of a thread: each request is over before the next begins. */
function sharedArena(): Arena {
  shared ??= arena(sendSize + receiveSize)
  return shared
}
