/**
 * The host's connection tracking, as far as published ports need it: a UDP client that never pauses
 * keeps its entry alive, and with it the address that the port had before.
 *
 * linux/netfilter/nfnetlink.h, linux/netfilter/nfnetlink_conntrack.h
 */
import type { Connections } from './link.ts'
import {
  type Attribute,
  decodeAttributes,
  findAttribute,
  NetlinkError,
  NetlinkSocket,
  PayloadWriter,
} from './netlink.ts'

const netfilterProtocol = 12
const subsystem = 1 << 8 // NFNL_SUBSYS_CTNETLINK
const message = { get: subsystem | 1, delete: subsystem | 2 } as const
const afInet = 2
// enum ctattr_type, ctattr_tuple, ctattr_l4proto
const cta = { tupleOriginal: 1, id: 12 } as const
const tupleProtocol = 2
const protocolAttribute = { number: 1, destinationPort: 3 } as const

/** Opens the connection tracking of the thread's network namespace. @throws SystemCallError */
export function openConnections(): Connections {
  const socket = new NetlinkSocket(netfilterProtocol)
  return {
    forget(protocol, ports) {
      let forgotten = 0
      for (const { payload } of socket.dump('list connections', message.get, header().finish())) {
        const attributes = decodeAttributes(payload.subarray(4))
        if (isTo(attributes, protocol, ports)) forgotten += forgetOne(socket, attributes)
      }
      return forgotten
    },
  }
}

/** struct nfgenmsg */
function header(): PayloadWriter {
  return new PayloadWriter().u8(afInet).u8(0).u16(0)
}

function isTo(
  attributes: readonly Attribute[],
  protocol: number,
  ports: ReadonlySet<number>,
): boolean {
  const tuple = findAttribute(attributes, cta.tupleOriginal)
  const inner = tuple && findAttribute(decodeAttributes(tuple), tupleProtocol)
  if (inner === undefined) return false
  const fields = decodeAttributes(inner)
  const [high, low] = findAttribute(fields, protocolAttribute.destinationPort) ?? []
  if (high === undefined || low === undefined) return false
  const number = findAttribute(fields, protocolAttribute.number)?.[0]
  return number === protocol && ports.has((high << 8) | low)
}

/** One that has ended by itself meanwhile is as good. */
function forgetOne(socket: NetlinkSocket, attributes: readonly Attribute[]): number {
  const payload = header()
  const tuple = findAttribute(attributes, cta.tupleOriginal)
  const id = findAttribute(attributes, cta.id)
  if (tuple !== undefined) payload.nest(cta.tupleOriginal, (writer) => writer.bytes(tuple))
  if (id !== undefined) payload.attribute(cta.id, id)
  try {
    socket.change('forget connection', message.delete, 0, payload.finish())
    return 1
  } catch (error) {
    if (error instanceof NetlinkError && error.code === 'ENOENT') return 0
    throw error
  }
}
