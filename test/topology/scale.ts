/**
 * A cluster of many hosts in one process, on a virtual clock: the store of three hosts whole (all
 * objects, and compiled for forwarding as its agent does), of the others what follows etcd. Their
 * objects would be the same again, and do not fit into one machine. Transactions, rules, messages
 * and watches are the real ones; etcd and the network are a model (fake-etcd.ts).
 */
import { bindEndpoint, createEndpoint, linkNames } from '../../driver/endpoint.ts'
import { createNetwork } from '../../driver/network.ts'
import { readNetworkOptions } from '../../driver/options.ts'
import { VirtualTopology } from '../../simulator/virtual-topology.ts'
import { requestAddress, requestPool } from '../../topology/allocate.ts'
import { Follow, type Follower } from '../../topology/etcd-follow.ts'
import { Lease } from '../../topology/etcd-lease.ts'
import { ReplicaFile } from '../../topology/etcd-replica.ts'
import { EtcdStore } from '../../topology/etcd-store.ts'
import { kinds } from '../../topology/model.ts'
import { Objects } from '../../topology/objects.ts'
import type { Change, Draft } from '../../topology/store.ts'
import { type FakeClient, FakeEtcd } from './fake-etcd.ts'
import { VirtualClock } from './virtual-clock.ts'

export interface Size {
  readonly hosts: number
  readonly ports: number
  /** Ports of a network, and the hosts that they are on. */
  readonly networkPorts: number
  readonly networkHosts: number
}

const perTransaction = 250
const joined = '2026-01-01T00:00:00Z'

export const hostId = (at: number): string => `host-${String(at).padStart(4, '0')}`
const networkId = (at: number): string => at.toString(16).padStart(8, '0').repeat(8)
const endpointId = (at: number): string => `e${at.toString(16).padStart(7, '0')}`.repeat(8)

/** A host's store with all objects, and what forwards by it. */
export interface Whole {
  readonly client: FakeClient
  readonly store: EtcdStore
  readonly topology: VirtualTopology
}

/** A host that follows etcd, and counts. */
export interface Listener {
  readonly client: FakeClient
  readonly follow: Follow
  revision: number
  events: number
  atMs: number
}

export class ScaleWorld {
  readonly clock = new VirtualClock()
  readonly etcd = new FakeEtcd(this.clock)
  readonly size: Size
  readonly wholes: Whole[] = []
  readonly others: Listener[] = []
  #endpoints = 0
  #isDriven = false

  constructor(size: Size) {
    this.size = size
  }

