/**
 * Interfaces, addresses and routes of the network namespace of the thread, through rtnetlink.
 * Numbers without another source are of linux/rtnetlink.h and linux/if_link.h.
 */
import { writeFileSync } from 'node:fs'
import { formatCidr, formatMac, parseCidr, parseIp, parseMac } from '../packet/address.ts'
import { parseCidr6 } from '../packet/address6.ts'
import { readU32, writeU32, writeU48 } from '../packet/bytes.ts'
import { ip6Bytes, ip6Text } from './ip6-bytes.ts'
import { decodeKernelRoute } from './kernel-route.ts'
import { type HostRoute, type Link, LinkError, type Links, type VethRequest } from './link.ts'
import {
  decodeAttributes,
  findAttribute,
  flag,
  NetlinkError,
  type NetlinkMessage,
  NetlinkSocket,
  PayloadWriter,
  payloadText,
  payloadU32,
} from './netlink.ts'
import { settingFile } from './sysctl.ts'

/** NETLINK_ROUTE */
export const routeProtocol = 0

const message = {
  newLink: 16,
  delLink: 17,
  getLink: 18,
  newAddress: 20,
  getAddress: 22,
  newRoute: 24,
  delRoute: 25,
  getRoute: 26,
} as const
const ifla = {
  address: 1,
  name: 3,
  mtu: 4,
  link: 5,
  queueLength: 13,
  info: 18,
  stats64: 23,
  peerNamespace: 37,
}
const infoKind = 1
const infoData = 2
const vethInfoPeer = 1 // linux/veth.h
// linux/if.h: IFF_UP, IFF_LOWER_UP
const ifUp = 1
const ifLowerUp = 0x1_0000
const ifa = { address: 1, local: 2 }
const rta = { dst: 1, outInterface: 4, gateway: 5 }
const tableMain = 254
const protocolStatic = 4
const scopeLink = 253
const scopeNowhere = 255
const routeUnicast = 1
const inet = 2
const inet6 = 10
const flagNoDad = 0x02 // IFA_F_NODAD

/** Links of the thread's network namespace. @throws SystemCallError */
export function openLinks(): Links & { close(): void } {
  return new RouteLinks()
}

class RouteLinks implements Links {
  readonly #socket = new NetlinkSocket(routeProtocol)

  list(): readonly Link[] {
    return this.#guard(() => listLinks(this.#socket))
  }

