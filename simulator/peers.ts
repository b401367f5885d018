/**
 * The other hosts: in which tunnel zones they are, which ports they have, and how a packet gets to
 * each. A host is reached through the first zone, by id, that both are in.
 *
 *   port ─ binding ─ host ─ zoneMember ─ tunnelZone ─ zoneMember ─ this host
 */
import type { Action } from '../packet/action.ts'
import { parseIp, parseIpv6 } from '../packet/address.ts'
import { tunnelSourceOf, type UnderlayAddress } from '../packet/tunnel-source.ts'
import type { Binding, TunnelZone } from '../topology/model.ts'
import type { Change } from '../topology/store.ts'
import { type Tag, tunnelKeyTag, tunnelSourceTag, vportTag } from './tag.ts'

/**
 * Bit of a tunnel key: the packet goes to all ports that the receiver has on the bridge of the port
 * that the rest of the key names.
 */
export const floodBit = 0x80_0000
/** Key of messages between agents, which name no port. */
export const stateKey = 0xff_ffff

/** A tunnel interface that zones need: one serves all zones of its kind and port. */
export interface TunnelNeed {
  readonly kind: TunnelZone['encapsulation']
  /** UDP port where it is not IANA's. */
  readonly port?: number
}

/**
 * What a packet through a tunnel over IPv6 is longer outside than inside: the headers of IPv6, of UDP
 * or none, of the tunnel, and of Ethernet within. Over IPv4 a router on the way cuts it.
 */
const overhead6: Readonly<Record<TunnelNeed['kind'], number>> = {
  vxlan: 40 + 8 + 8 + 14,
  geneve: 40 + 8 + 8 + 14,
  gre: 40 + 8 + 14,
}

/** The way to another host. */
export interface Way {
  readonly host: string
  readonly src: UnderlayAddress
  readonly dst: UnderlayAddress
  /** The largest IP packet that it takes; 0 when all that come by it may be cut on the way. */
  readonly mtu: number
  /** Out of the tunnel's vport. */
  readonly output: Action
}

/** Where packets for a port of another host go. */
export interface RemotePort {
  readonly host: string
  readonly key: number
  /** Whether the host's agent runs, as far as the store knows. */
  readonly isAlive: boolean
  /** Undefined while no tunnel leads there. */
  readonly way: Way | undefined
  /** Header of packets for this port, and of floods to all of the host's ports on its bridge. */
  readonly tunnel: Action | undefined
  readonly flood: Action | undefined
}

/** What comes out of a tunnel's vport. */
export interface TunnelEnd {
  readonly name: string
  /** Hosts by what `tunnelSrc` says. */
  readonly hosts: ReadonlyMap<number, string>
}

interface Zone {
  readonly need: TunnelNeed
  readonly members: Map<string, UnderlayAddress>
}

interface Bound {
  readonly host: string
  readonly key: number
}

interface Tunnel {
  readonly need: TunnelNeed
  vport: number
  readonly hosts: Map<number, string>
}

export class Peers {
  readonly #host: string
  readonly #zones = new Map<string, Zone>()
  readonly #alive = new Set<string>()
  readonly #bound = new Map<string, Bound>()
  readonly #portsOf = new Map<string, Set<string>>()
  /** This host's ports by key. */
  readonly #keys = new Map<number, string>()
  readonly #ways = new Map<string, Way>()
  /** What the underlay's paths to hosts carry, as far as it is known. */
  readonly #paths = new Map<string, number>()
  readonly #tunnels = new Map<string, Tunnel>()
  readonly #ends = new Map<number, TunnelEnd>()

  constructor(host: string) {
    this.#host = host
  }