  /** Waits on the virtual clock, which one at a time lets pass. @throws what the work throws */
  async settle<T>(run: () => Promise<T>): Promise<T> {
    if (this.#isDriven) return run()
    this.#isDriven = true
    const work = run()
    let isDone = false
    const done = (): void => {
      isDone = true
    }
    work.then(done, done)
    await this.clock.until(() => isDone)
    this.#isDriven = false
    return work
  }

  /** A host's store, empty until it has read etcd. */
  async openWhole(at: number): Promise<Whole> {
    const host = hostId(at)
    const client = this.etcd.client()
    const store = new EtcdStore({
      ...{ client, host, objects: new Objects(), revision: 0, origin: undefined },
      lease: new Lease(client, host),
      replica: new ReplicaFile(undefined),
      clock: this.clock,
    })
    await this.clock.until(() => store.problem === undefined)
    const whole = { client, store, topology: new VirtualTopology(host) }
    this.wholes.push(whole)
    return whole
  }

  /** Compiles what the store has, and goes on with it. */
  compile({ store, topology }: Whole): void {
    // Kind and value come from the same list; the type system cannot see it.
    const changes = kinds.flatMap((kind) =>
      store.list(kind).map((value) => ({ kind, id: value.id, value, before: undefined }) as Change),
    )
    topology.apply({ revision: store.revision, changes })
    store.watch((batch) => topology.apply(batch))
  }

  /** A host that has seen all there is so far. */
  openFollower(): void {
    const client = this.etcd.client()
    const { clock, etcd } = this
    let origin = { cluster: 'fa', revision: etcd.revision }
    const counts = { client, revision: etcd.revision, events: 0, atMs: 0 }
    const follower: Follower = {
      get origin() {
        return origin
      },
      hasObjects: true,
      replace: () => {},
      online: () => {},
      apply(events, revision) {
        origin = { ...origin, revision }
        counts.revision = revision
        counts.events += events.length
        counts.atMs = clock.now()
      },
    }
    this.others.push(Object.assign(counts, { follow: new Follow(client, follower, clock) }))
  }

  /** Hosts, networks and all ports, written by the first host. */
  async fill({ store }: Whole): Promise<void> {
    const { hosts, ports, networkPorts } = this.size
    await this.settle(() =>
      store.transact((draft) => draft.put('tunnelZone', { id: 'zone', encapsulation: 'vxlan' })),
    )
    for (let first = 0; first < hosts; first += perTransaction)
      await this.settle(() =>
        store.transact((draft) => {
          for (let at = first; at < Math.min(hosts, first + perTransaction); at++)
            putHost(draft, at)
        }),
      )
    for (let at = 0; at * networkPorts < ports; at++)
      await this.settle(() => store.transact((draft) => putNetwork(draft, at)))
    while (this.#endpoints < ports) {
      const end = Math.min(ports, this.#endpoints + perTransaction)
      await this.settle(() =>
        store.transact((draft) => {
          for (let at = this.#endpoints; at < end; at++) this.#putEndpoint(draft, at)
        }),
      )
      this.#endpoints = end
    }
  }

  /** One more endpoint on a host, in the three transactions that Docker's calls are. */
  async addEndpoint({ store }: Whole): Promise<void> {
    const at = this.#endpoints++
    const { host, network } = this.#placeOf(at)
    const { value } = await this.settle(() =>
      store.transact((draft) => requestAddress(draft, poolOf(network), { host })),
    )
    await this.settle(() => store.transact((draft) => create(draft, at, network, host, value)))
    await this.settle(() =>
      store.transact((draft) => {
        const endpoint = draft.get('endpoint', endpointId(at))
        if (endpoint !== undefined)
          bindEndpoint(draft, endpoint, linkNames(endpoint.id).host, undefined)
      }),
    )
  }

  /** Waits until all hosts have seen the last revision; returns how long after `sinceMs`. */
  async seenByAll(sinceMs: number): Promise<number> {
    const last = this.others.at(-1)
    const { revision } = this.etcd
    await this.clock.until(() => (last?.revision ?? revision) >= revision)
    const holds = () =>
      this.others.every((one) => one.revision >= revision) &&
      this.wholes.every(({ store }) => store.etcdRevision >= revision)
    await this.clock.until(holds)
    return Math.max(0, ...this.others.map(({ atMs }) => atMs)) - sinceMs
  }

  async close(): Promise<void> {
    const closing = [
      ...this.wholes.map(({ store }) => store.close()),
      ...this.others.map(({ follow }) => follow.close()),
    ]
    await this.settle(() => Promise.all(closing))
  }

  #placeOf(at: number): { readonly host: string; readonly network: number } {
    const { hosts, ports, networkPorts, networkHosts } = this.size
    const network = Math.floor((at % ports) / networkPorts)
    return { host: hostId((network * 13 + (at % networkHosts)) % hosts), network }
  }

  #putEndpoint(draft: Draft, at: number): void {
    const { host, network } = this.#placeOf(at)
    const address = requestAddress(draft, poolOf(network), { host })
    create(draft, at, network, host, address)
    const endpoint = draft.get('endpoint', endpointId(at))
    if (endpoint !== undefined)
      bindEndpoint(draft, endpoint, linkNames(endpoint.id).host, undefined)
  }
}

const subnetOf = (network: number): string => `10.${network >> 8}.${network & 255}`
const poolOf = (network: number): string => `midonet_${subnetOf(network)}.0-24`

function putHost(draft: Draft, at: number): void {
  const id = hostId(at)
  const address = `192.${168 + (at >> 16)}.${(at >> 8) & 255}.${at & 255}`
  const own = { name: 'eth0', mtu: 1500, up: true, addresses: [`${address}/8`] }
  draft.put('host', { id, name: id, interfaces: [own] })
  draft.put('zoneMember', { id: `zone_${id}`, zone: 'zone', host: id, address })
  draft.put('hostAlive', { id, since: joined })
}

function putNetwork(draft: Draft, at: number): void {
  const [subnet, gateway] = [`${subnetOf(at)}.0/24`, `${subnetOf(at)}.1`]
  const { id } = requestPool(draft, { space: 'midonet', subnet })
  requestAddress(draft, id, { address: gateway, gateway: true })
  createNetwork(draft, {
    ...{ id: networkId(at), options: readNetworkOptions({}), host: [], subnets6: [] },
    ...{ subnets: [{ subnet, gateway: `${gateway}/24` }], newId: () => networkId(at) },
  })
}

function create(draft: Draft, at: number, network: number, host: string, address: string): void {
  createEndpoint(draft, {
    ...{ id: endpointId(at), network: networkId(network), host, address: `${address}/24` },
    ...{ address6: undefined, mac: undefined, securityGroups: [] },
  })
}
