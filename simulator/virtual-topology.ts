/**
 * The forwarding side's own topology: the objects of the store compiled to devices that refer to
 * each other directly, with addresses as numbers and tags and actions ready made.
 *
 * It follows the store by ordered batches. Within a batch what goes is taken out first and what
 * comes is put in afterwards, so that an address can move from one port to another in one batch.
 */
import { parseIp, parseMac } from '../packet/address.ts'
import type { Binding, BridgePort, LearnedRoute, Port, Route } from '../topology/model.ts'
import type { Change, ChangeBatch } from '../topology/store.ts'
import { Balancers } from './balancers.ts'
import type { VirtualBridge } from './bridge.ts'
import { forgetLearned, joinBridge, leaveBridge } from './bridge-ports.ts'
import {
  compileBridge,
  compileBridgePort,
  compileFilters,
  compileRouter,
  compileRouterPort,
} from './compile.ts'
import { isSameDevice, wordsOf } from './config.ts'
import * as facts from './facts.ts'
import { addAddress6, removeAddress6 } from './facts6.ts'
import type { Filtered } from './filter.ts'
import { FlowState } from './flow-state.ts'
import { Foreign } from './foreign.ts'
import { Peers, type TunnelEnd } from './peers.ts'
import { Policies } from './policy.ts'
import type { VirtualBridgePort, VirtualPort } from './port.ts'
import type { VirtualRouter, VirtualRouterPort } from './router.ts'
import { addLocalRoutes, ConfiguredRoutes, removeRoutes } from './routes.ts'
import { Services } from './services.ts'
import { Speakers } from './speakers.ts'
import { StatePeers } from './state-peers.ts'
import { type Tag, vportTag } from './tag.ts'
import { Zones } from './zones.ts'

type ChangeOf<K extends Change['kind']> = Extract<Change, { kind: K }>

/** What a batch leads to: flows to remove, bindings to look at again. */
export interface TopologyChange {
  readonly tags: readonly Tag[]
  /** Ids of ports whose binding on this host came, went or changed. */
  readonly bindings: readonly string[]
  /** Ports that came to this host from another, and which that was. */
  readonly moved: readonly (readonly [port: string, from: string])[]
}

export class VirtualTopology {
  readonly host: string
  readonly bridges = new Map<string, VirtualBridge>()
  readonly routers = new Map<string, VirtualRouter>()
  readonly ports = new Map<string, VirtualPort>()
  /** Bindings of this host by port id. */
  readonly bindings = new Map<string, Binding>()
  readonly policies = new Policies((id) => this.ports.get(id))
  readonly state = new FlowState()
  readonly statePeers: StatePeers
  readonly zones = new Zones(this.state, this.policies.memberships)
  readonly services = new Services()
  readonly balancers = new Balancers()
  readonly #speakers = new Speakers()
  readonly peers: Peers
  readonly foreign: Foreign
  readonly #configs = new Map<string, Port>()
  readonly #hosts = new Set<string>()
  readonly #routes = new ConfiguredRoutes()
  readonly #byVport = new Map<number, VirtualPort>()
  readonly #vports = new Map<string, number>()
  #tags: Tag[] = []

  constructor(host: string) {
    this.host = host
    this.peers = new Peers(host)
    this.foreign = new Foreign(host)
    this.statePeers = new StatePeers(host)
  }

