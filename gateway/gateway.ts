/**
 * The way out of virtual routers and the way in to published ports, on this host.
 *
 *    router ─ port, its chains: NAT ═ mn… ════ mu… ═ host: one address a router, nftables
 *
 * What should be there follows from the store; what is there is compared with it at every change
 * and every few seconds, and repaired.
 */
import createDebug from 'debug'
import { type Connections, LinkError, type Links } from '../datapath/link.ts'
import type { Endpoint } from '../topology/model.ts'
import type { Change, ChangeBatch, Revision, Store } from '../topology/store.ts'
import { changedUdpPorts, type DesiredState, desiredState } from './desired.ts'
import { GatewayError } from './error.ts'
import { kernelSettings, type Run, runCommand, type Settings } from './host.ts'
import { ensureInterfaces, ensurePair, removeInterfaces } from './interface.ts'
import { closeForward, enableForwarding, enableForwarding6, openForward } from './iptables.ts'
import { toCidr } from './link.ts'
import { Nftables, renderRuleset } from './nftables.ts'
import { missingUplinks, needsPlan, planUplinks } from './uplink.ts'

const log = createDebug('midonet:gateway')

export const limits = {
  /** How long a change may take until whoever waits for it is told that it failed. */
  settledMs: 15_000,
  /** Between two looks at links, routes and rules without a change. */
  checkMs: 3_000,
  repairs: 1_000,
  waiting: 4_096,
} as const

export interface GatewaySettings {
  readonly store: Store
  readonly links: Links
  readonly hostId: string
  /** Without it, UDP clients of a published port that never pause stay with who had it before. */
  readonly connections?: Connections
  /** How commands are run; for tests. */
  readonly run?: Run
  /** Where kernel settings are; for tests. */
  readonly settings?: Settings
}

/** Something that was not as it should be and was put right. */
export interface Repair {
  /** Milliseconds since 1970. */
  readonly time: number
  readonly what: string
}

export interface GatewayStatus {
  readonly uplinks: readonly {
    readonly router: string
    readonly interface: string
    readonly hostAddress: string
    readonly subnets: readonly string[]
  }[]
  readonly publications: number
  /** What does not work now, in sentences; empty when all is well. */
  readonly problems: readonly string[]
}

export interface Gateway {
  /** Resolves when the host reflects every change up to `revision`. @throws GatewayError */
  settled(revision: Revision): Promise<void>
  /** The latest repairs, oldest first. */
  readonly repairs: readonly Repair[]
  status(): GatewayStatus
  /** Stops watching and repairing; links and rules stay and go on working. */
  close(): Promise<void>
}

/** Makes and keeps the uplinks of this host's routers. Returns at once; `settled` tells when they stand. */
export function startGateway(settings: GatewaySettings): Gateway {
  return new HostGateway(settings)
}

/** Removes links, rules and the nftables table from the kernel; the store keeps its objects. */
export async function removeAll(settings: Pick<GatewaySettings, 'links' | 'run'>): Promise<void> {
  const run = settings.run ?? runCommand
  removeInterfaces(settings.links)
  await closeForward(run)
  await new Nftables(run).remove()
}

interface Waiting {
  readonly revision: Revision
  readonly resolve: () => void
  readonly reject: (error: GatewayError) => void
  readonly timer: NodeJS.Timeout
}

class HostGateway implements Gateway {
  readonly #store: Store
  readonly #links: Links
  readonly #host: string
  readonly #run: Run
  readonly #settings: Settings
  readonly #connections: Connections | undefined
  /** UDP ports whose connections must be forgotten once the new rules are in force. */
  readonly #moved = new Set<number>()
  readonly #nftables: Nftables
  readonly #stopWatch: () => void
  readonly #repairs: Repair[] = []
  readonly #waiting = new Set<Waiting>()
  #state: DesiredState = { uplinks: [], publications: [] }
  /** The newest revision with a change that matters here, and the newest the host reflects. */
  #relevant: Revision
  #applied: Revision = -1
  #problem: string | undefined
  /** Whether iptables lets uplinks through; undefined before the first look. */
  #opened: boolean | undefined
  #opened6 = false
  #working: Promise<void> | undefined
  #again = false
  #timer: NodeJS.Timeout | undefined
  #closed = false

