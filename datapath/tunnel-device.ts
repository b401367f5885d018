/**
 * Tunnel interfaces in external mode: the kernel sets up no tunnel of their own, each packet brings
 * its tunnel header along (action `setTunnel`), and what arrives is handed on with its header as
 * the key's `tunnelId` and `tunnelSrc`. One interface serves all peers.
 */
import { LinkError } from './link.ts'
import {
  decodeAttributes,
  findAttribute,
  flag,
  NetlinkError,
  type NetlinkSocket,
  PayloadWriter,
  payloadText,
} from './netlink.ts'

export interface TunnelDevice {
  readonly kind: 'vxlan' | 'gre' | 'geneve'
  readonly name: string
  /** UDP port; GRE has none. The default is IANA's. */
  readonly port?: number
}

/** UDP ports that IANA has given them. */
export const tunnelPorts = { vxlan: 4789, geneve: 6081 } as const

/** As large as the kernel allows: what fits is for the underlay to say, and for the overlay's MTU. */
const mtu = 65_000

// linux/if_link.h: IFLA_VXLAN_…, IFLA_GENEVE_…; linux/if_tunnel.h: IFLA_GRE_…
const vxlan = { learning: 7, port: 15, zeroChecksum6: 20, external: 25 } as const
const geneve = { port: 5, external: 6, zeroChecksum6: 10 } as const
const gre = { external: 18 } as const
const kinds = { vxlan: 'vxlan', gre: 'gretap', geneve: 'geneve' } as const

// linux/rtnetlink.h: RTM_…, IFLA_…; linux/if_link.h: IFLA_INFO_…
const message = { newLink: 16, delLink: 17, getLink: 18 } as const
const ifla = { name: 3, mtu: 4, info: 18 } as const
const [infoKind, infoData] = [1, 2]
/** struct ifinfomsg, empty: the name says which link is meant. */
const anyLink = new Uint8Array(16)

/** Makes the interface, or takes the one there is if it is the same. @throws LinkError */
export function ensureTunnelDevice(links: NetlinkSocket, device: TunnelDevice): void {
  const { kind, name } = device
  const named = (): PayloadWriter =>
    new PayloadWriter().bytes(anyLink).attributeText(ifla.name, name)
  try {
    const found = find(links, name, named())
    if (found !== undefined) {
      if (found.kind !== kinds[kind])
        throw new LinkError('EEXIST', `${name} is not a ${kind} interface: remove or rename it`)
      if (isSame(device, found.data)) return
      links.change(`remove ${name}`, message.delLink, 0, named().finish())
    }
    const payload = named().attributeU32(ifla.mtu, mtu)
    payload.nest(ifla.info, (info) =>
      info.attributeText(infoKind, kinds[kind]).nest(infoData, (data) => describe(device, data)),
    )
    const flags = flag.create | flag.exclusive
    links.change(`create ${kind} interface ${name}`, message.newLink, flags, payload.finish())
  } catch (error) {
    if (!(error instanceof NetlinkError)) throw error
    const hint = error.code === 'EOPNOTSUPP' ? ': this kernel has no such tunnels' : ''
    throw new LinkError(error.code, `${error.message}${hint}`, { cause: error })
  }
}

interface Found {
  readonly kind: string | undefined
  readonly data: Uint8Array
}

function find(links: NetlinkSocket, name: string, payload: PayloadWriter): Found | undefined {
  try {
    const [reply] = links.query(`find ${name}`, message.getLink, payload.finish())
    const attributes = decodeAttributes(reply?.payload.subarray(anyLink.length) ?? nothing)
    const info = decodeAttributes(findAttribute(attributes, ifla.info) ?? nothing)
    return {
      kind: payloadText(findAttribute(info, infoKind)),
      data: findAttribute(info, infoData) ?? nothing,
    }
  } catch (error) {
    if (error instanceof NetlinkError && error.code === 'ENODEV') return undefined
    throw error
  }
}

function describe({ kind, port }: TunnelDevice, data: PayloadWriter): void {
  switch (kind) {
    case 'vxlan':
      data.attribute(vxlan.learning, Uint8Array.of(0)).attribute(vxlan.external, one)
      data.attribute(vxlan.zeroChecksum6, one)
      data.attribute(vxlan.port, be16(port ?? tunnelPorts.vxlan))
      return
    case 'geneve':
      data.attribute(geneve.external, nothing).attribute(geneve.zeroChecksum6, one)
      data.attribute(geneve.port, be16(port ?? tunnelPorts.geneve))
      return
    case 'gre':
      data.attribute(gre.external, nothing)
  }
}

/** Whether an interface of the right kind is in external mode and on the right port. */
function isSame({ kind, port }: TunnelDevice, data: Uint8Array): boolean {
  const attributes = decodeAttributes(data)
  if (kind === 'gre') return findAttribute(attributes, gre.external) !== undefined
  const numbers = kind === 'vxlan' ? vxlan : geneve
  const external = findAttribute(attributes, numbers.external)
  const isExternal = kind === 'vxlan' ? external?.[0] === 1 : external !== undefined
  const [high = 0, low = 0] = findAttribute(attributes, numbers.port) ?? nothing
  return isExternal && high * 256 + low === (port ?? tunnelPorts[kind])
}

const nothing = new Uint8Array(0)
const one = Uint8Array.of(1)

function be16(value: number): Uint8Array {
  return Uint8Array.of(value >>> 8, value & 0xff)
}
