/** Routes as rtnetlink tells them: struct rtmsg and its attributes, of linux/rtnetlink.h. */
import { formatCidr, formatIp } from '../packet/address.ts'
import { readU32 } from '../packet/bytes.ts'
import type { KernelRoute } from './link.ts'
import { decodeAttributes, findAttribute, payloadU32 } from './netlink.ts'

const inet = 2
const tableMain = 254
const routeUnicast = 1
const rta = { dst: 1, outInterface: 4, gateway: 5, multipath: 9, table: 15 }
// RTNH_F_DEAD, RTNH_F_LINKDOWN
const hopDown = 0x01 | 0x10

/** A unicast IPv4 route of the main table; undefined when the message is another's, or cut. */
export function decodeKernelRoute(payload: Uint8Array): KernelRoute | undefined {
  if (payload.length < 12 || payload[0] !== inet || payload[7] !== routeUnicast) return undefined
  const attributes = decodeAttributes(payload.subarray(12))
  const table = payloadU32(findAttribute(attributes, rta.table)) ?? payload[4]
  const prefixLength = payload[1] ?? 0
  if (table !== tableMain || prefixLength > 32) return undefined
  const address = findAttribute(attributes, rta.dst)
  if (address !== undefined && address.length !== 4) return undefined
  const dst = formatCidr({
    address: address === undefined ? 0 : readU32(address, 0),
    prefixLength,
  })
  const protocol = payload[5] ?? 0
  const hops = findAttribute(attributes, rta.multipath)
  if (hops !== undefined) return { dst, protocol, hops: decodeHops(hops) }
  const index = payloadU32(findAttribute(attributes, rta.outInterface)) ?? 0
  const gateway = gatewayText(findAttribute(attributes, rta.gateway))
  const isDown = ((payload[8] ?? 0) & hopDown) !== 0
  return { dst, protocol, hops: [{ gateway, index, isDown }] }
}

/** struct rtnexthop: u16 length, u8 flags, u8 hops, u32 interface, then attributes. */
function decodeHops(bytes: Uint8Array): KernelRoute['hops'] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const hops: KernelRoute['hops'][number][] = []
  for (let at = 0; at + 8 <= bytes.length; ) {
    const size = view.getUint16(at, true)
    if (size < 8 || at + size > bytes.length) break
    const attributes = decodeAttributes(bytes.subarray(at + 8, at + size))
    const gateway = gatewayText(findAttribute(attributes, rta.gateway))
    const isDown = (view.getUint8(at + 2) & hopDown) !== 0
    hops.push({ gateway, index: view.getUint32(at + 4, true), isDown })
    at += (size + 3) & ~3
  }
  return hops
}

function gatewayText(bytes: Uint8Array | undefined): string | undefined {
  return bytes?.length === 4 ? formatIp(readU32(bytes, 0)) : undefined
}
