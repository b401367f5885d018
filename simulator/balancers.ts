/**
 * The load balancers of all routers, as the store says. What a change pushes:
 *
 *   addresses or ports of VIPs and members   its router's ports' tags: what is balanced at all
 *   whether a member keeps what it has       its tag: the connections that it has
 *   how much it is to have                   its pool's tag: whom a new connection goes to
 */
import { parseIp } from '../packet/address.ts'
import type {
  BalancerPool,
  HealthMonitor,
  Kind,
  LoadBalancer,
  PoolMember,
  Vip,
} from '../topology/model.ts'
import type { Change } from '../topology/store.ts'
import { anyPort, seedOf, VirtualBalancer, type VirtualMember, VirtualVip } from './balancer.ts'
import { noteDevice } from './facts.ts'
import type { Monitored } from './health.ts'
import type { VirtualRouter } from './router.ts'
import { poolTag, serverTag, type Tag } from './tag.ts'

const kinds: ReadonlySet<Kind> = new Set([
  'loadBalancer',
  'balancerPool',
  'poolMember',
  'healthMonitor',
])

const protocols = { tcp: 6, udp: 17 } as const

export class Balancers {
  readonly #balancers = new Map<string, LoadBalancer>()
  readonly #pools = new Map<string, BalancerPool>()
  readonly #members = new Map<string, PoolMember>()
  readonly #vips = new Map<string, Vip>()
  readonly #monitors = new Map<string, HealthMonitor>()
  #monitored: readonly Monitored[] | undefined
  /** Routers that have one now. */
  readonly #routers = new Set<VirtualRouter>()

  /** Follows a batch, after the routers have. */
  apply(
    changes: readonly Change[],
    routers: ReadonlyMap<string, VirtualRouter>,
    tags: Tag[],
  ): void {
    const touched = new Set<string>()
    for (const change of changes) this.#note(change, touched)
    if (changes.some(({ kind }) => kinds.has(kind))) this.#monitored = undefined
    for (const id of touched) {
      const router = routers.get(id)
      if (router !== undefined) this.#renew(router, tags)
    }
  }

