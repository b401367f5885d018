/**
 * The two interfaces between the kernel and the agent. Both are TAP devices that go with the
 * process: flows in the kernel outlive it, packets that need it are dropped until there is a new one.
 *
 * Frames pass with a struct virtio_net_hdr (linux/virtio_net.h) in front, which carries the work
 * that the sender left to the hardware: u8 flags, u8 gso_type, u16 hdr_len, u16 gso_size,
 * u16 csum_start, u16 csum_offset.
 */
import { DatapathError, type Upcall } from '../datapath.ts'
import type { NetlinkSocket } from '../netlink.ts'
import { raiseLink, silenceIpv6 } from '../rtnetlink.ts'
import {
  type Arena,
  arena,
  bind,
  check,
  close,
  eAgain,
  errnoName,
  interfaceIndex,
  ioctl,
  open,
  read,
  setSocketOption,
  socket,
  writeVector,
} from '../syscall.ts'
import { executeMark, upcallHeader, upcallMagic } from './layout.ts'

// fcntl.h: O_RDWR, O_NONBLOCK, O_CLOEXEC
const openFlags = 2 | 0x800 | 0x80000
// linux/if_tun.h: TUNSETIFF, TUNSETOFFLOAD; IFF_TAP, IFF_NO_PI, IFF_VNET_HDR;
// TUN_F_CSUM, TUN_F_TSO4, TUN_F_TSO6, TUN_F_TSO_ECN; TUN_F_USO4 and TUN_F_USO6 since 6.2
const setInterface = 0x400454ca
const setOffload = 0x400454d0
const tapFlags = 0x0002 | 0x1000 | 0x4000
const offloads = 0x0f
const offloadsUdp = 0x60

export const virtioHeaderSize = 10
/** The largest a TAP device may have: no frame of any vport is too large for `execute`. */
const mtuMax = 65_521
const queueLength = 8192
const tagSize = 4
const frameMax = 1 << 18

/** A TAP device that exists while its descriptor is open. */
export interface Tap {
  readonly fd: number
  readonly index: number
}

/** @throws DatapathError */
export function openTap(links: NetlinkSocket, name: string): Tap {
  const fd = open('/dev/net/tun', openFlags)
  if (fd < 0) throw tunRefusal(fd)
  try {
    const request = scratch()
    request.bytes.fill(0, 0, 40)
    request.bytes.set(Buffer.from(name))
    request.view.setUint16(16, tapFlags, true)
    const made = ioctl(fd, setInterface, request.address)
    if (made < 0) throw refusal(name, made)
    if (ioctl(fd, setOffload, offloads | offloadsUdp) < 0)
      check(`TUNSETOFFLOAD ${name}`, ioctl(fd, setOffload, offloads))
    silenceIpv6(name)
    const index = check(`index of ${name}`, interfaceIndex(name))
    raiseLink(links, index, { mtu: mtuMax, queueLength })
    return { fd, index }
  } catch (error) {
    close(fd)
    throw error
  }
}

function tunRefusal(result: number): DatapathError {
  const code = errnoName(-result)
  const advice =
    code === 'EACCES' || code === 'EPERM'
      ? 'run as root with CAP_BPF and CAP_NET_ADMIN'
      : 'load the tun module, or give the container that device'
  return new DatapathError(code, `/dev/net/tun: ${code}: ${advice}`)
}

function refusal(name: string, result: number): DatapathError {
  const code = errnoName(-result)
  if (code === 'EBUSY')
    return new DatapathError(code, `${name} is in use: another agent runs here; stop it first`)
  if (code === 'EPERM')
    return new DatapathError(
      code,
      `creating ${name}: EPERM: run as root with CAP_BPF and CAP_NET_ADMIN`,
    )
  return new DatapathError(code, `creating ${name}: ${code}`)
}

let small: Arena | undefined

function scratch(): Arena {
  small ??= arena(4096)
  return small
}

/** A packet for the agent, before its key is known. */
export interface Raw {
  readonly inPort: number
  readonly reason: Upcall['reason']
  /** 0 for a packet that came from no tunnel. */
  readonly tunnelId: number
  readonly tunnelSrc: number
  readonly packet: Uint8Array
  readonly offload: Uint8Array | undefined
}

/** Reads packets from the interface that our programs send them to. */
export class UpcallReader {
  readonly #fd: number
  readonly #memory: Arena = arena(frameMax)

  constructor(fd: number) {
    this.#fd = fd
  }

