/**
 * The forwarding side's own topology: the objects of the store compiled to devices that refer to
 * each other directly, with addresses as numbers and tags and actions ready made.
 *
 * It follows the store by ordered batches. Within a batch what goes is taken out first and what
 * comes is put in afterwards, so that an address can move from one port to another in one batch.
 */
import { parseIp, parseMac } from '../packet/address.ts'
import type { Binding, BridgePort, Port, Route } from '../topology/model.ts'
import type { Change, ChangeBatch } from '../topology/store.ts'
import type { MacEntry, VirtualBridge } from './bridge.ts'
import {
  compileBridge,
  compileBridgePort,
  compileRoute,
  compileRouter,
  compileRouterPort,
} from './compile.ts'
import * as facts from './facts.ts'
import type { VirtualBridgePort, VirtualPort } from './port.ts'
import type { RouteEntry } from './route-table.ts'
import type { VirtualRouter, VirtualRouterPort } from './router.ts'
import { type Tag, vportTag } from './tag.ts'

type ChangeOf<K extends Change['kind']> = Extract<Change, { kind: K }>

/** What a batch leads to: flows to remove, bindings to look at again. */
export interface TopologyChange {
  readonly tags: readonly Tag[]
  /** Ids of ports whose binding on this host came, went or changed. */
  readonly bindings: readonly string[]
}

export class VirtualTopology {
  readonly host: string
  readonly bridges = new Map<string, VirtualBridge>()
  readonly routers = new Map<string, VirtualRouter>()
  readonly ports = new Map<string, VirtualPort>()
  /** Bindings of this host by port id. */
  readonly bindings = new Map<string, Binding>()
  readonly #configs = new Map<string, Port>()
  readonly #bound = new Set<string>()
  readonly #routes = new Map<
    string,
    { readonly router: VirtualRouter; readonly entry: RouteEntry }
  >()
  readonly #byVport = new Map<number, VirtualPort>()
  readonly #vports = new Map<string, number>()
  #tags: Tag[] = []

  constructor(host: string) {
    this.host = host
  }

  portOf(vport: number): VirtualPort | undefined {
    return this.#byVport.get(vport)
  }

  /** Facts that packets taught: MAC addresses of bridges, neighbours of router ports. */
  countLearned(): number {
    let count = 0
    for (const bridge of this.bridges.values()) count += bridge.learnedMacs
    for (const port of this.ports.values()) if (port.kind === 'router') count += port.learned.size
    return count
  }

  apply(batch: ChangeBatch): TopologyChange {
    const { changes } = batch
    const bindings: string[] = []
    for (const change of changes) {
      if (change.kind === 'route') this.#removeRoute(change.id)
      if (change.kind === 'binding') this.#changeBinding(change, bindings)
    }
    const renewed = changes
      .filter((change) => change.kind === 'port')
      .filter(({ id, value }) => JSON.stringify(this.#configs.get(id)) !== JSON.stringify(value))
    for (const change of renewed) this.#removePort(change)
    for (const change of changes) {
      if (change.kind === 'bridge') this.#changeBridge(change)
      if (change.kind === 'router') this.#changeRouter(change)
    }
    for (const { value } of renewed) if (value !== undefined) this.#addPort(value)
    for (const { id } of renewed) this.#linkPort(id)
    for (const change of changes)
      if (change.kind === 'route' && change.value !== undefined) this.#addRoute(change.value)
    return { tags: this.#takeTags(), bindings }
  }

  /** Says which vport, 0 for none, a port of this host has. */
  setVport(id: string, vport: number): readonly Tag[] {
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

  #plug(port: VirtualPort): void {
    const vport = this.#vports.get(port.id) ?? 0
    if (vport === port.vport) return
    port.vport = vport
    port.output = vport === 0 ? undefined : Object.freeze({ kind: 'output', port: vport })
    if (vport !== 0) {
      this.#byVport.set(vport, port)
      this.#tags.push(vportTag(vport))
    }
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
    if (value === undefined) this.#bound.delete(id)
    else this.#bound.add(id)
    const port = this.ports.get(id)
    if (port !== undefined) port.bound = value !== undefined
  }

  #changeBridge({ id, value }: ChangeOf<'bridge'>): void {
    const bridge = this.bridges.get(id)
    if (value === undefined) this.bridges.delete(id)
    else if (bridge === undefined) this.bridges.set(id, compileBridge(value))
    else {
      bridge.name = value.name ?? id
      if (bridge.adminUp === value.adminUp) return
      bridge.adminUp = value.adminUp
    }
    if (bridge !== undefined) this.#tags.push(bridge.tag)
  }

  #changeRouter({ id, value }: ChangeOf<'router'>): void {
    const router = this.routers.get(id)
    if (value === undefined) this.routers.delete(id)
    else if (router === undefined) this.routers.set(id, compileRouter(value))
    else {
      router.name = value.name ?? id
      if (router.adminUp === value.adminUp) return
      router.adminUp = value.adminUp
    }
    if (router !== undefined) this.#tags.push(router.tag)
  }

  /** Takes out what is to go or to be made anew; of a port with new stations only these. */
  #removePort({ id, value }: ChangeOf<'port'>): void {
    const port = this.ports.get(id)
    const config = this.#configs.get(id)
    if (port === undefined || config === undefined) return
    if (port.kind === 'bridge' && config.kind === 'bridge') this.#removeStations(port, config)
    if (value !== undefined && sameButStations(config, value)) return
    if (port.peer !== undefined) facts.unlinkPorts(port, port.peer, this.#tags)
    if (port.kind === 'bridge') this.#leaveBridge(port)
    else this.#leaveRouter(port)
    if (port.vport !== 0) {
      this.#byVport.delete(port.vport)
      this.#tags.push(vportTag(port.vport))
    }
    this.ports.delete(id)
    this.#configs.delete(id)
    this.#tags.push(port.tag)
  }

  #leaveBridge(port: VirtualBridgePort): void {
    const { bridge } = port
    const learned: MacEntry[] = []
    for (const entry of bridge.macs.values()) if (entry.port === port) learned.push(entry)
    for (const entry of learned) facts.forgetMac(entry, this.#tags)
    bridge.ports.splice(bridge.ports.indexOf(port), 1)
    this.#tags.push(bridge.floodTag)
  }

  #leaveRouter(port: VirtualRouterPort): void {
    port.learned.clear()
    const { routes: table } = port.router
    const standing = port.routesUp ? [...port.routes, ...port.localRoutes] : port.localRoutes
    for (const route of standing) {
      const tag = table.remove(route)
      if (tag !== undefined) this.#tags.push(tag)
    }
  }

