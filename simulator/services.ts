/**
 * What devices do besides forwarding, kept as the store says: policies, MTUs and trace requests
 * here, DHCP in dhcp-service.ts, mirrors in mirrors.ts. Each change pushes the tags of what rests on it.
 */
import type { QosPolicy } from '../topology/model.ts'
import type { Change } from '../topology/store.ts'
import type { VirtualBridge } from './bridge.ts'
import { DhcpServices } from './dhcp-service.ts'
import { noteDevice } from './facts.ts'
import { Mirrors } from './mirrors.ts'
import type { VirtualPort } from './port.ts'
import type { VirtualRouter } from './router.ts'
import type { Tag } from './tag.ts'
import { compileTrace, Stories, type VirtualTrace } from './trace-request.ts'

/** The devices that services belong to. */
export interface Devices {
  readonly bridges: ReadonlyMap<string, VirtualBridge>
  readonly routers: ReadonlyMap<string, VirtualRouter>
  readonly ports: ReadonlyMap<string, VirtualPort>
}

type Traced = VirtualBridge | VirtualRouter | VirtualPort

export class Services {
  readonly stories = new Stories()
  readonly #dhcp = new DhcpServices()
  readonly #mirrors = new Mirrors()
  readonly #policies = new Map<string, QosPolicy>()
  /** The policy that each `port …` and `bridge …` names. */
  readonly #users = new Map<string, string>()
  readonly #traces = new Map<string, VirtualTrace>()
  readonly #traced = new Set<Traced>()

  /** Whether any policy limits bandwidth. */
  get hasLimits(): boolean {
    for (const { bandwidth } of this.#policies.values()) if (bandwidth !== undefined) return true
    return false
  }

  get traces(): readonly VirtualTrace[] {
    return [...this.#traces.values()]
  }

  /** Follows a batch, after the devices have. */
  apply(changes: readonly Change[], devices: Devices, tags: Tag[]): void {
    let areTracesNew = false
    for (const change of changes) {
      const { kind, id, value } = change
      if (kind === 'traceRequest') {
        if (value === undefined) this.stories.forget(id)
        if (value === undefined || !value.enabled) this.#traces.delete(id)
        else if (JSON.stringify(this.#traces.get(id)?.request) !== JSON.stringify(value))
          this.#traces.set(id, compileTrace(value))
      }
      areTracesNew ||= kind === 'traceRequest' || kind === 'port' || kind === 'bridge'
      areTracesNew ||= kind === 'router'
      if (kind === 'qosPolicy') setOrDelete(this.#policies, id, value)
      if (kind === 'port' || kind === 'bridge')
        setOrDelete(this.#users, `${kind} ${id}`, value?.qosPolicy)
      if (kind === 'bridge') changeMtu(devices.bridges.get(id), value?.mtu ?? 0, tags)
    }
    this.#followPolicies(changes, devices, tags)
    this.#dhcp.apply(changes, devices.bridges, tags)
    this.#mirrors.apply(changes, devices, tags)
    if (areTracesNew && (this.#traces.size > 0 || this.#traced.size > 0))
      this.#attachTraces(devices, tags)
  }

  /** Keeps the story of a packet; a request that has its limit ends. */
  record(trace: VirtualTrace, text: string, atMs: number, devices: Devices): readonly Tag[] {
    if (trace.left <= 0) return []
    this.stories.add(trace.id, text, atMs)
    trace.left--
    if (trace.left > 0) return []
    this.#traces.delete(trace.id)
    const tags: Tag[] = []
    this.#attachTraces(devices, tags)
    return tags
  }

  #followPolicies(changes: readonly Change[], devices: Devices, tags: Tag[]): void {
    const touched = new Set<string>()
    for (const { kind, id } of changes) {
      if (kind === 'port' || kind === 'bridge') touched.add(`${kind} ${id}`)
      if (kind !== 'qosPolicy') continue
      for (const [user, policy] of this.#users) if (policy === id) touched.add(user)
    }
    for (const user of touched) {
      const [kind, id = ''] = user.split(' ')
      const device = kind === 'port' ? devices.ports.get(id) : devices.bridges.get(id)
      const qos = this.#policies.get(this.#users.get(user) ?? '')
      if (device === undefined || device.qos === qos) continue
      device.qos = qos
      noteDevice(device, tags)
    }
  }

  #attachTraces({ bridges, routers, ports }: Devices, tags: Tag[]): void {
    const wanted = new Map<Traced, VirtualTrace[]>()
    for (const trace of this.#traces.values()) {
      const { kind, id } = trace.request.device
      const device = { bridge: bridges, router: routers, port: ports }[kind].get(id)
      if (device === undefined) continue
      const list = wanted.get(device)
      if (list === undefined) wanted.set(device, [trace])
      else list.push(trace)
    }
    for (const device of new Set([...this.#traced, ...wanted.keys()])) {
      const list = wanted.get(device)
      if (sameTraces(device.traces, list)) continue
      device.traces = list
      noteDevice(device, tags)
      if (list === undefined) this.#traced.delete(device)
      else this.#traced.add(device)
    }
  }
}

function changeMtu(bridge: VirtualBridge | undefined, mtu: number, tags: Tag[]): void {
  if (bridge === undefined || bridge.mtu === mtu) return
  bridge.mtu = mtu
  // Of routers on it, too, which cut or refuse what leaves toward it: linked ports share their tag.
  noteDevice(bridge, tags)
}

function sameTraces(
  a: readonly VirtualTrace[] | undefined,
  b: readonly VirtualTrace[] | undefined,
): boolean {
  if (a === undefined || b === undefined) return a === b
  return a.length === b.length && a.every((trace, at) => trace === b[at])
}

function setOrDelete<T>(map: Map<string, T>, id: string, value: T | undefined): void {
  if (value === undefined) map.delete(id)
  else map.set(id, value)
}
