/**
 * BGP on this host: a routing daemon for each router that has an AS number and a peer on the network
 * of a port bound here. What should be there follows from the store; what is learned goes there.
 */
import createDebug from 'debug'
import type { Links } from '../../datapath/link.ts'
import type { Kind } from '../../topology/model.ts'
import type { ChangeBatch, Store } from '../../topology/store.ts'
import type { Repair } from '../gateway.ts'
import { type Run, runCommand } from '../host.ts'
import { RoutingDaemonError } from './daemon.ts'
import { findFrr, openFrr } from './frr.ts'
import { Instance, type InstanceSettings } from './instance.ts'
import { isSpeakerLink, namesLeft, namespaceOf, removeNamespace, speakerName } from './namespace.ts'
import { planRouters, type SpeakingRouter, unspokenPeers } from './plan.ts'

const log = createDebug('midonet:bgp')

export const limits = {
  /** Between two looks at what daemons have learned. */
  lookMs: 25,
  /** Between two looks at ports' interfaces. */
  linksMs: 200,
  /** Between two looks at daemons, and all else. */
  checkMs: 1_000,
  /** Between two readings of all routes. */
  readAllMs: 10_000,
  /** Before what failed is tried again; doubles up to the second. */
  retryMs: 1_000,
  retryMsMax: 30_000,
  /** How long the store may be away, and no other host be reached, until networks are withdrawn. */
  isolatedMs: 10_000,
  repairs: 100,
} as const

/** Whose changes may change what daemons are to do. */
const kindsUsed: ReadonlySet<Kind> = new Set(['router', 'port', 'binding', 'bgpPeer', 'bgpNetwork'])

export interface SpeakersSettings {
  readonly store: Store
  readonly links: Links
  readonly hostId: string
  /** Where daemons keep what is theirs, a folder for each. */
  readonly runDir: string
  readonly routesMax: number
  readonly look: InstanceSettings['look']
  /** Whether any other host of the cluster can be reached; asked only while the store cannot. */
  readonly reachesOthers?: () => Promise<boolean>
  readonly run?: Run
}

export interface SessionStatus {
  readonly router: string
  readonly asn: number
  readonly peer: string
  readonly peerAsn: number
  readonly state: string
  readonly forS: number
  readonly received: number
  readonly advertised: number
  readonly bfd: string | undefined
}

export class Speakers {
  readonly #settings: SpeakersSettings
  readonly #store: Store
  readonly #instances = new Map<string, Instance>()
  readonly #stopWatch: () => void
  readonly repairs: Repair[] = []
  /** Resolves when routes that daemons before had learned are in the store again. */
  readonly adopted: Promise<void>
  #problem: string | undefined
  #again = false
  #working: Promise<void> | undefined
  #timer: NodeJS.Timeout | undefined
  #closed = false
  #retryMs: number = limits.retryMs
  #due = { links: 0, check: 0, readAll: 0, publish: 0, retry: Number.POSITIVE_INFINITY }
  #lostAt: number | undefined
  #withdrawn = false

  constructor(settings: SpeakersSettings) {
    this.#settings = settings
    this.#store = settings.store
    this.#stopWatch = this.#store.watch((batch) => this.#hear(batch))
    this.adopted = this.#adopt()
    this.#working = this.adopted.then(() => this.#work(true))
  }

  sessions(): readonly SessionStatus[] {
    return [...this.#instances.values()].flatMap(({ router, sessions }) =>
      sessions.map((one) => ({
        router: router.name,
        asn: router.asn,
        peer: one.peer,
        peerAsn: one.asn,
        state: one.state,
        forS: Math.round(one.forMs / 1000),
        received: one.received,
        advertised: one.advertised,
        bfd: one.bfd,
      })),
    )
  }

