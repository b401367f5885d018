/**
 * Interfaces of a container's network namespace. A netlink socket belongs to the namespace in which
 * its thread opened it: the thread goes there for that moment, opens, and comes back before anything
 * else runs.
 * Numbers without another source are of linux/rtnetlink.h and linux/if_link.h.
 */
import { closeSync, fstatSync, openSync, statSync, writeFileSync } from 'node:fs'
import { networkOf, parseCidr, parseIp, parseIpv6 } from '../packet/address.ts'
import { networkOf6, parseCidr6 } from '../packet/address6.ts'
import { writeU32 } from '../packet/bytes.ts'
import { ip6Bytes, ip6Text } from './ip6-bytes.ts'
import {
  type ContainerLinks,
  type ContainerRoute,
  type Link,
  LinkError,
  type NamespaceFile,
  type VethRequest,
} from './link.ts'
import {
  decodeAttributes,
  findAttribute,
  flag,
  NetlinkError,
  NetlinkSocket,
  PayloadWriter,
  payloadU32,
} from './netlink.ts'
import { describeEnd, linkHeader, openLinks, routeProtocol } from './rtnetlink.ts'
import { setNamespace } from './syscall.ts'

const message = { newLink: 16, newRoute: 24, getRoute: 26 } as const
const ifla = { info: 18, namespaceFd: 28 } as const
const infoKind = 1
const infoData = 2
const vethInfoPeer = 1 // linux/veth.h
const ifUp = 1 // linux/if.h
const rta = { dst: 1, outInterface: 4, gateway: 5, priority: 6, metrics: 8, table: 15 } as const
const rtax = { mtu: 2, advmss: 8 } as const
const [tableMain, protocolStatic, scopeUniverse, scopeLink, routeUnicast] = [254, 4, 0, 253, 1]
const onLink = 4 // RTNH_F_ONLINK, linux/rtnetlink.h
const inet6 = 10
const cloneNewNet = 0x4000_0000 // linux/sched.h

/** Goes through the file to its namespace. @throws LinkError code `ENOENT`, `EINVAL` */
export function openContainer(file: NamespaceFile): ContainerLinks {
  const fd = openNamespace(file)
  try {
    return inNamespace(fd, () => new NamespaceLinks(fd))
  } catch (error) {
    closeSync(fd)
    throw error
  }
}

/** The other process's own descriptor is sure; by the path we may see another file than it does. */
function openNamespace({ path, pid, fd, device, inode }: NamespaceFile): number {
  for (const name of [`/proc/${pid}/fd/${fd}`, path]) {
    const stats = statSync(name, { throwIfNoEntry: false })
    // Namespaces are regular files of their own file system; opening a pipe would block.
    if (stats?.isFile() !== true || stats.dev !== device || stats.ino !== inode) continue
    const opened = openSync(name, 'r')
    const { dev, ino } = fstatSync(opened)
    if (dev === device && ino === inode) return opened
    closeSync(opened)
  }
  throw new LinkError('ENOENT', `there is no network namespace ${path}`)
}

/** Runs synchronous work with the thread in another network namespace. */
function inNamespace<T>(fd: number, work: () => T): T {
  const own = openSync('/proc/thread-self/ns/net', 'r')
  try {
    const result = setNamespace(fd, cloneNewNet)
    if (result < 0) throw new LinkError('EINVAL', 'the file is no network namespace')
    try {
      return work()
    } finally {
      // In a container's namespace the agent would take that container's links for the host's.
      if (setNamespace(own, cloneNewNet) < 0) process.abort()
    }
  } finally {
    closeSync(own)
  }
}

class NamespaceLinks implements ContainerLinks {
  readonly #fd: number
  readonly #links = openLinks()
  readonly #socket = new NetlinkSocket(routeProtocol)

  /** Called with the thread in the namespace. */
  constructor(fd: number) {
    this.#fd = fd
  }

  find(name: string): Link | undefined {
    return this.#links.find(name)
  }

