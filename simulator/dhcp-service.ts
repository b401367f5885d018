/** Subnets and hosts of DHCP, compiled to what each bridge answers each MAC address with. */
import { parseCidr, parseIp, parseMac } from '../packet/address.ts'
import { encodeNamedOption } from '../packet/dhcp-named-option.ts'
import type { DhcpLease } from '../packet/dhcp-reply.ts'
import type { DhcpHost, DhcpSubnet } from '../topology/model.ts'
import type { Change } from '../topology/store.ts'
import type { VirtualBridge } from './bridge.ts'
import { noteDevice } from './facts.ts'
import { addressTag, dhcpTag, type Tag } from './tag.ts'

const daySeconds = 86_400

export class DhcpServices {
  readonly #subnets = new Map<string, DhcpSubnet>()
  readonly #hosts = new Map<string, DhcpHost>()
  /** Hosts' ids by subnet, and by MAC address. */
  readonly #bySubnet = new Map<string, Set<string>>()
  readonly #byMac = new Map<string, Set<string>>()

  /** Follows a batch; pushes the tags of what bridges do otherwise now. */
  apply(
    changes: readonly Change[],
    bridges: ReadonlyMap<string, VirtualBridge>,
    tags: Tag[],
  ): void {
    /** Bridges whose subnets changed, and MAC addresses whose hosts did. */
    const renewed = new Set<string>()
    const macs = new Set<string>()
    for (const change of changes) {
      if (change.kind === 'bridge') renewed.add(change.id)
      if (change.kind === 'dhcpSubnet') {
        for (const subnet of [this.#subnets.get(change.id), change.value])
          if (subnet !== undefined) renewed.add(subnet.bridge)
        if (change.value === undefined) this.#subnets.delete(change.id)
        else this.#subnets.set(change.id, change.value)
      }
      if (change.kind === 'dhcpHost') this.#changeHost(change.id, change.value, macs)
    }
    if (this.#subnets.size === 0 && renewed.size === 0) return
    for (const id of renewed) this.#renew(bridges.get(id), tags)
    for (const mac of macs)
      for (const bridge of this.#bridgesWith(bridges)) this.#lease(bridge, mac, tags)
  }

  #changeHost(id: string, value: DhcpHost | undefined, macs: Set<string>): void {
    const old = this.#hosts.get(id)
    if (old !== undefined) {
      this.#bySubnet.get(old.subnet)?.delete(id)
      this.#byMac.get(old.mac)?.delete(id)
      macs.add(old.mac)
      this.#hosts.delete(id)
    }
    if (value === undefined) return
    this.#hosts.set(id, value)
    enlist(this.#bySubnet, value.subnet, id)
    enlist(this.#byMac, value.mac, id)
    macs.add(value.mac)
  }

  *#bridgesWith(bridges: ReadonlyMap<string, VirtualBridge>): IterableIterator<VirtualBridge> {
    const ids = new Set([...this.#subnets.values()].map(({ bridge }) => bridge))
    for (const id of ids) {
      const bridge = bridges.get(id)
      if (bridge !== undefined) yield bridge
    }
  }

  /** All of a bridge anew: its servers, and its hosts. */
  #renew(bridge: VirtualBridge | undefined, tags: Tag[]): void {
    if (bridge === undefined) return
    const before = bridge.dhcp
    const subnets = this.#subnetsOf(bridge.id)
    const servers = subnets.map(serverOf).filter((server) => server !== undefined)
    bridge.dhcp = subnets.length === 0 ? undefined : { servers, leases: new Map() }
    if (String(before?.servers) !== String(bridge.dhcp?.servers)) {
      noteDevice(bridge, tags)
      for (const server of [...(before?.servers ?? []), ...servers])
        tags.push(addressTag(bridge.id, server))
    }
    for (const mac of before?.leases.keys() ?? []) tags.push(dhcpTag(bridge.id, mac))
    for (const { id } of subnets)
      for (const host of this.#bySubnet.get(id) ?? []) {
        const mac = this.#hosts.get(host)?.mac
        if (mac !== undefined) this.#lease(bridge, mac, tags)
      }
  }

  /** Those that answer, in the order of their ids: of two that know a client the first does. */
  #subnetsOf(bridge: string): readonly DhcpSubnet[] {
    return [...this.#subnets.values()]
      .filter((subnet) => subnet.enabled && subnet.bridge === bridge)
      .sort(({ id: a }, { id: b }) => (a < b ? -1 : 1))
  }

  #lease(bridge: VirtualBridge, text: string, tags: Tag[]): void {
    const { dhcp } = bridge
    const mac = parseMac(text)
    if (mac === undefined || dhcp === undefined) return
    const hosts = [...(this.#byMac.get(text) ?? [])].flatMap((id) => this.#hosts.get(id) ?? [])
    let lease: DhcpLease | undefined
    for (const subnet of this.#subnetsOf(bridge.id)) {
      const host = hosts.find((one) => one.subnet === subnet.id)
      if (host === undefined) continue
      lease = compileLease(subnet, host, bridge.mtu)
      break
    }
    if (lease === undefined) dhcp.leases.delete(mac)
    else dhcp.leases.set(mac, lease)
    tags.push(dhcpTag(bridge.id, mac))
  }
}

function serverOf({ server, gateway }: DhcpSubnet): number | undefined {
  return parseIp(server ?? gateway ?? '')
}

function compileLease(subnet: DhcpSubnet, host: DhcpHost, linkMtu: number): DhcpLease | undefined {
  const [mac, address, cidr] = [parseMac(host.mac), parseIp(host.address), parseCidr(subnet.subnet)]
  const server = serverOf(subnet)
  if (mac === undefined || address === undefined || cidr === undefined || server === undefined)
    return undefined
  const mtus = [subnet.mtu ?? 0, linkMtu].filter((mtu) => mtu !== 0)
  return {
    mac,
    address,
    prefixLength: cidr.prefixLength,
    server,
    gateway: subnet.gateway === undefined ? undefined : parseIp(subnet.gateway),
    dnsServers: (subnet.dnsServers ?? []).flatMap((text) => parseIp(text) ?? []),
    mtu: mtus.length === 0 ? undefined : Math.min(...mtus),
    routes: (subnet.routes ?? []).flatMap(({ dst, gateway }) => {
      const [network, via] = [parseCidr(dst), parseIp(gateway)]
      return network === undefined || via === undefined ? [] : [{ dst: network, gateway: via }]
    }),
    leaseSeconds: subnet.leaseSeconds ?? daySeconds,
    domain: subnet.domain,
    name: host.name,
    extra: (host.options ?? []).map(({ option, value }) => encodeNamedOption(option, value)),
  }
}

function enlist(index: Map<string, Set<string>>, name: string, id: string): void {
  const known = index.get(name)
  if (known === undefined) index.set(name, new Set([id]))
  else known.add(id)
}
