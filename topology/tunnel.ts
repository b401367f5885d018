/** Tunnel keys of ports, and what tunnels leave of the underlay's MTU. */
import { createHash } from 'node:crypto'
import { TopologyError } from './error.ts'
import { tunnelKeyMax } from './host-schema.ts'
import { tunnelKeyMark } from './mark.ts'
import type { Binding, Host, TunnelZone } from './model.ts'
import type { Draft, Reader } from './store.ts'

/** Keys tried before giving up: with half of all keys taken, one in 2^64 searches fails. */
const triesMax = 64

/** What stands between the underlay's MTU and the inner frame's payload, without IP's header. */
const overheads = {
  // Outer UDP and VXLAN, inner Ethernet.
  vxlan: 8 + 8 + 14,
  // GRE with a key, inner Ethernet.
  gre: 8 + 14,
  // Outer UDP and Geneve without options, inner Ethernet.
  geneve: 8 + 8 + 14,
} as const

/**
 * Binds a port to an interface, with a tunnel key of its own that no other port of the cluster
 * has. A port that is bound already keeps its key, also when it moves to another host.
 * @throws TopologyError when no key is free
 */
export function bindPort(draft: Draft, binding: Binding): Binding {
  const standing = draft.get('binding', binding.id)?.tunnelKey
  const kept = standing !== undefined && standing <= tunnelKeyMax ? standing : undefined
  const tunnelKey = binding.tunnelKey ?? kept ?? freeKey(draft, binding.id)
  const bound = { ...binding, tunnelKey }
  draft.put('binding', bound)
  return bound
}

/** The port's id says where the search begins, so hosts that allocate at once rarely collide. */
function freeKey(draft: Draft, port: string): number {
  for (let step = 0; step < triesMax; step++) {
    const hash = createHash('sha256').update(`${port}/${step}`).digest()
    const key = (hash.readUInt32BE(0) % tunnelKeyMax) + 1
    if (!draft.isClaimed(tunnelKeyMark(key))) return key
  }
  const message = `port ${port}: no tunnel key is free; delete ports that are not used any more`
  throw new TopologyError('CONFLICT', message)
}

/**
 * The largest MTU that fits into every tunnel of a host's zones: that of the interface with the
 * host's address in the zone, less the tunnel's headers. Undefined without zones.
 */
export function overlayMtu(reader: Reader, hostId: string): number | undefined {
  const mtus = reader
    .list('zoneMember')
    .filter(({ host }) => host === hostId)
    .flatMap(({ zone: zoneId, address }) => {
      const zone = reader.get('tunnelZone', zoneId)
      const underlay = mtuOf(reader.get('host', hostId), address)
      return zone === undefined || underlay === undefined
        ? []
        : [underlay - overheadOf(zone, address)]
    })
  return mtus.length === 0 ? undefined : Math.min(...mtus)
}

/** The smallest `overlayMtu` of all hosts: what a network that may be on each of them can carry. */
export function clusterMtu(reader: Reader): number | undefined {
  const hosts = new Set(reader.list('zoneMember').map(({ host }) => host))
  const mtus = [...hosts].flatMap((host) => overlayMtu(reader, host) ?? [])
  return mtus.length === 0 ? undefined : Math.min(...mtus)
}

/** The bytes that a zone's tunnel adds to a packet of the overlay. */
export function overheadOf({ encapsulation }: TunnelZone, address: string): number {
  return overheads[encapsulation] + (address.includes(':') ? 40 : 20)
}

function mtuOf(host: Host | undefined, address: string): number | undefined {
  return host?.interfaces?.find(({ addresses }) =>
    addresses.some((cidr) => cidr.slice(0, cidr.indexOf('/')) === address),
  )?.mtu
}
