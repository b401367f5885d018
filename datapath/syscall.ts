/**
 * The door to the kernel: the system calls that Node lacks, through the C library. Nothing else
 * imports koffi. Calls return what the kernel returns, or an errno below zero; `check` makes that
 * an exception where it is one.
 *
 * Memory that the kernel reads or writes is an `Arena`: pages outside the garbage collector's
 * reach, seen through typed views. Arenas live as long as the process (a view into unmapped pages
 * would crash it), so they are made once and kept, never per message.
 */
import { getSystemErrorName } from 'node:util'
import koffi from 'koffi'

/** A system call failed; `code` is the errno's name. */
export class SystemCallError extends Error {
  override readonly name = 'SystemCallError'
  readonly code: string
  readonly errno: number

  constructor(call: string, errno: number) {
    const code = errnoName(errno)
    super(`${call}: ${code}`)
    this.code = code
    this.errno = errno
  }
}

/** Pages at a fixed address. */
export interface Arena {
  readonly address: number
  readonly size: number
  readonly bytes: Uint8Array<ArrayBuffer>
  readonly words: Uint32Array<ArrayBuffer>
  readonly view: DataView<ArrayBuffer>
}

const libc = koffi.load(null)

// Functions of errno's range answer -1 and leave the reason in errno; addresses are numbers, since
// a process's own stay below 2^47.
type Call = (...values: readonly (number | string | Uint8Array)[]) => number
const cSocket: Call = libc.func('int socket(int, int, int)')
const cBind: Call = libc.func('int bind(int, const uint8_t *, unsigned int)')
const cSetsockopt: Call = libc.func('int setsockopt(int, int, int, const uint8_t *, unsigned int)')
const cRecv: Call = libc.func('intptr_t recv(int, uintptr_t, size_t, int)')
const cRead: Call = libc.func('intptr_t read(int, uintptr_t, size_t)')
const cWrite: Call = libc.func('intptr_t write(int, uintptr_t, size_t)')
const cWritev: Call = libc.func('intptr_t writev(int, uintptr_t, int)')
const cPoll: Call = libc.func('int poll(uintptr_t, unsigned long, int)')
const cOpen: Call = libc.func('int open(const char *, int)')
const cClose: Call = libc.func('int close(int)')
const cIoctl: Call = libc.func('int ioctl(int, unsigned long, uintptr_t)')
const cMmap: Call = libc.func('intptr_t mmap(uintptr_t, size_t, int, int, int, int64_t)')
const cEventfd: Call = libc.func('int eventfd(unsigned int, int)')
const cSetns: Call = libc.func('int setns(int, int)')
const cUnshare: Call = libc.func('int unshare(int)')
const cSetrlimit: Call = libc.func('int setrlimit(int, const uint8_t *)')
const cNametoindex: Call = libc.func('unsigned int if_nametoindex(const char *)')
const cIndextoname: Call = libc.func('uintptr_t if_indextoname(unsigned int, uintptr_t)')
const cRecvmmsg: Call = libc.func('int recvmmsg(int, uintptr_t, unsigned int, int, uintptr_t)')
const cSendmmsg: Call = libc.func('int sendmmsg(int, uintptr_t, unsigned int, int)')
const cEpollCreate: Call = libc.func('int epoll_create1(int)')
const cEpollControl: Call = libc.func('int epoll_ctl(int, int, int, uintptr_t)')
const cEpollWait: Call = libc.func('int epoll_wait(int, uintptr_t, int, int)')
const cSyscall: Call = libc.func('long syscall(long, long, uintptr_t, long)')

/** Of the negative results below, the ones that callers ask for. */
export const eAgain = -11
export const eInterrupted = -4
export const eNoBuffers = -105

/** The name of an errno, such as `ENOSPC`. */
export function errnoName(errno: number): string {
  // Known inside the kernel only, but bpf(2) and netlink let it out: linux/errno.h.
  if (errno === 524) return 'ENOTSUPP'
  return getSystemErrorName(-errno)
}

/** The result of a call, or an exception that names the call. @throws SystemCallError */
export function check(call: string, result: number): number {
  if (result < 0) throw new SystemCallError(call, -result)
  return result
}

function settle(result: number): number {
  return result === -1 ? -koffi.errno() : result
}

export function socket(domain: number, type: number, protocol: number): number {
  return settle(cSocket(domain, type, protocol))
}

export function bind(fd: number, address: Uint8Array): number {
  return settle(cBind(fd, address, address.length))
}

export function setSocketOption(fd: number, level: number, option: number, value: number): number {
  const bytes = new Uint8Array(4)
  new DataView(bytes.buffer).setInt32(0, value, true)
  return setSocketOptionBytes(fd, level, option, bytes)
}