  constructor(settings: GatewaySettings) {
    this.#store = settings.store
    this.#links = settings.links
    this.#host = settings.hostId
    this.#run = settings.run ?? runCommand
    this.#settings = settings.settings ?? kernelSettings
    this.#connections = settings.connections
    this.#nftables = new Nftables(this.#run)
    this.#relevant = this.#store.revision
    this.#stopWatch = this.#store.watch((batch) => this.#hear(batch))
    this.#wake()
  }

  get repairs(): readonly Repair[] {
    return this.#repairs
  }

  settled(revision: Revision): Promise<void> {
    // Nobody listens any more after close.
    const needed = this.#closed ? revision : Math.min(revision, this.#relevant)
    if (this.#applied >= needed) return Promise.resolve()
    if (this.#closed) return Promise.reject(stopped())
    if (this.#waiting.size >= limits.waiting)
      return Promise.reject(new GatewayError('TIMEOUT', 'too many changes wait for the gateway'))
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#waiting.delete(waiting)
        const reason = this.#problem ?? 'it is busy'
        reject(
          new GatewayError('TIMEOUT', `the gateway did not take the change in time: ${reason}`),
        )
      }, limits.settledMs)
      const waiting = { revision: needed, resolve, reject, timer }
      this.#waiting.add(waiting)
      this.#wake()
    })
  }

  status(): GatewayStatus {
    return {
      uplinks: this.#state.uplinks.map((uplink) => ({
        router: uplink.router,
        interface: uplink.interface,
        hostAddress: uplink.hostAddress,
        subnets: uplink.subnets,
      })),
      publications: this.#state.publications.length,
      problems: this.#problem === undefined ? [] : [this.#problem],
    }
  }

  async close(): Promise<void> {
    this.#closed = true
    this.#stopWatch()
    clearTimeout(this.#timer)
    await this.#working
    this.#endWaiting(Number.POSITIVE_INFINITY, stopped())
  }

  #hear(batch: ChangeBatch): void {
    if (!batch.changes.some((change) => this.#matters(change))) return
    this.#relevant = batch.revision
    this.#wake()
  }

  /** Whether a change can alter what the host should look like. */
  #matters(change: Change): boolean {
    switch (change.kind) {
      case 'network':
      case 'router':
      case 'uplink':
      case 'loadBalancer':
        return true
      case 'vip':
        return change.value?.published !== undefined || change.before?.published !== undefined
      case 'endpoint':
        return hasPublications(change.value) || hasPublications(change.before)
      case 'route':
        return change.value?.dst === '0.0.0.0/0' || change.before?.dst === '0.0.0.0/0'
      case 'port':
      case 'binding':
        // Taken away from under an uplink.
        return change.value === undefined && this.#state.uplinks.some(({ id }) => id === change.id)
      case 'host':
      case 'bridge':
      case 'pool':
      case 'address':
      case 'chain':
      case 'rule':
      case 'portGroup':
      case 'addressGroup':
      case 'tunnelZone':
      case 'zoneMember':
      case 'hostAlive':
      case 'portActive':
      case 'learnedMac':
      case 'learnedNeighbor':
      case 'learnedRoute':
      case 'dhcpSubnet':
      case 'dhcpHost':
      case 'qosPolicy':
      case 'traceRequest':
      case 'balancerPool':
      case 'poolMember':
      case 'healthMonitor':
      case 'mirror':
      case 'bgpPeer':
      case 'bgpNetwork':
        return false
    }
  }

  /** One at a time; what comes meanwhile is done in one more round. */
  #wake(): void {
    if (this.#closed) return
    this.#again = true
    this.#working ??= this.#work()
  }

  async #work(): Promise<void> {
    clearTimeout(this.#timer)
    // Not at once: changes of one moment are taken together.
    await Promise.resolve()
    while (this.#again && !this.#closed) {
      this.#again = false
      await this.#round()
    }
    this.#working = undefined
    if (this.#closed) return
    this.#timer = setTimeout(() => this.#wake(), limits.checkMs)
    this.#timer.unref()
  }

  async #round(): Promise<void> {
    // Without a change since the last round everything that is not as it should be is a repair.
    const settled = this.#applied >= this.#relevant
    const { revision } = this.#store
    try {
      const planned = await this.#plan()
      const adopting = this.#applied < 0 && !planned
      await this.#apply(settled || adopting, settled)
      this.#problem = undefined
      this.#applied = Math.max(this.#applied, revision)
      this.#endWaiting(this.#applied)
    } catch (error) {
      const problem = asGatewayError(error)
      if (this.#problem !== problem.message) console.error(`midonet: gateway: ${problem.message}`)
      this.#problem = problem.message
      this.#endWaiting(revision, problem)
    }
  }

  /** Brings the store's uplinks in line with its networks; says whether it had to. */
  async #plan(): Promise<boolean> {
    if (!needsPlan(this.#store, this.#host)) return false
    // The links come first: the datapath takes them as soon as it hears of their bindings.
    for (const pair of missingUplinks(this.#store, this.#host)) ensurePair(this.#links, pair)
    const held = this.#links.addresses().map(({ cidr }) => cidr)
    const routed = this.#links.routes().map(({ dst }) => dst)
    // Also a host with a route to all of 169.254.0.0/16 (Zeroconf) has room for a /30 of ours.
    const taken = [...held, ...routed].filter((cidr) => /^169\.254\..*\/(2\d|3\d)$/.test(cidr))
    await this.#store.transact((draft) => planUplinks(draft, this.#host, taken.map(toCidr)))
    return true
  }

  async #apply(repairing: boolean, checking: boolean): Promise<void> {
    const state = desiredState(this.#store, this.#host)
    // After a start nobody can tell what was published before.
    if (this.#applied >= 0)
      for (const port of changedUdpPorts(this.#state, state)) this.#moved.add(port)
    this.#state = state
    for (const what of ensureInterfaces(this.#links, this.#settings, state)) {
      log('%s', what)
      if (repairing) this.#repaired(what)
    }
    const needed = state.uplinks.length > 0
    await this.#nftables.apply(needed ? renderRuleset(state, closedLinks(this.#links)) : undefined)
    if (this.#moved.size > 0) this.#connections?.forget(udp, this.#moved)
    this.#moved.clear()
    if (checking && (await this.#nftables.repair()))
      this.#repaired('nftables: table inet midonet written again')
    if (!needed && this.#opened !== false) await closeForward(this.#run)
    if (needed && (checking || this.#opened !== true)) {
      const enabled = await enableForwarding(this.#run, this.#settings)
      if (enabled && checking) this.#repaired('net.ipv4.ip_forward set to 1')
      const added = await openForward(this.#run)
      if (added && checking) this.#repaired('iptables: rules that let uplinks through added')
    }
    const speaks6 = state.uplinks.some(({ link6 }) => link6 !== undefined)
    if (speaks6 && (checking || !this.#opened6)) await this.#open6(checking)
    this.#opened6 = speaks6
    this.#opened = needed
  }

  async #open6(checking: boolean): Promise<void> {
    const names = this.#links.list().map(({ name }) => name)
    const enabled = await enableForwarding6(this.#run, this.#settings, names)
    if (enabled && checking) this.#repaired('net.ipv6.conf.all.forwarding set to 1')
    const added = await openForward(this.#run, 'ip6tables')
    if (added && checking) this.#repaired('ip6tables: rules that let uplinks through added')
  }

  #repaired(what: string): void {
    this.#repairs.push({ time: Date.now(), what })
    if (this.#repairs.length > limits.repairs) this.#repairs.shift()
  }

  /** Answers those who wait for `revision` or an earlier one. */
  #endWaiting(revision: Revision, error?: GatewayError): void {
    for (const waiting of this.#waiting) {
      if (waiting.revision > revision) continue
      this.#waiting.delete(waiting)
      clearTimeout(waiting.timer)
      if (error === undefined) waiting.resolve()
      else waiting.reject(error)
    }
  }
}

/** IP protocol number. */
const udp = 17

function hasPublications(endpoint: Endpoint | undefined): boolean {
  return endpoint !== undefined && endpoint.publications.length > 0
}

/** Docker's own bridges: what is behind them is published by Docker, or not at all. */
function closedLinks(links: Links): readonly string[] {
  return links
    .list()
    .filter(({ kind }) => kind === 'bridge')
    .map(({ name }) => name)
    .filter((name) => /^(docker0|docker_gwbridge|br-[0-9a-f]{12})$/.test(name))
    .sort()
}

function stopped(): GatewayError {
  return new GatewayError('STOPPED', 'the agent is stopping')
}

function asGatewayError(error: unknown): GatewayError {
  if (error instanceof GatewayError) return error
  const message = error instanceof Error ? error.message : String(error)
  const what = error instanceof LinkError ? 'an uplink cannot be made' : 'the gateway failed'
  return new GatewayError('FAILED', `${what}: ${message}`, { cause: error })
}