  createVeth({ name, peerName, mac, peerMac, mtu }: VethRequest): void {
    const payload = new PayloadWriter().bytes(linkHeader(0, ifUp, ifUp))
    describeEnd(payload, name, mac, mtu).nest(ifla.info, (info) =>
      info.attribute(infoKind, Buffer.from('veth')).nest(infoData, (data) =>
        data.nest(vethInfoPeer, (peer) => {
          describeEnd(peer.bytes(linkHeader(0)), peerName, peerMac, mtu)
          peer.attributeU32(ifla.namespaceFd, this.#fd)
        }),
      ),
    )
    const host = new NetlinkSocket(routeProtocol)
    try {
      const flags = flag.create | flag.exclusive
      guard(() => host.change(`create veth ${name}`, message.newLink, flags, payload.finish()))
    } finally {
      host.close()
    }
  }

  setUp(name: string): void {
    this.#links.setUp(name)
  }

  addAddress(name: string, cidr: string): void {
    if (cidr.includes(':')) this.#write(`ipv6/conf/${name}/disable_ipv6`, '0')
    this.#links.addAddress(name, cidr)
  }

  addresses(name: string): readonly string[] {
    return [...this.#links.addresses(), ...this.#links.addresses6()]
      .filter((entry) => entry.interface === name)
      .map(({ cidr }) => cidr)
  }

  addRoute(name: string, route: ContainerRoute): boolean {
    const { index } = this.#require(name)
    const isDirect = route.gw === undefined || this.#isNear(name, route.gw)
    const payload = encodeRoute(route, index, isDirect ? 0 : onLink)
    const flags = flag.create | flag.exclusive
    try {
      guard(() =>
        this.#socket.change(`add route to ${route.dst}`, message.newRoute, flags, payload),
      )
      return true
    } catch (error) {
      if (error instanceof LinkError && error.code === 'EEXIST') return false
      throw error
    }
  }

  routes(name: string): readonly string[] {
    const { index } = this.#require(name)
    const four = this.#links.routes().filter((route) => route.interface === name)
    const payload = new PayloadWriter().u8(inet6).bytes(new Uint8Array(11)).finish()
    const replies = guard(() => this.#socket.dump('list routes', message.getRoute, payload))
    const six = replies.flatMap(({ payload: bytes }) => {
      const attributes = decodeAttributes(bytes.subarray(12))
      if (payloadU32(findAttribute(attributes, rta.outInterface)) !== index) return []
      const dst = findAttribute(attributes, rta.dst) ?? new Uint8Array(16)
      return [`${ip6Text(dst)}/${bytes[1] ?? 0}`]
    })
    return [...four.map(({ dst }) => dst), ...six]
  }

  close(): void {
    this.#links.close()
    this.#socket.close()
    closeSync(this.#fd)
  }

  #require(name: string): Link {
    const link = this.find(name)
    if (link !== undefined) return link
    throw new LinkError('ENODEV', `no interface ${name} in the network namespace`)
  }

  /** Whether an address is in a network of the interface's. */
  #isNear(name: string, address: string): boolean {
    const bits = address.includes(':') ? 128 : 32
    const value = addressValue(address)
    return this.addresses(name).some((cidr) => {
      const length = Number(cidr.split('/')[1])
      if (cidr.includes(':') !== (bits === 128)) return false
      const shift = BigInt(bits - length)
      return addressValue(cidr.split('/')[0] ?? '') >> shift === value >> shift
    })
  }

  #write(setting: string, value: string): void {
    inNamespace(this.#fd, () => {
      try {
        writeFileSync(`/proc/sys/net/${setting}`, value)
      } catch {
        // A kernel without IPv6 refuses the address itself, with its own reason.
      }
    })
  }
}

function addressValue(text: string): bigint {
  return text.includes(':') ? (parseIpv6(text) ?? 0n) : BigInt(parseIp(text) ?? 0)
}

/** struct rtmsg and its attributes. */
function encodeRoute(route: ContainerRoute, index: number, flags: number): Uint8Array {
  const { gw, mtu, advmss, priority, table = tableMain } = route
  const six = parseCidr6(route.dst)
  const four = parseCidr(route.dst)
  const prefixLength = six?.prefixLength ?? four?.prefixLength
  if (prefixLength === undefined) throw new LinkError('EINVAL', `${route.dst} is no network`)
  const scope = route.scope ?? (gw === undefined && six === undefined ? scopeLink : scopeUniverse)
  const payload = new PayloadWriter().u8(six === undefined ? 2 : inet6).u8(prefixLength)
  payload
    .u8(0)
    .u8(0)
    .u8(table < 256 ? table : 0)
    .u8(protocolStatic)
    .u8(scope)
    .u8(routeUnicast)
  payload.u32(flags)
  payload.attribute(
    rta.dst,
    six === undefined ? bytesOf(four === undefined ? 0 : networkOf(four)) : bytes6Of(six),
  )
  if (gw !== undefined) payload.attribute(rta.gateway, gatewayBytes(gw))
  payload.attributeU32(rta.outInterface, index).attributeU32(rta.table, table)
  if (priority !== undefined) payload.attributeU32(rta.priority, priority)
  if (mtu === undefined && advmss === undefined) return payload.finish()
  return payload
    .nest(rta.metrics, (metrics) => {
      if (mtu !== undefined) metrics.attributeU32(rtax.mtu, mtu)
      if (advmss !== undefined) metrics.attributeU32(rtax.advmss, advmss)
    })
    .finish()
}

function bytes6Of(cidr: { readonly address: bigint; readonly prefixLength: number }): Uint8Array {
  return ip6Bytes(networkOf6(cidr))
}

function gatewayBytes(text: string): Uint8Array {
  const six = text.includes(':') ? parseIpv6(text) : undefined
  if (six !== undefined) return ip6Bytes(six)
  const four = parseIp(text)
  if (four === undefined) throw new LinkError('EINVAL', `${text} is no address`)
  return bytesOf(four)
}

function bytesOf(address: number): Uint8Array {
  const bytes = new Uint8Array(4)
  writeU32(bytes, 0, address)
  return bytes
}

/** A refusal by the kernel becomes a LinkError. */
function guard<T>(run: () => T): T {
  try {
    return run()
  } catch (error) {
    if (!(error instanceof NetlinkError)) throw error
    throw new LinkError(error.code, error.message, { cause: error })
  }
}