  /** Whether this is the one of all hosts that does what any could. */
  get isFirstHost(): boolean {
    return [...this.#hosts].every((other) => this.host <= other)
  }

  portOf(vport: number): VirtualPort | undefined {
    return this.#byVport.get(vport | 0)
  }

  /** The port that the routing daemon behind a vport speaks for. */
  spokenFor(vport: number): VirtualRouterPort | undefined {
    return this.#speakers.portOf(vport)
  }

  /** Facts that packets taught: MAC addresses of bridges, neighbours of router ports. */
  countLearned(): number {
    let count = 0
    for (const bridge of this.bridges.values()) count += bridge.learnedMacs
    for (const port of this.ports.values())
      if (port.kind === 'router') count += port.learned.size + (port.six?.learned.size ?? 0)
    return count
  }

  apply(batch: ChangeBatch): TopologyChange {
    const { changes } = batch
    const bindings: string[] = []
    this.policies.apply(changes, this.#tags)
    const moved = this.statePeers.apply(changes)
    this.#changeHosts(changes)
    for (const change of changes) {
      if (change.kind === 'route') this.#routes.remove(change.id, this.#tags)
      if (change.kind === 'learnedRoute') this.#routes.remove(learnedId(change.id), this.#tags)
      if (change.kind === 'binding') this.#changeBinding(change, bindings)
    }
    this.#reach(this.peers.apply(changes, this.#tags))
    const renewed = changes
      .filter((change) => change.kind === 'port')
      .filter(({ id, value }) => JSON.stringify(this.#configs.get(id)) !== JSON.stringify(value))
    for (const change of renewed) this.#removePort(change)
    for (const change of changes) {
      if (change.kind === 'bridge') this.#changeBridge(change)
      if (change.kind === 'router') this.#changeRouter(change)
      if (change.value === undefined) this.zones.drop(change.kind, change.id)
    }
    for (const { value } of renewed) if (value !== undefined) this.#addPort(value)
    for (const { id } of renewed) this.#linkPort(id)
    const ids = renewed.map(({ id }) => id)
    this.foreign.apply(changes, ids, this.ports, this.#tags)
    for (const change of changes)
      if (change.kind === 'route' && change.value !== undefined) this.#addRoute(change.value)
      else if (change.kind === 'learnedRoute' && change.value !== undefined)
        this.#addRoute(learnedRoute(change.value))
    this.#speakers.apply(changes, this, this.#tags, bindings)
    this.services.apply(changes, this, this.#tags)
    this.balancers.apply(changes, this.routers, this.#tags)
    return { tags: this.#takeTags(), bindings, moved }
  }

  /** Says which vport, 0 for none, a port of this host has. */
  setVport(id: string, vport: number): readonly Tag[] {
    const spoken = this.#speakers.setVport(id, vport)
    if (spoken !== undefined) return spoken
    const old = this.#vports.get(id) ?? 0
    if (old === vport) return []
    if (vport === 0) this.#vports.delete(id)
    else this.#vports.set(id, vport)
    if (this.#byVport.get(old)?.id === id) this.#byVport.delete(old)
    const port = this.ports.get(id)
    if (port !== undefined) this.#plug(port)
    if (old !== 0) this.#tags.push(vportTag(old))
    return this.#takeTags()
  }

  /** The tunnel that a vport is the end of. */
  tunnelOf(vport: number): TunnelEnd | undefined {
    return this.peers.tunnelOf(vport)
  }

  /** The port of this host that a tunnel key names. */
  portOfKey(key: number): VirtualPort | undefined {
    const id = this.peers.portOfKey(key)
    return id === undefined ? undefined : this.ports.get(id)
  }

  /** Says which vport, 0 for none, a tunnel of this host has. */
  setTunnel(name: string, vport: number): readonly Tag[] {
    this.#reach(this.peers.setVport(name, vport, this.#tags))
    return this.#takeTags()
  }

  /** Says what the underlay's path to a host carries, 0 for unknown. */
  setPathMtu(host: string, mtu: number): readonly Tag[] {
    this.#reach(this.peers.setPathMtu(host, mtu))
    return this.#takeTags()
  }

  /** Notes that other hosts' ports are reached otherwise, or are other hosts' now. */
  #reach(moved: ReadonlySet<string>): void {
    for (const id of moved) {
      const port = this.ports.get(id)
      if (port === undefined) continue
      const wasHere = port.remote === undefined
      port.bound = this.peers.isBound(id)
      port.remote = this.peers.remoteOf(id)
      if (!wasHere || port.remote !== undefined) facts.notePort(port, this.#tags)
    }
  }

  #plug(port: VirtualPort): void {
    const vport = this.#vports.get(port.id) ?? 0
    if (vport === port.vport) return
    port.vport = vport
    port.output = vport === 0 ? undefined : Object.freeze({ kind: 'output', port: vport })
    if (vport !== 0) {
      this.#byVport.set(vport, port)
      this.#tags.push(vportTag(vport))
    } else if (port.kind === 'bridge') forgetLearned(port, this.#tags)
    facts.notePort(port, this.#tags)
  }

  #takeTags(): Tag[] {
    const tags = this.#tags
    this.#tags = []
    return tags
  }

  #changeBinding({ id, value }: ChangeOf<'binding'>, bindings: string[]): void {
    const isOurs = value?.host === this.host
    if (isOurs || this.bindings.has(id)) bindings.push(id)
    if (isOurs) this.bindings.set(id, value)
    else this.bindings.delete(id)
  }

  #changeBridge({ id, value }: ChangeOf<'bridge'>): void {
    const bridge = this.bridges.get(id)
    if (value === undefined) this.bridges.delete(id)
    else if (bridge === undefined)
      this.bridges.set(id, compileBridge(value, this.zones.of('bridge', id)))
    else {
      bridge.name = value.name ?? id
      const isSame = bridge.adminUp === value.adminUp && !this.#refilter(bridge, value)
      if (isSame) return
      bridge.adminUp = value.adminUp
    }
    if (value !== undefined) this.#filter(this.bridges.get(id), value)
    if (bridge !== undefined) facts.noteDevice(bridge, this.#tags)
  }

  #changeRouter({ id, value }: ChangeOf<'router'>): void {
    const router = this.routers.get(id)
    if (value === undefined) this.routers.delete(id)
    else if (router === undefined)
      this.routers.set(id, compileRouter(value, this.zones.of('router', id)))
    else {
      router.name = value.name ?? id
      const isSame = router.adminUp === value.adminUp && !this.#refilter(router, value)
      if (isSame) return
      router.adminUp = value.adminUp
    }
    if (value !== undefined) this.#filter(this.routers.get(id), value)
    if (router !== undefined) facts.noteDevice(router, this.#tags)
  }

  /** Takes out what is to go or to be made anew; of a port with new stations only these. */
  #removePort({ id, value }: ChangeOf<'port'>): void {
    const port = this.ports.get(id)
    const config = this.#configs.get(id)
    if (port === undefined || config === undefined) return
    if (port.kind === 'bridge' && config.kind === 'bridge') this.#removeStations(port, config)
    if (value !== undefined && isSameDevice(config, value)) return
    if (port.peer !== undefined) facts.unlinkPorts(port, port.peer, this.#tags)
    if (port.kind === 'bridge') leaveBridge(port, this.#tags)
    else this.#leaveRouter(port)
    if (port.vport !== 0) {
      this.#byVport.delete(port.vport)
      this.#tags.push(vportTag(port.vport))
    }
    this.ports.delete(id)
    this.#configs.delete(id)
    this.#tags.push(port.tag)
  }

  #leaveRouter(port: VirtualRouterPort): void {
    port.router.ports.delete(port)
    port.learned.clear()
    port.six?.learned.clear()
    removeRoutes(port, this.#tags)
  }

  #addPort(value: Port): void {
    const known = this.ports.get(value.id)
    const port = known ?? this.#makePort(value)
    if (port === undefined) return
    this.#configs.set(value.id, value)
    if (port.kind === 'bridge' && value.kind === 'bridge') this.#addStations(port, value)
    if (known !== undefined) {
      this.#refilterPort(known, value)
      return
    }
    this.#filter(port, value)
    port.bound = this.peers.isBound(value.id)
    port.remote = this.peers.remoteOf(value.id)
    this.ports.set(value.id, port)
    this.#tags.push(port.tag)
    this.#plug(port)
    // Its binding may have come before it, or with it.
    if (port.remote !== undefined) facts.notePort(port, this.#tags)
  }

  #makePort(value: Port): VirtualPort | undefined {
    if (value.kind === 'bridge') {
      const bridge = this.bridges.get(value.bridge)
      if (bridge === undefined) return undefined
      const port = compileBridgePort(value, bridge, this.zones.of('port', value.id))
      joinBridge(port, this.#tags)
      return port
    }
    const router = this.routers.get(value.router)
    if (router === undefined) return undefined
    const port = compileRouterPort(value, router, this.zones.of('port', value.id))
    router.ports.add(port)
    addLocalRoutes(port, this.#tags)
    this.#routes.move(router, port)
    return port
  }

  #linkPort(id: string): void {
    const port = this.ports.get(id)
    const peerId = this.#configs.get(id)?.peer
    if (port === undefined || port.peer !== undefined || peerId === undefined) return
    const peer = this.ports.get(peerId)
    if (peer === undefined || peer.peer !== undefined) return
    if (this.#configs.get(peerId)?.peer === id) facts.linkPorts(port, peer, this.#tags)
  }

  #addStations(port: VirtualBridgePort, config: BridgePort): void {
    for (const { mac, addresses, addresses6 } of config.stations ?? []) {
      const number = parseMac(mac)
      if (number === undefined) continue
      facts.addStation(port, number, this.#tags)
      // A bridge answers for untagged frames only, so it must not know addresses of VLANs.
      if (port.vlan !== 0) continue
      for (const text of addresses) {
        const address = parseIp(text)
        if (address !== undefined) facts.addAddress(port.bridge, address, number, false, this.#tags)
      }
      for (const address of wordsOf(addresses6))
        addAddress6(port.bridge, address, { mac: number, isRouter: false }, this.#tags)
    }
  }

  #removeStations(port: VirtualBridgePort, config: BridgePort): void {
    for (const { mac, addresses, addresses6 } of config.stations ?? []) {
      const number = parseMac(mac)
      if (number !== undefined) facts.removeStation(port, number, this.#tags)
      if (port.vlan !== 0) continue
      for (const text of addresses) {
        const address = parseIp(text)
        if (address !== undefined) facts.removeAddress(port.bridge, address, this.#tags)
      }
      for (const address of wordsOf(addresses6)) removeAddress6(port.bridge, address, this.#tags)
    }
  }

  #changeHosts(changes: readonly Change[]): void {
    const hosts = changes.filter(({ kind }) => kind === 'host')
    if (hosts.length === 0) return
    for (const { id, value } of hosts)
      if (value === undefined) this.#hosts.delete(id)
      else this.#hosts.add(id)
    this.state.share([...this.#hosts], this.host)
  }

  #filter(device: Filtered | undefined, value: Parameters<typeof compileFilters>[0]): void {
    if (device !== undefined) Object.assign(device, compileFilters(value, this.policies))
  }

  /** Gives a device the chains it should have; whether they are others than before. */
  #refilter(device: Filtered, value: Parameters<typeof compileFilters>[0]): boolean {
    const { inbound, outbound } = device
    this.#filter(device, value)
    return device.inbound !== inbound || device.outbound !== outbound
  }

  #refilterPort(port: VirtualPort, value: Port): void {
    const groups = new Set(value.portGroups)
    const hasSameGroups = String([...groups].sort()) === String([...port.groups].sort())
    if (!this.#refilter(port, value) && hasSameGroups) return
    port.groups = groups
    this.#tags.push(port.tag)
    if (port.kind === 'bridge') this.#tags.push(port.bridge.floodTag)
  }

  #addRoute(value: Route): void {
    const router = this.routers.get(value.router)
    if (router === undefined) return
    const port = value.port === undefined ? undefined : this.ports.get(value.port)
    this.#routes.add(value, router, port?.kind === 'router' ? port : undefined, this.#tags)
  }
}

/** No configured route's id has this form. */
function learnedId(id: string): string {
  return `learned/${id}`
}

/** A route that a daemon learned, as a configured one would say it. */
function learnedRoute({ id, router, dst, port, gateway, weight }: LearnedRoute): Route {
  const src = dst.includes(':') ? '::/0' : '0.0.0.0/0'
  return { id: learnedId(id), router, src, dst, action: 'port', port, gateway, weight }
}