  find(name: string): Link | undefined {
    const payload = new PayloadWriter().bytes(linkHeader(0)).attributeText(ifla.name, name).finish()
    return this.#guard(
      () => this.#socket.query(`find link ${name}`, message.getLink, payload).map(decodeLink)[0],
      // ERANGE: a name too long for any interface.
      ['ENODEV', 'ERANGE'],
    )
  }

  createVeth({ name, peerName, mac, peerMac, mtu }: VethRequest): void {
    const payload = new PayloadWriter().bytes(linkHeader(0, ifUp, ifUp))
    describeEnd(payload, name, mac, mtu).nest(ifla.info, (info) =>
      info.attributeText(infoKind, 'veth').nest(infoData, (data) =>
        data.nest(vethInfoPeer, (peer) => {
          describeEnd(peer.bytes(linkHeader(0)), peerName, peerMac, mtu)
        }),
      ),
    )
    this.#change(
      `create veth ${name}`,
      message.newLink,
      flag.create | flag.exclusive,
      payload.finish(),
    )
  }

  remove(name: string): void {
    const payload = new PayloadWriter().bytes(linkHeader(0)).attributeText(ifla.name, name).finish()
    this.#change(`remove link ${name}`, message.delLink, 0, payload, ['ENODEV', 'ERANGE'])
  }

  setUp(name: string): void {
    const payload = new PayloadWriter().bytes(linkHeader(0, ifUp, ifUp))
    this.#change(
      `set ${name} up`,
      message.newLink,
      0,
      payload.attributeText(ifla.name, name).finish(),
    )
  }

  setDown(name: string): void {
    const payload = new PayloadWriter().bytes(linkHeader(0, 0, ifUp))
    const request = payload.attributeText(ifla.name, name).finish()
    this.#change(`set ${name} down`, message.newLink, 0, request)
  }

  setMtu(name: string, mtu: number): void {
    const payload = new PayloadWriter().bytes(linkHeader(0)).attributeText(ifla.name, name)
    const request = payload.attributeU32(ifla.mtu, mtu).finish()
    this.#change(`set MTU ${mtu} of ${name}`, message.newLink, 0, request)
  }

  addAddress(name: string, cidr: string): void {
    const six = parseCidr6(cidr)
    const four = six ?? demand(parseCidr(cidr), `${cidr} is no address with prefix`)
    const bytes = six === undefined ? ipBytes(Number(four.address)) : ip6Bytes(six.address)
    const payload = new PayloadWriter().u8(six === undefined ? inet : inet6).u8(four.prefixLength)
    // Nobody else can have it: no wait for duplicate address detection.
    payload
      .u8(six === undefined ? 0 : flagNoDad)
      .u8(0)
      .u32(this.#index(name))
    payload.attribute(ifa.local, bytes).attribute(ifa.address, bytes)
    this.#change(
      `add ${cidr} to ${name}`,
      message.newAddress,
      flag.create | flag.exclusive,
      payload.finish(),
      ['EEXIST'],
    )
  }

  addresses(): readonly { readonly interface: string; readonly cidr: string }[] {
    const names = this.#names()
    const payload = new PayloadWriter().u8(inet).u8(0).u8(0).u8(0).u32(0).finish()
    const found: { readonly interface: string; readonly cidr: string }[] = []
    for (const reply of this.#guard(() =>
      this.#socket.dump('list addresses', message.getAddress, payload),
    )) {
      const attributes = decodeAttributes(reply.payload.subarray(8))
      const name = names.get(payloadU32(reply.payload.subarray(4)) ?? 0)
      const address = findAttribute(attributes, ifa.local) ?? findAttribute(attributes, ifa.address)
      if (name === undefined || address?.length !== 4) continue
      const prefixLength = reply.payload[1] ?? 0
      found.push({
        interface: name,
        cidr: formatCidr({ address: readU32(address, 0), prefixLength }),
      })
    }
    return found
  }

  addresses6(): readonly { readonly interface: string; readonly cidr: string }[] {
    const names = this.#names()
    const payload = new PayloadWriter().u8(inet6).u8(0).u8(0).u8(0).u32(0).finish()
    const replies = this.#guard(() =>
      this.#socket.dump('list addresses', message.getAddress, payload),
    )
    return replies.flatMap((reply) => {
      const attributes = decodeAttributes(reply.payload.subarray(8))
      const name = names.get(payloadU32(reply.payload.subarray(4)) ?? 0)
      const address = findAttribute(attributes, ifa.address)
      if (name === undefined || address?.length !== 16) return []
      return [{ interface: name, cidr: `${ip6Text(address)}/${reply.payload[1] ?? 0}` }]
    })
  }

  setRoute(route: HostRoute): void {
    const payload = this.#routePayload(route, route.gateway === undefined ? scopeLink : 0)
    const flags = flag.create | flag.replace
    this.#change(`set route to ${route.dst}`, message.newRoute, flags, payload)
  }

  removeRoute(route: HostRoute): void {
    if (route.interface !== undefined && this.find(route.interface) === undefined) return
    const payload = this.#routePayload(route, scopeNowhere)
    this.#change(`remove route to ${route.dst}`, message.delRoute, 0, payload, ['ESRCH'])
  }

  routes(): readonly HostRoute[] {
    const names = this.#names()
    const payload = new PayloadWriter().u8(inet).bytes(new Uint8Array(11)).finish()
    return this.#guard(() =>
      this.#socket.dump('list routes', message.getRoute, payload).flatMap((reply) => {
        const routes = decodeRoute(reply.payload)
        return routes.map(({ dst, gateway, index }) => ({
          dst,
          gateway,
          interface: names.get(index),
        }))
      }),
    )
  }

  close(): void {
    this.#socket.close()
  }

  #routePayload({ dst, gateway, interface: name }: HostRoute, scope: number): Uint8Array {
    const { address, prefixLength } = demand(parseCidr(dst), `${dst} is no IPv4 network`)
    const payload = new PayloadWriter().u8(inet).u8(prefixLength).u8(0).u8(0)
    // A removal names no protocol and no type: it takes the route whoever made it.
    const removal = scope === scopeNowhere
    payload.u8(tableMain).u8(removal ? 0 : protocolStatic)
    payload
      .u8(scope)
      .u8(removal ? 0 : routeUnicast)
      .u32(0)
    payload.attribute(rta.dst, ipBytes(address))
    if (gateway !== undefined) {
      const bytes = ipBytes(demand(parseIp(gateway), `${gateway} is no IPv4 address`))
      payload.attribute(rta.gateway, bytes)
    }
    if (name !== undefined) payload.attributeU32(rta.outInterface, this.#index(name))
    return payload.finish()
  }

  #names(): Map<number, string> {
    return new Map(this.list().map(({ index, name }) => [index, name]))
  }

  #index(name: string): number {
    const link = this.find(name)
    if (link === undefined) throw new LinkError('ENODEV', `no interface ${name}`)
    return link.index
  }

  #change(
    name: string,
    type: number,
    flags: number,
    payload: Uint8Array,
    harmless: readonly string[] = [],
  ): void {
    this.#guard(() => this.#socket.change(name, type, flags, payload), harmless)
  }

  /** Runs a request; a refusal becomes a LinkError, or nothing when it is a harmless one. */
  #guard<T>(run: () => T): T
  #guard<T>(run: () => T, harmless: readonly string[]): T | undefined
  #guard<T>(run: () => T, harmless: readonly string[] = []): T | undefined {
    try {
      return run()
    } catch (error) {
      if (!(error instanceof NetlinkError)) throw error
      if (harmless.includes(error.code)) return undefined
      throw new LinkError(error.code, error.message, { cause: error })
    }
  }
}

