/** What the path to an address carries, as the kernel knows it from its routes. */
import { ip6Bytes } from './ip6-bytes.ts'
import {
  decodeAttributes,
  findAttribute,
  NetlinkError,
  type NetlinkSocket,
  PayloadWriter,
  payloadU32,
} from './netlink.ts'

// linux/rtnetlink.h, linux/if_link.h
const message = { getLink: 18, getRoute: 26 } as const
const inet6 = 10
const rta = { dst: 1, outInterface: 4, metrics: 8 } as const
const rtaxMtu = 2
const iflaMtu = 4

/**
 * The path MTU to an IPv6 address: what a router on the way has said (RFC 8201), else the MTU of the
 * link that packets leave by; 0 when there is no route. The socket is one of `routeProtocol`.
 */
export function pathMtu6(socket: NetlinkSocket, address: bigint): number {
  const header = new PayloadWriter().u8(inet6).u8(128).u8(0).u8(0).u32(0).u32(0)
  const request = header.attribute(rta.dst, ip6Bytes(address)).finish()
  try {
    const [reply] = socket.query('find the route to a host', message.getRoute, request)
    if (reply === undefined) return 0
    const route = decodeAttributes(reply.payload.subarray(12))
    const metrics = findAttribute(route, rta.metrics)
    const told = metrics && payloadU32(findAttribute(decodeAttributes(metrics), rtaxMtu))
    if (told !== undefined) return told
    return linkMtu(socket, payloadU32(findAttribute(route, rta.outInterface)) ?? 0)
  } catch (error) {
    if (error instanceof NetlinkError) return 0
    throw error
  }
}

function linkMtu(socket: NetlinkSocket, index: number): number {
  // struct ifinfomsg: the interface's index after four bytes.
  const request = new PayloadWriter().u32(0).u32(index).u32(0).u32(0).finish()
  const [reply] = socket.query('read link', message.getLink, request)
  if (reply === undefined) return 0
  return payloadU32(findAttribute(decodeAttributes(reply.payload.subarray(16)), iflaMtu)) ?? 0
}