  /** The next packet, valid until the next call; `none` when none waits, `noise` when it is not ours. */
  next(): Raw | 'none' | 'noise' {
    const size = read(this.#fd, this.#memory.address, this.#memory.size)
    if (size === eAgain) return 'none'
    return decodeUpcall(this.#memory.bytes.subarray(0, check('reading an upcall', size))) ?? 'noise'
  }

  /** Where a packet that `next` gave stands, if it is in there. */
  addressOf(packet: Uint8Array): number | undefined {
    if (packet.buffer !== this.#memory.bytes.buffer) return undefined
    return this.#memory.address + packet.byteOffset
  }
}

/**
 * Takes off what stands before the frame, in place. The device has put a tag that the kernel kept
 * beside the frame to byte 12 of all; it belongs to byte 12 of the frame.
 */
export function decodeUpcall(bytes: Uint8Array): Raw | undefined {
  const start = virtioHeaderSize + upcallHeader.size
  if (bytes.length < start + 14) return undefined
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  if (view.getUint32(virtioHeaderSize + upcallHeader.magic, true) !== upcallMagic) return undefined
  const inPort = view.getUint32(virtioHeaderSize + upcallHeader.inPort, true)
  const reason = bytes[virtioHeaderSize + upcallHeader.reason] === 0 ? 'miss' : 'action'
  const isTagged = bytes[virtioHeaderSize + upcallHeader.tagged] !== 0
  const tunnelAt = virtioHeaderSize + (isTagged ? tagSize : 0)
  const tunnelId = view.getUint32(tunnelAt + upcallHeader.tunnelId, true)
  const tunnelSrc = view.getUint32(tunnelAt + upcallHeader.tunnelSrc, true)
  if (isTagged) {
    const tagAt = virtioHeaderSize + 12
    const tag = bytes.slice(tagAt, tagAt + tagSize)
    bytes.copyWithin(start, start + tagSize, start + tagSize + 12)
    bytes.set(tag, start + 12)
  }
  const offload = decodeOffload(bytes, view)
  return { inPort, reason, tunnelId, tunnelSrc, packet: bytes.subarray(start), offload }
}

/** The virtio header, with our own header's size taken off what counts from the start. */
function decodeOffload(bytes: Uint8Array, view: DataView): Uint8Array | undefined {
  const needsChecksum = (view.getUint8(0) & 1) !== 0
  const isSegmented = view.getUint8(1) !== 0
  if (!needsChecksum && !isSegmented) return undefined
  const headerSize = view.getUint16(2, true)
  view.setUint16(2, Math.max(0, headerSize - upcallHeader.size), true)
  if (needsChecksum) view.setUint16(6, view.getUint16(6, true) - upcallHeader.size, true)
  return bytes.subarray(0, virtioHeaderSize)
}

// bits/socket.h, linux/if_packet.h: AF_PACKET, SOCK_RAW and SOCK_CLOEXEC, SOL_PACKET,
// PACKET_VNET_HDR; asm-generic/socket.h: SO_SNDBUF, SO_MARK
const afPacket = 17
const rawCloexec = 3 | 0x80000
const solPacket = 263
const packetVnetHeader = 15
const solSocket = 1
const sendBuffer = 7
const mark = 36

/** Sends packets by the interface whose egress runs the program that carries out actions. */
export class PacketSender {
  readonly #fd: number
  readonly #memory: Arena = arena(4096 + frameMax)

  /** @throws SystemCallError */
  constructor(interfaceNumber: number) {
    // Protocol 0: this socket receives nothing.
    this.#fd = check('socket(AF_PACKET)', socket(afPacket, rawCloexec, 0))
    check('PACKET_VNET_HDR', setSocketOption(this.#fd, solPacket, packetVnetHeader, 1))
    check('SO_MARK', setSocketOption(this.#fd, solSocket, mark, executeMark))
    setSocketOption(this.#fd, solSocket, sendBuffer, 1 << 22)
    // struct sockaddr_ll, linux/if_packet.h: family, protocol, ifindex at 4.
    const address = new Uint8Array(20)
    const view = new DataView(address.buffer)
    view.setUint16(0, afPacket, true)
    view.setInt32(4, interfaceNumber, true)
    check('bind(AF_PACKET)', bind(this.#fd, address))
  }

  /** `at` is the packet's address when it stands in memory that the kernel can read as it is. */
  send(
    packet: Uint8Array,
    offload: Readonly<Uint8Array> | undefined,
    at: number | undefined,
  ): number {
    const { bytes, view, address } = this.#memory
    const [headerAt, packetAt] = [64, 4096]
    if (offload === undefined) bytes.fill(0, headerAt, headerAt + virtioHeaderSize)
    else bytes.set(offload.subarray(0, virtioHeaderSize), headerAt)
    if (at === undefined) bytes.set(packet, packetAt)
    // Two of struct iovec.
    view.setBigUint64(0, BigInt(address + headerAt), true)
    view.setBigUint64(8, BigInt(virtioHeaderSize), true)
    view.setBigUint64(16, BigInt(at ?? address + packetAt), true)
    view.setBigUint64(24, BigInt(packet.length), true)
    return writeVector(this.#fd, address, 2)
  }

  close(): void {
    close(this.#fd)
  }
}
