/** TAP devices as a datapath's interfaces: a test writes what they receive and reads what they send. */
import { writeFileSync } from 'node:fs'
import { NetlinkSocket } from '../../datapath/netlink.ts'
import { raiseLink, routeProtocol } from '../../datapath/rtnetlink.ts'
import {
  type Arena,
  arena,
  check,
  close,
  eAgain,
  interfaceIndex,
  ioctl,
  open,
  poll,
  read,
  unshare,
  write,
} from '../../datapath/syscall.ts'

const newNetwork = 0x4000_0000 // sched.h: CLONE_NEWNET
const headerSize = 10 // struct virtio_net_hdr

let memory: Arena | undefined

function scratch(): Arena {
  memory ??= arena(1 << 18)
  return memory
}

/** Moves this thread, and no other, to a network namespace of its own, which ends with it. */
export function enterFreshNetwork(): void {
  check('unshare', unshare(newNetwork))
  writeFileSync('/proc/sys/net/ipv6/conf/default/disable_ipv6', '1')
  writeFileSync('/proc/sys/net/ipv6/conf/all/disable_ipv6', '1')
}

/** A frame and the virtio header it came with. */
export interface TapFrame {
  readonly header: Uint8Array<ArrayBuffer>
  readonly frame: Uint8Array
}

export class TapPort {
  readonly name: string
  readonly #fd: number

  /** `offloads` are the TUN_F_… bits: what the reader can complete itself. */
  constructor(name: string, offloads = 0) {
    this.name = name
    this.#fd = check('/dev/net/tun', open('/dev/net/tun', 2 | 0x800 | 0x80000))
    const { bytes, view, address } = scratch()
    bytes.fill(0, 0, 40)
    bytes.set(Buffer.from(name))
    view.setUint16(16, 0x5002, true)
    check('TUNSETIFF', ioctl(this.#fd, 0x400454ca, address))
    check('TUNSETOFFLOAD', ioctl(this.#fd, 0x400454d0, offloads))
    const links = new NetlinkSocket(routeProtocol)
    raiseLink(links, check('index', interfaceIndex(name)), { mtu: 9000, queueLength: 10_000 })
    links.close()
  }

  /** As if the interface received this frame, with the work that the header leaves to be done. */
  send(frame: Uint8Array, header: Uint8Array = new Uint8Array(headerSize)): void {
    const { bytes, address } = scratch()
    bytes.set(header)
    bytes.set(frame, headerSize)
    check('write', write(this.#fd, address, headerSize + frame.length))
  }

  /** What the interface has sent since the last call. */
  take(): readonly TapFrame[] {
    const { bytes, address, size } = scratch()
    const frames: TapFrame[] = []
    for (;;) {
      const count = read(this.#fd, address, size)
      if (count === eAgain) return frames
      check('read', count)
      frames.push({ header: bytes.slice(0, headerSize), frame: bytes.slice(headerSize, count) })
    }
  }

  /** Blocks until something is there to take, or the time is over. */
  wait(timeoutMs: number): void {
    const { view, address } = scratch()
    // struct pollfd: the descriptor, POLLIN, what happened.
    view.setInt32(0, this.#fd, true)
    view.setUint32(4, 1, true)
    poll(address, 1, timeoutMs)
  }

  close(): void {
    close(this.#fd)
  }
}
