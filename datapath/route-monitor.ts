/**
 * The routes of a namespace as they come and go: rtnetlink's notifications, which the kernel loses
 * when nobody reads them in time; then, and every so often, all routes are read anew.
 */
import { decodeKernelRoute } from './kernel-route.ts'
import type { KernelRoute, RouteMonitor } from './link.ts'
import { inNamespace } from './namespace.ts'
import { decodeMessages, NetlinkSocket, PayloadWriter } from './netlink.ts'
import { routeProtocol } from './rtnetlink.ts'
import {
  type Arena,
  arena,
  bind,
  check,
  close,
  eInterrupted,
  eNoBuffers,
  receiveInto,
  setSocketOption,
  socket,
} from './syscall.ts'

const newRoute = 24 // RTM_NEWROUTE
const delRoute = 25 // RTM_DELROUTE
const getRoute = 26 // RTM_GETROUTE
const afNetlink = 16
const inet = 2
const sockRawNonblockCloexec = 3 | 0x800 | 0x80000
const groupIpv4Route = 0x40 // RTMGRP_IPV4_ROUTE
const solSocket = 1
const forceReceiveBuffer = 33 // SO_RCVBUFFORCE

export const limits = {
  /** Bytes of notifications that wait: some ten thousand. */
  waitingSize: 16 * 1024 * 1024,
  receiveSize: 1 << 16,
  /** Datagrams taken in one look. */
  datagrams: 4_096,
} as const

/** Watches the IPv4 routes of a protocol in the namespace at `path`. @throws SystemCallError */
export function openRouteMonitor(path: string, protocol: number): RouteMonitor {
  return inNamespace(path, () => new Monitor(protocol))
}

class Monitor implements RouteMonitor {
  readonly #protocol: number
  readonly #fd: number
  readonly #socket: NetlinkSocket
  readonly #routes = new Map<string, KernelRoute>()

  constructor(protocol: number) {
    this.#protocol = protocol
    this.#fd = check('socket(AF_NETLINK)', socket(afNetlink, sockRawNonblockCloexec, 0))
    const address = new Uint8Array(12)
    address[0] = afNetlink
    address[8] = groupIpv4Route
    check('bind(AF_NETLINK)', bind(this.#fd, address))
    setSocketOption(this.#fd, solSocket, forceReceiveBuffer, limits.waitingSize)
    this.#socket = new NetlinkSocket(routeProtocol)
    this.readAll()
  }

  get routes(): ReadonlyMap<string, KernelRoute> {
    return this.#routes
  }

  poll(): boolean {
    const { bytes, address } = sharedArena()
    let changed = false
    for (let count = 0; count < limits.datagrams; count++) {
      const size = receiveInto(this.#fd, address, limits.receiveSize, 0)
      if (size === eInterrupted) continue
      if (size === eNoBuffers) {
        this.readAll()
        return true
      }
      // Nothing waits.
      if (size < 0) return changed
      for (const { type, payload } of decodeMessages(bytes.slice(0, size))) {
        if (type !== newRoute && type !== delRoute) continue
        changed = this.#take(type === newRoute, payload) || changed
      }
    }
    return changed
  }

  readAll(): void {
    const payload = new PayloadWriter().u8(inet).bytes(new Uint8Array(11)).finish()
    const replies = this.#socket.dump('list routes', getRoute, payload)
    this.#routes.clear()
    for (const { payload: reply } of replies) this.#take(true, reply)
  }

  close(): void {
    close(this.#fd)
    this.#socket.close()
  }

  #take(isNew: boolean, payload: Uint8Array): boolean {
    const route = decodeKernelRoute(payload)
    if (route === undefined || route.protocol !== this.#protocol) return false
    if (isNew) this.#routes.set(route.dst, route)
    else this.#routes.delete(route.dst)
    return true
  }
}

let shared: Arena | undefined

function sharedArena(): Arena {
  shared ??= arena(limits.receiveSize)
  return shared
}