  /** What does not work now, in sentences. */
  get problems(): readonly string[] {
    const isolated = 'the store and all other hosts are out of reach: BGP networks are withdrawn'
    return [
      ...(this.#problem === undefined ? [] : [this.#problem]),
      ...(this.#withdrawn ? [isolated] : []),
      ...[...this.#instances.values()].flatMap(({ problems }) => problems),
      ...unspokenPeers(this.#store),
    ]
  }

  /** Stops watching; daemons go on. */
  async close(): Promise<void> {
    this.#closed = true
    this.#stopWatch()
    clearTimeout(this.#timer)
    await this.#working
    for (const instance of this.#instances.values()) instance.close()
  }

  #hear({ changes }: ChangeBatch): void {
    if (!changes.some(({ kind }) => kindsUsed.has(kind))) return
    this.#again = true
    this.#schedule(0)
  }

  async #adopt(): Promise<void> {
    for (const router of planRouters(this.#store, this.#settings.hostId)) {
      const instance = this.#make(router)
      try {
        if (!(await instance.adopt())) continue
        this.#instances.set(router.id, instance)
        await instance.publish()
      } catch (error) {
        this.#fail(error)
      }
    }
  }

  #make(router: SpeakingRouter): Instance {
    const { store, hostId, links, run = runCommand, look, routesMax, runDir } = this.#settings
    const openDaemon = (name: string, namespace: string) =>
      openFrr({ namespace, folder: `${runDir}/${name}`, run })
    return new Instance(
      { store, host: hostId, outer: links, run, look, openDaemon, routesMax },
      router,
    )
  }

  #schedule(afterMs: number): void {
    if (this.#closed || this.#working !== undefined) return
    clearTimeout(this.#timer)
    this.#timer = setTimeout(() => {
      this.#working = this.#work(false)
    }, afterMs)
    this.#timer.unref()
  }

  async #work(isFirst: boolean): Promise<void> {
    try {
      await this.#round(isFirst)
    } catch (error) {
      this.#fail(error)
    } finally {
      this.#working = undefined
      const isIdle = this.#instances.size === 0 && this.#problem === undefined
      this.#schedule(this.#again ? 0 : isIdle ? limits.checkMs : limits.lookMs)
    }
  }

  async #round(isFirst: boolean): Promise<void> {
    const now = performance.now()
    if (this.#again || isFirst || now >= this.#due.retry) {
      this.#again = false
      this.#due.retry = Number.POSITIVE_INFINITY
      await this.#reconcile(isFirst)
    }
    if (this.#instances.size === 0) return
    const isDue = (what: 'links' | 'check' | 'readAll', everyMs: number) => {
      if (now < this.#due[what]) return false
      this.#due[what] = now + everyMs
      return true
    }
    const [links, check, all] = [
      isDue('links', limits.linksMs),
      isDue('check', limits.checkMs),
      isDue('readAll', limits.readAllMs),
    ]
    for (const instance of this.#instances.values()) {
      if (links) instance.followLinks()
      if (all) instance.readAll()
      instance.look()
      if (now >= this.#due.publish) await this.#publish(instance, now)
    }
    if (check) await this.#check(now)
  }

  /** A store that is away is not asked all the time. */
  async #publish(instance: Instance, now: number): Promise<void> {
    try {
      await instance.publish()
    } catch (error) {
      log('%s', error)
      this.#due.publish = now + limits.retryMs
    }
  }

  async #reconcile(isFirst: boolean): Promise<void> {
    const planned = planRouters(this.#store, this.#settings.hostId)
    if (isFirst) await this.#removeStrangers(planned)
    const wanted = new Set(planned.map(({ id }) => id))
    for (const [id, instance] of this.#instances) {
      if (wanted.has(id)) continue
      await instance.remove()
      this.#instances.delete(id)
    }
    if (planned.length > 0 && findFrr() === undefined)
      throw new RoutingDaemonError(
        'NOT_INSTALLED',
        'BGP needs FRR, which is not installed; install it: apt-get install frr',
      )
    for (const router of planned) {
      const known = this.#instances.get(router.id)
      const instance = known ?? this.#make(router)
      this.#instances.set(router.id, instance)
      for (const what of await instance.apply(router, this.#withdrawn)) {
        log('%s', what)
        if (known !== undefined && !this.#again) this.#repaired(what)
      }
    }
    this.#problem = undefined
    this.#retryMs = limits.retryMs
  }

  /** What daemons of routers that are gone left behind while no agent ran. */
  async #removeStrangers(planned: readonly SpeakingRouter[]): Promise<void> {
    const { run = runCommand, runDir, hostId } = this.#settings
    const wanted = new Set(planned.map(({ id }) => speakerName(hostId, id)))
    const links = new Set(planned.flatMap(({ ports }) => ports.map(({ link }) => link)))
    for (const name of namesLeft(hostId, runDir))
      if (!wanted.has(name)) await removeDaemon(name, runDir, run)
    for (const { name } of this.#settings.links.list())
      if (isSpeakerLink(name) && !links.has(name)) this.#settings.links.remove(name)
  }

  async #check(now: number): Promise<void> {
    await this.#followIsolation(now)
    for (const instance of this.#instances.values()) {
      for (const what of await instance.supervise()) this.#repaired(what)
      await instance.ask().catch((error) => log('%s', error))
    }
  }

  /** A gateway that nobody tells anything any more must not draw traffic. */
  async #followIsolation(now: number): Promise<void> {
    const { reachesOthers } = this.#settings
    if (this.#store.problem === undefined) this.#lostAt = undefined
    else this.#lostAt ??= now
    const isLong = this.#lostAt !== undefined && now - this.#lostAt >= limits.isolatedMs
    const isIsolated = isLong && reachesOthers !== undefined && !(await reachesOthers())
    if (isIsolated === this.#withdrawn) return
    this.#withdrawn = isIsolated
    this.#again = true
  }

  #repaired(what: string): void {
    this.repairs.push({ time: Date.now(), what })
    if (this.repairs.length > limits.repairs) this.repairs.shift()
  }

  #fail(error: unknown): void {
    const message = error instanceof Error ? error.message : String(error)
    if (this.#problem !== message) console.error(`midonet: BGP: ${message}`)
    this.#problem = message
    this.#due.retry = performance.now() + this.#retryMs
    this.#retryMs = Math.min(this.#retryMs * 2, limits.retryMsMax)
  }
}

/** Removes daemons, namespaces and links from the host. */
export async function removeSpeakers(settings: {
  readonly links: Links
  /** Undefined when this host has no id yet. */
  readonly hostId: string | undefined
  readonly runDir: string
  readonly run?: Run
}): Promise<void> {
  const { links, runDir, hostId, run = runCommand } = settings
  for (const name of namesLeft(hostId, runDir)) await removeDaemon(name, runDir, run)
  for (const { name } of links.list()) if (isSpeakerLink(name)) links.remove(name)
}

async function removeDaemon(name: string, runDir: string, run: Run): Promise<void> {
  const namespace = namespaceOf(name)
  await openFrr({ namespace, folder: `${runDir}/${name}`, run }).stop()
  await removeNamespace(run, namespace)
}