  /** The tunnels that this host's zones need, by name. */
  get needs(): ReadonlyMap<string, TunnelNeed> {
    return new Map([...this.#tunnels].map(([name, { need }]) => [name, need]))
  }

  /** The way to every host that can be reached. */
  get ways(): ReadonlyMap<string, Way> {
    return this.#ways
  }

  tunnelOf(vport: number): TunnelEnd | undefined {
    return this.#ends.get(vport)
  }

  /** The port of this host that a tunnel key names. */
  portOfKey(key: number): string | undefined {
    return this.#keys.get(key)
  }

  isBound(port: string): boolean {
    return this.#bound.has(port)
  }

  /** Undefined for ports of this host, and for those that no host has. */
  remoteOf(port: string): RemotePort | undefined {
    const bound = this.#bound.get(port)
    if (bound === undefined || bound.host === this.#host) return undefined
    const { host, key } = bound
    const way = key === 0 ? undefined : this.#ways.get(host)
    const header = (id: number): Action | undefined =>
      way && Object.freeze({ kind: 'setTunnel', id, dst: way.dst, src: way.src })
    const isAlive = this.#alive.has(host)
    return { host, key, isAlive, way, tunnel: header(key), flood: header(floodBit | key) }
  }

  /** Follows the store. Returns the ports that are reached otherwise now. */
  apply(changes: readonly Change[], tags: Tag[]): ReadonlySet<string> {
    const moved = new Set<string>()
    let isOther = false
    for (const change of changes) {
      switch (change.kind) {
        case 'binding':
          if (this.#bind(change.id, change.value, tags)) moved.add(change.id)
          break
        case 'hostAlive':
          if (change.value === undefined) this.#alive.delete(change.id)
          else this.#alive.add(change.id)
          for (const port of this.#portsOf.get(change.id) ?? []) moved.add(port)
          break
        case 'tunnelZone':
          this.#changeZone(change.id, change.value)
          isOther = true
          break
        case 'zoneMember':
          this.#changeMember(change)
          isOther = true
          break
        default:
      }
    }
    if (isOther) this.#reconsider(moved, tags)
    return moved
  }

  /** Says which vport, 0 for none, a tunnel has. Returns the ports that are reached otherwise. */
  setVport(name: string, vport: number, tags: Tag[]): ReadonlySet<string> {
    const moved = new Set<string>()
    const tunnel = this.#tunnels.get(name)
    if (tunnel === undefined || tunnel.vport === vport) return moved
    if (tunnel.vport !== 0) this.#unplug(tunnel.vport, tags)
    tunnel.vport = vport
    if (vport !== 0) {
      this.#ends.set(vport, { name, hosts: tunnel.hosts })
      tags.push(vportTag(vport))
    }
    this.#findWays(moved)
    return moved
  }

  /** Says what the underlay's path to a host carries, 0 for unknown. As `setVport`. */
  setPathMtu(host: string, mtu: number): ReadonlySet<string> {
    const moved = new Set<string>()
    if ((this.#paths.get(host) ?? 0) === mtu) return moved
    if (mtu === 0) this.#paths.delete(host)
    else this.#paths.set(host, mtu)
    this.#findWays(moved)
    return moved
  }

  #unplug(vport: number, tags: Tag[]): void {
    this.#ends.delete(vport)
    tags.push(vportTag(vport))
  }

  /** Whether another host has the port now, or by another key, or nobody. */
  #bind(port: string, binding: Binding | undefined, tags: Tag[]): boolean {
    const old = this.#bound.get(port)
    const { host = '', tunnelKey = 0 } = binding ?? {}
    const key = tunnelKey < floodBit ? tunnelKey : 0
    if (old?.host === binding?.host && old?.key === key) return false
    if (old !== undefined) {
      this.#bound.delete(port)
      this.#portsOf.get(old.host)?.delete(port)
      if (this.#keys.get(old.key) === port) this.#keys.delete(old.key)
      tags.push(tunnelKeyTag(old.key))
    }
    if (binding === undefined) return true
    this.#bound.set(port, { host, key })
    const ports = this.#portsOf.get(host) ?? new Set()
    this.#portsOf.set(host, ports.add(port))
    if (host === this.#host && key !== 0) this.#keys.set(key, port)
    tags.push(tunnelKeyTag(key))
    return true
  }

  #changeZone(id: string, value: TunnelZone | undefined): void {
    const members = this.#zones.get(id)?.members ?? new Map()
    if (value === undefined) this.#zones.delete(id)
    else {
      const { encapsulation: kind, udpPort: port } = value
      this.#zones.set(id, { need: port === undefined ? { kind } : { kind, port }, members })
    }
  }

  #changeMember({ value, before }: Extract<Change, { kind: 'zoneMember' }>): void {
    const member = value ?? before
    if (member === undefined) return
    // Of a batch that holds both, the zone may come later.
    const zone = this.#zones.get(member.zone) ?? { need: { kind: 'vxlan' }, members: new Map() }
    this.#zones.set(member.zone, zone)
    const address = value && (parseIp(value.address) ?? parseIpv6(value.address))
    if (address === undefined) zone.members.delete(member.host)
    else zone.members.set(member.host, address)
  }

  /** Tunnels, whom they are to hear, and the ways to hosts, from the zones as they are. */
  #reconsider(moved: Set<string>, tags: Tag[]): void {
    const heard = new Map<string, Map<number, string>>()
    for (const { need, members } of this.#ownZones()) {
      const name = nameOf(need)
      const hosts = heard.get(name) ?? new Map()
      heard.set(name, hosts)
      for (const [host, address] of members)
        if (host !== this.#host) hosts.set(tunnelSourceOf(address), host)
      if (!this.#tunnels.has(name)) this.#tunnels.set(name, { need, vport: 0, hosts: new Map() })
    }
    for (const [name, tunnel] of this.#tunnels) {
      const hosts = heard.get(name)
      const sources = new Set([...tunnel.hosts.keys(), ...(hosts?.keys() ?? [])])
      for (const source of sources) {
        const host = hosts?.get(source)
        if (host === tunnel.hosts.get(source)) continue
        tags.push(tunnelSourceTag(name, source))
        if (host === undefined) tunnel.hosts.delete(source)
        else tunnel.hosts.set(source, host)
      }
      if (hosts !== undefined) continue
      if (tunnel.vport !== 0) this.#unplug(tunnel.vport, tags)
      this.#tunnels.delete(name)
    }
    this.#findWays(moved)
  }

  /** The zones that this host is in, in order of id. */
  #ownZones(): readonly Zone[] {
    return [...this.#zones]
      .filter(([, { members }]) => members.has(this.#host))
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([, zone]) => zone)
  }

  #findWays(moved: Set<string>): void {
    const ways = new Map<string, Way>()
    for (const { need, members } of this.#ownZones()) {
      const vport = this.#tunnels.get(nameOf(need))?.vport ?? 0
      const src = members.get(this.#host)
      if (vport === 0 || src === undefined) continue
      const output = Object.freeze({ kind: 'output', port: vport } as const)
      for (const [host, dst] of members) {
        if (host === this.#host || ways.has(host)) continue
        const path = typeof dst === 'bigint' ? (this.#paths.get(host) ?? 0) : 0
        const mtu = path === 0 ? 0 : path - overhead6[need.kind]
        ways.set(host, { host, src, dst, mtu, output })
      }
    }
    for (const host of new Set([...ways.keys(), ...this.#ways.keys()])) {
      const way = ways.get(host)
      if (isSame(way, this.#ways.get(host))) continue
      if (way === undefined) this.#ways.delete(host)
      else this.#ways.set(host, way)
      for (const port of this.#portsOf.get(host) ?? []) moved.add(port)
    }
  }
}

/** Names a tunnel, and its interface. */
export function nameOf({ kind, port }: TunnelNeed): string {
  return `mt-${kind}${port ?? ''}`
}

function isSame(a: Way | undefined, b: Way | undefined): boolean {
  if (a === undefined || b === undefined) return a === b
  const isSamePath = a.src === b.src && a.dst === b.dst && a.mtu === b.mtu
  return isSamePath && equalOutputs(a.output, b.output)
}

function equalOutputs(a: Action, b: Action): boolean {
  return a.kind === 'output' && b.kind === 'output' && a.port === b.port
}
