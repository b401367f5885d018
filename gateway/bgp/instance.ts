/** One router's daemon on this host: namespace, links, configuration, what it has learned. */
import type { KernelRoute, Links, RouteMonitor } from '../../datapath/link.ts'
import type { LearnedRoute } from '../../topology/model.ts'
import type { Store } from '../../topology/store.ts'
import type { Run } from '../host.ts'
import type { RoutingDaemon, Session, SpeakerConfig } from './daemon.ts'
import { learnedRoutes, writeLearned } from './learned.ts'
import {
  ensureLinks,
  followCarrier,
  makeNamespace,
  namespaceOf,
  reachNamespace,
  removeNamespace,
  speakerName,
} from './namespace.ts'
import type { SpeakingRouter } from './plan.ts'

/** What of the kernel lies in a namespace, once that is there. */
export interface NamespaceView {
  readonly links: Links
  readonly monitor: RouteMonitor
  close(): void
}

export interface InstanceSettings {
  readonly store: Store
  readonly host: string
  readonly outer: Links
  readonly run: Run
  /** Opens a namespace that is there, and puts its kernel settings in place. */
  readonly look: (path: string) => NamespaceView
  /** Of `speakerName`, and the namespace of that name. */
  readonly openDaemon: (name: string, namespace: string) => RoutingDaemon
  /** Destinations of one router on this host. */
  readonly routesMax: number
}

export class Instance {
  readonly #settings: InstanceSettings
  readonly #path: string
  readonly #daemon: RoutingDaemon
  #view: NamespaceView | undefined
  #router: SpeakingRouter
  #portByIndex = new Map<number, string>()
  #isDirty = true
  #refused = 0
  #sessions: readonly Session[] = []

  constructor(settings: InstanceSettings, router: SpeakingRouter) {
    this.#settings = settings
    this.#router = router
    const name = speakerName(settings.host, router.id)
    this.#path = namespaceOf(name)
    this.#daemon = settings.openDaemon(name, this.#path)
  }

  get router(): SpeakingRouter {
    return this.#router
  }

  /** As last asked. */
  get sessions(): readonly Session[] {
    return this.#sessions
  }

  /** What does not work, in sentences. */
  get problems(): readonly string[] {
    if (this.#refused === 0) return []
    const { name } = this.#router
    const most = `more than ${this.#settings.routesMax} (MIDONET_BGP_ROUTES)`
    return [`router ${name}: ${this.#refused} learned routes are left out: there are ${most}`]
  }

  /**
   * Takes over what an agent before has left, without changing any of it; whether there was any.
   * @throws GatewayError
   */
  async adopt(): Promise<boolean> {
    if (!(await this.#reach())) return false
    this.#open()
    return true
  }

  /** Makes it what it should be; says what had to be done. @throws GatewayError, RoutingDaemonError */
  async apply(router: SpeakingRouter, withdrawn: boolean): Promise<readonly string[]> {
    const { run, outer } = this.#settings
    this.#router = router
    const notes: string[] = []
    if (!(await this.#reach())) {
      this.#close()
      await makeNamespace(run, this.#path)
      notes.push('namespace made')
    }
    const { links: inner } = this.#open()
    notes.push(...(await ensureLinks({ run, outer, inner, path: this.#path }, router.ports)))
    this.#indexPorts()
    followCarrier(outer, router.ports)
    await this.#daemon.apply(configOf(router, withdrawn, this.#settings.routesMax))
    return notes.map((what) => `BGP of router ${router.name}: ${what}`)
  }

  /** Sees to it that the daemon runs. @throws RoutingDaemonError */
  async supervise(): Promise<readonly string[]> {
    const notes = await this.#daemon.supervise()
    return notes.map((what) => `BGP of router ${this.#router.name}: ${what}`)
  }

  async ask(): Promise<void> {
    this.#sessions = await this.#daemon.sessions()
  }

  /** Takes in what the kernel says of routes and links; quick. */
  look(): void {
    if (this.#view?.monitor.poll() === true) this.#isDirty = true
  }

  /** Sets the links as their ports' interfaces are. */
  followLinks(): void {
    if (followCarrier(this.#settings.outer, this.#router.ports)) this.readAll()
  }

  /** Does not trust what was heard. */
  readAll(): void {
    this.#view?.monitor.readAll()
    this.#isDirty = true
  }

  /** Writes what was learned since. @throws StoreError, TopologyError */
  async publish(): Promise<void> {
    if (!this.#isDirty || this.#view === undefined) return
    this.#isDirty = false
    try {
      const { routes } = this.#learned(this.#view.monitor.routes.values())
      await writeLearned(this.#settings.store, this.#router.id, this.#settings.host, routes)
    } catch (error) {
      this.#isDirty = true
      throw error
    }
  }

  /** Ends the daemon and removes all of it; the routes too. */
  async remove(): Promise<void> {
    const { run, outer, store, host } = this.#settings
    await this.#daemon.stop()
    this.#close()
    for (const { link } of this.#router.ports) outer.remove(link)
    await removeNamespace(run, this.#path)
    await writeLearned(store, this.#router.id, host, new Map<string, LearnedRoute>())
  }

  /** Lets go: the daemon goes on. */
  close(): void {
    this.#close()
  }

  #learned(kernel: Iterable<KernelRoute>) {
    const portOf = (index: number) => this.#portByIndex.get(index)
    const { host, routesMax } = this.#settings
    const found = learnedRoutes(this.#router, host, kernel, portOf, routesMax)
    this.#refused = found.refused
    return found
  }

  #reach(): Promise<boolean> {
    return reachNamespace(this.#settings.run, this.#path, this.#daemon.process)
  }

  #open(): NamespaceView {
    if (this.#view !== undefined) return this.#view
    const view = this.#settings.look(this.#path)
    this.#view = view
    this.#isDirty = true
    this.#indexPorts()
    return view
  }

  #close(): void {
    this.#view?.close()
    this.#view = undefined
  }

  #indexPorts(): void {
    const ids = new Map(this.#router.ports.map(({ inner, id }) => [inner, id]))
    const found = (this.#view?.links.list() ?? []).flatMap(({ index, name }) => {
      const id = ids.get(name)
      return id === undefined ? [] : [[index, id] as const]
    })
    const isSame = found.every(([index, id]) => this.#portByIndex.get(index) === id)
    if (isSame && found.length === this.#portByIndex.size) return
    this.#portByIndex = new Map(found)
    this.#isDirty = true
  }
}

function configOf(
  { asn, routerId, ports, networks }: SpeakingRouter,
  withdrawn: boolean,
  routesMax: number,
): SpeakerConfig {
  return {
    asn,
    routerId,
    networks: withdrawn ? [] : networks,
    // What is far more than is used costs only memory, but that of the host.
    prefixesMax: routesMax * 4,
    peers: ports
      .flatMap(({ peers }) => peers)
      .map(
        ({ address, asn: its, holdTime = 180, keepAlive, connectRetry = 10, password, bfd }) => ({
          address,
          asn: its,
          holdTime,
          keepAlive: keepAlive ?? Math.min(60, Math.floor(holdTime / 3)),
          connectRetry,
          password,
          bfd: bfd === true,
        }),
      ),
  }
}