  #addPort(value: Port): void {
    const known = this.ports.get(value.id)
    const port = known ?? this.#makePort(value)
    if (port === undefined) return
    this.#configs.set(value.id, value)
    if (port.kind === 'bridge' && value.kind === 'bridge') this.#addStations(port, value)
    if (known !== undefined) return
    port.bound = this.#bound.has(value.id)
    this.ports.set(value.id, port)
    this.#tags.push(port.tag)
    this.#plug(port)
  }

  #makePort(value: Port): VirtualPort | undefined {
    if (value.kind === 'bridge') {
      const bridge = this.bridges.get(value.bridge)
      if (bridge === undefined) return undefined
      const port = compileBridgePort(value, bridge)
      insertById(bridge.ports, port)
      this.#tags.push(bridge.floodTag)
      return port
    }
    const router = this.routers.get(value.router)
    if (router === undefined) return undefined
    const port = compileRouterPort(value, router)
    for (const route of port.localRoutes) this.#tags.push(router.routes.add(route))
    for (const { router: owner, entry } of this.#routes.values())
      if (owner === router && entry.port?.id === port.id) this.#moveRoute(owner, entry, port)
    return port
  }

  /** A route goes on with its port when the port is made anew. */
  #moveRoute(router: VirtualRouter, entry: RouteEntry, port: VirtualRouterPort): void {
    const moved = { ...entry, port }
    this.#routes.set(entry.id, { router, entry: moved })
    port.routes.add(moved)
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
    for (const { mac, addresses } of config.stations ?? []) {
      const number = parseMac(mac)
      if (number === undefined) continue
      facts.addStation(port, number, this.#tags)
      for (const text of addresses) {
        const address = parseIp(text)
        if (address !== undefined) facts.addAddress(port.bridge, address, number, false, this.#tags)
      }
    }
  }

  #removeStations(port: VirtualBridgePort, config: BridgePort): void {
    for (const { mac, addresses } of config.stations ?? []) {
      const number = parseMac(mac)
      if (number !== undefined) facts.removeStation(port, number, this.#tags)
      for (const text of addresses) {
        const address = parseIp(text)
        if (address !== undefined) facts.removeAddress(port.bridge, address, this.#tags)
      }
    }
  }

  #addRoute(value: Route): void {
    const router = this.routers.get(value.router)
    if (router === undefined) return
    const port = value.port === undefined ? undefined : this.ports.get(value.port)
    const entry = compileRoute(value, port?.kind === 'router' ? port : undefined)
    this.#routes.set(value.id, { router, entry })
    entry.port?.routes.add(entry)
    if (value.action === 'port' && entry.port?.routesUp !== true) return
    this.#tags.push(router.routes.add(entry))
  }

  #removeRoute(id: string): void {
    const known = this.#routes.get(id)
    if (known === undefined) return
    this.#routes.delete(id)
    known.entry.port?.routes.delete(known.entry)
    const tag = known.router.routes.remove(known.entry)
    if (tag !== undefined) this.#tags.push(tag)
  }
}

function insertById(ports: VirtualBridgePort[], port: VirtualBridgePort): void {
  let low = 0
  let high = ports.length
  while (low < high) {
    const middle = (low + high) >>> 1
    if ((ports[middle]?.id ?? '') < port.id) low = middle + 1
    else high = middle
  }
  ports.splice(low, 0, port)
}

function sameButStations(a: Port, b: Port): boolean {
  if (a.kind !== 'bridge' || b.kind !== 'bridge') return false
  return a.bridge === b.bridge && a.adminUp === b.adminUp && a.peer === b.peer
}