/** Stops the kernel from speaking IPv6 of its own accord on an interface that is only forwarded. */
export function silenceIpv6(name: string): void {
  try {
    writeFileSync(settingFile(`net/ipv6/conf/${name}/disable_ipv6`), '1')
  } catch {
    // No IPv6 in this kernel, or a read-only /proc: then there is less, or noise, but no harm.
  }
}

/** What the kernel counts at an interface: rtnl_link_stats64's tx_dropped. */
export function decodeTransmitDrops({ payload }: NetlinkMessage): number {
  const stats = findAttribute(decodeAttributes(payload.subarray(16)), ifla.stats64)
  if (stats === undefined || stats.length < 64) return 0
  return Number(new DataView(stats.buffer, stats.byteOffset).getBigUint64(56, true))
}

/** All links of the namespace that the socket was opened in. @throws NetlinkError */
export function listLinks(socket: NetlinkSocket): readonly Link[] {
  return socket.dump('list links', message.getLink, linkHeader(0)).map(decodeLink)
}

/** One request for what `decodeTransmitDrops` reads. */
export function queryLink(socket: NetlinkSocket, index: number): NetlinkMessage | undefined {
  return socket.query('read link', message.getLink, linkHeader(index))[0]
}

/** Sets a link up with an MTU and a transmit queue of `queueLength` packets. @throws NetlinkError */
export function raiseLink(
  socket: NetlinkSocket,
  index: number,
  change: { readonly mtu?: number; readonly queueLength?: number } = {},
): void {
  const payload = new PayloadWriter().bytes(linkHeader(index, ifUp, ifUp))
  if (change.mtu !== undefined) payload.attributeU32(ifla.mtu, change.mtu)
  if (change.queueLength !== undefined) payload.attributeU32(ifla.queueLength, change.queueLength)
  socket.change(`set link ${index} up`, message.newLink, 0, payload.finish())
}

/** Undefined when there is no such link. @throws NetlinkError */
export function readLink(socket: NetlinkSocket, index: number): Link | undefined {
  const reply = queryLink(socket, index)
  return reply && decodeLink(reply)
}

/** struct ifinfomsg */
export function linkHeader(index: number, flags = 0, change = 0): Uint8Array {
  return new PayloadWriter().u8(0).u8(0).u16(0).u32(index).u32(flags).u32(change).finish()
}

/** Attributes of one end of a veth pair to be made; without `mac` the kernel chooses. */
export function describeEnd(
  writer: PayloadWriter,
  name: string,
  mac: string | undefined,
  mtu: number,
): PayloadWriter {
  writer.attributeText(ifla.name, name).attributeU32(ifla.mtu, mtu)
  if (mac === undefined) return writer
  const bytes = new Uint8Array(6)
  writeU48(bytes, 0, demand(parseMac(mac), `${mac} is no MAC address`))
  return writer.attribute(ifla.address, bytes)
}

function decodeLink({ payload }: NetlinkMessage): Link {
  const view = new DataView(payload.buffer, payload.byteOffset, payload.byteLength)
  const attributes = decodeAttributes(payload.subarray(16))
  const info = findAttribute(attributes, ifla.info)
  const kind =
    info === undefined ? undefined : payloadText(findAttribute(decodeAttributes(info), infoKind))
  const address = findAttribute(attributes, ifla.address)
  const isVeth = kind === 'veth'
  return {
    index: view.getInt32(4, true),
    name: payloadText(findAttribute(attributes, ifla.name)) ?? '',
    mac: address?.length === 6 ? formatMac(macNumber(address)) : '',
    mtu: payloadU32(findAttribute(attributes, ifla.mtu)) ?? 0,
    up: (view.getUint32(8, true) & ifUp) !== 0,
    carrier: (view.getUint32(8, true) & ifLowerUp) !== 0,
    kind,
    peerIndex: isVeth ? payloadU32(findAttribute(attributes, ifla.link)) : undefined,
    peerElsewhere: isVeth && findAttribute(attributes, ifla.peerNamespace) !== undefined,
  }
}

interface IndexedRoute {
  readonly dst: string
  readonly gateway: string | undefined
  readonly index: number
}

/** Unicast routes of the main table, one for each next hop; none when the message is another's. */
function decodeRoute(payload: Uint8Array): readonly IndexedRoute[] {
  const route = decodeKernelRoute(payload)
  return route?.hops.map(({ gateway, index }) => ({ dst: route.dst, gateway, index })) ?? []
}

function macNumber(bytes: Uint8Array): number {
  return bytes.reduce((value, byte) => value * 256 + byte, 0)
}

function ipBytes(address: number): Uint8Array {
  const bytes = new Uint8Array(4)
  writeU32(bytes, 0, address)
  return bytes
}

function demand<T>(value: T | undefined, message: string): T {
  if (value === undefined) throw new LinkError('EINVAL', message)
  return value
}