  /** The members that monitors look after; the same list until something about them changes. */
  get monitored(): readonly Monitored[] {
    this.#monitored ??= [...this.#members.values()].flatMap((member) => {
      const pool = this.#pools.get(member.pool)
      const monitor = this.#monitors.get(pool?.healthMonitor ?? '')
      const balancer = this.#balancers.get(pool?.loadBalancer ?? '')
      if (monitor?.adminUp !== true || balancer?.adminUp !== true) return []
      const { router } = balancer
      if (router === undefined) return []
      // There is no one port to ask at.
      if (member.port === anyPort) return []
      return [{ member, address: parseIp(member.address) ?? 0, router, monitor }]
    })
    return this.#monitored
  }

  vip(id: string): VirtualVip | undefined {
    for (const vip of this.vips()) if (vip.id === id) return vip
    return undefined
  }

  *vips(): IterableIterator<VirtualVip> {
    for (const { balancer } of this.#routers) yield* balancer?.vips ?? []
  }

  /** Forgets clients of sticky VIPs that have not been seen for long. */
  sweep(nowMs: number): void {
    for (const { balancer } of this.#routers)
      for (const vip of balancer?.vips ?? []) vip.sweep(nowMs)
  }

  /** Keeps what a change says; notes the routers that it concerns, before and after. */
  #note(change: Change, touched: Set<string>): void {
    switch (change.kind) {
      case 'healthMonitor':
        setOrDelete(this.#monitors, change.id, change.value)
        return
      case 'router':
        touched.add(change.id)
        return
      case 'loadBalancer':
        touched.add(this.#balancers.get(change.id)?.router ?? '')
        setOrDelete(this.#balancers, change.id, change.value)
        touched.add(change.value?.router ?? '')
        return
      case 'balancerPool':
        this.#touch(this.#pools.get(change.id)?.loadBalancer, touched)
        setOrDelete(this.#pools, change.id, change.value)
        this.#touch(change.value?.loadBalancer, touched)
        return
      case 'poolMember':
        this.#touchPool(this.#members.get(change.id)?.pool, touched)
        setOrDelete(this.#members, change.id, change.value)
        this.#touchPool(change.value?.pool, touched)
        return
      case 'vip':
        this.#touch(this.#vips.get(change.id)?.loadBalancer, touched)
        setOrDelete(this.#vips, change.id, change.value)
        this.#touch(change.value?.loadBalancer, touched)
        return
      default:
        return
    }
  }

  #touchPool(pool: string | undefined, touched: Set<string>): void {
    this.#touch(this.#pools.get(pool ?? '')?.loadBalancer, touched)
  }

  #touch(balancer: string | undefined, touched: Set<string>): void {
    touched.add(this.#balancers.get(balancer ?? '')?.router ?? '')
  }

  #renew(router: VirtualRouter, tags: Tag[]): void {
    const before = router.balancer
    const config = [...this.#balancers.values()].find((one) => one.router === router.id)
    const after = config?.adminUp === true ? this.#compile(config, before) : undefined
    if (before === undefined && after === undefined) return
    router.balancer = after
    if (after === undefined) this.#routers.delete(router)
    else this.#routers.add(router)
    if (shapeOf(before) !== shapeOf(after)) noteDevice(router, tags)
    pushChanged(before, after, tags)
  }

  #compile(config: LoadBalancer, before: VirtualBalancer | undefined): VirtualBalancer | undefined {
    const members = new Map<string, VirtualMember[]>()
    for (const { id, loadBalancer } of this.#pools.values())
      if (loadBalancer === config.id) members.set(id, [])
    for (const member of this.#members.values()) {
      const pool = this.#pools.get(member.pool)
      if (pool !== undefined) members.get(member.pool)?.push(compileMember(member, pool))
    }
    const vips: VirtualVip[] = []
    for (const vip of this.#vips.values()) {
      if (vip.loadBalancer !== config.id || !vip.adminUp) continue
      const old = before?.vips.find(({ id }) => id === vip.id)
      vips.push(new VirtualVip(settingsOf(vip, members.get(vip.pool) ?? []), old))
    }
    return vips.length === 0 ? undefined : new VirtualBalancer(vips)
  }
}

function settingsOf(vip: Vip, members: readonly VirtualMember[]) {
  return {
    id: vip.id,
    name: vip.name ?? vip.id,
    address: parseIp(vip.address) ?? 0,
    port: vip.port,
    protocol: protocols[vip.protocol],
    isSticky: vip.persistence === 'sourceIp',
    poolTag: poolTag(vip.pool),
    members,
  }
}

function compileMember(member: PoolMember, pool: BalancerPool): VirtualMember {
  const isWell = member.status !== 'inactive'
  const isUp = pool.adminUp && member.adminUp
  return {
    id: member.id,
    tag: serverTag(member.id),
    address: parseIp(member.address) ?? 0,
    port: member.port,
    share: isWell && isUp ? member.weight : 0,
    keeps: isWell,
    keepsSticky: isWell && isUp,
    seed: seedOf(member.id),
  }
}

/** Which packets are balanced: text that is equal when they are the same. */
function shapeOf(balancer: VirtualBalancer | undefined): string {
  const vips = balancer?.vips.map((vip) => {
    const { id, address, port, protocol, isSticky, members } = vip
    const servers = members.map((member) => [member.id, member.address, member.port])
    return [id, address, port, protocol, isSticky, vip.poolTag, servers]
  })
  return JSON.stringify(vips ?? null)
}

/** The tags of members that are others than before. */
function pushChanged(
  before: VirtualBalancer | undefined,
  after: VirtualBalancer | undefined,
  tags: Tag[],
): void {
  if (before === undefined || after === undefined) return
  const old = new Map<string, VirtualMember>()
  for (const { members } of before.vips) for (const one of members) old.set(one.id, one)
  for (const { members, poolTag: pool } of after.vips)
    for (const member of members) {
      const was = old.get(member.id)
      if (was === undefined) continue
      const isSame = was.keeps === member.keeps && was.keepsSticky === member.keepsSticky
      if (!isSame) tags.push(member.tag)
      if (was.share !== member.share) tags.push(pool)
    }
}

function setOrDelete<T>(map: Map<string, T>, id: string, value: T | undefined): void {
  if (value === undefined) map.delete(id)
  else map.set(id, value)
}