export function setSocketOptionBytes(
  fd: number,
  level: number,
  option: number,
  value: Uint8Array,
): number {
  return settle(cSetsockopt(fd, level, option, value, value.length))
}

export function receiveInto(fd: number, address: number, size: number, flags: number): number {
  return settle(cRecv(fd, address, size, flags))
}

/** `address` points to `count` of struct mmsghdr; says how many were filled. */
export function receiveMany(fd: number, address: number, count: number, flags: number): number {
  return settle(cRecvmmsg(fd, address, count, flags, 0))
}

/** `address` points to `count` of struct mmsghdr; says how many were sent. */
export function sendMany(fd: number, address: number, count: number, flags: number): number {
  return settle(cSendmmsg(fd, address, count, flags))
}

export function read(fd: number, address: number, size: number): number {
  return settle(cRead(fd, address, size))
}

export function write(fd: number, address: number, size: number): number {
  return settle(cWrite(fd, address, size))
}

/** `address` points to `count` of struct iovec. */
export function writeVector(fd: number, address: number, count: number): number {
  return settle(cWritev(fd, address, count))
}

/** `address` points to `count` of struct pollfd; a negative timeout waits for ever. */
export function poll(address: number, count: number, timeoutMs: number): number {
  return settle(cPoll(address, count, timeoutMs))
}

export function epollCreate(flags: number): number {
  return settle(cEpollCreate(flags))
}

/** `address` points to a struct epoll_event. */
export function epollControl(fd: number, command: number, other: number, address: number): number {
  return settle(cEpollControl(fd, command, other, address))
}

/** `address` points to room for `count` of struct epoll_event. */
export function epollWait(fd: number, address: number, count: number, timeoutMs: number): number {
  return settle(cEpollWait(fd, address, count, timeoutMs))
}

export function open(path: string, flags: number): number {
  return settle(cOpen(path, flags))
}

export function close(fd: number): number {
  return settle(cClose(fd))
}

export function ioctl(fd: number, request: number, argument: number): number {
  return settle(cIoctl(fd, request, argument))
}

export function eventfd(flags: number): number {
  return settle(cEventfd(0, flags))
}

/** Moves the calling thread, and no other, to the namespace. */
export function setNamespace(fd: number, type: number): number {
  return settle(cSetns(fd, type))
}

/** Moves the calling thread, and no other, to fresh namespaces. */
export function unshare(flags: number): number {
  return settle(cUnshare(flags))
}

/** Both limits at once; `Infinity` is no limit. */
export function setLimit(resource: number, value: number): number {
  const pair = new BigUint64Array(2)
  pair.fill(Number.isFinite(value) ? BigInt(value) : 0xffff_ffff_ffff_ffffn)
  return settle(cSetrlimit(resource, new Uint8Array(pair.buffer)))
}

/** An interface's index in the thread's network namespace, or an errno below zero. */
export function interfaceIndex(name: string): number {
  const index = cNametoindex(name)
  return index === 0 ? -koffi.errno() : index
}

let nameArena: Arena | undefined

/** The name of the interface with this index; undefined when there is none. */
export function interfaceName(index: number): string | undefined {
  nameArena ??= arena(4096)
  if (cIndextoname(index, nameArena.address) === 0) return undefined
  return Buffer.from(nameArena.bytes.subarray(0, nameArena.bytes.indexOf(0))).toString()
}

const bpfNumber = process.arch === 'arm64' ? 280 : 321

/** bpf(2): `address` points to a union bpf_attr of which `size` bytes count. */
export function bpf(command: number, address: number, size: number): number {
  return settle(cSyscall(bpfNumber, command, address, size))
}

// asm-generic/mman-common.h, the same on x86-64 and arm64.
const protReadWrite = 0x3
const mapShared = 0x01
const mapPrivateAnonymous = 0x22

/** Fresh zeroed memory. @throws SystemCallError */
export function arena(size: number): Arena {
  return map(size, mapPrivateAnonymous, -1)
}

/** Memory shared with a file's, or a BPF map's. @throws SystemCallError */
export function mapShare(fd: number, size: number): Arena {
  return map(size, mapShared, fd)
}

function map(size: number, flags: number, fd: number): Arena {
  const whole = Math.ceil(size / 4096) * 4096
  const address = check('mmap', settle(cMmap(0, whole, protReadWrite, flags, fd, 0)))
  const buffer = koffi.view(BigInt(address), whole)
  return {
    address,
    size: whole,
    bytes: new Uint8Array(buffer),
    words: new Uint32Array(buffer),
    view: new DataView(buffer),
  }
}
