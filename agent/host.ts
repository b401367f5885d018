/** What this host says of itself in the topology, and opening the store as this host. */
import { hostname, networkInterfaces } from 'node:os'
import createDebug from 'debug'
import type { Links } from '../datapath/link.ts'
import type { EtcdAccess } from '../topology/etcd-client.ts'
import { tunnelKeyMax } from '../topology/host-schema.ts'
import type { Binding, Host } from '../topology/model.ts'
import { openStore } from '../topology/open.ts'
import type { Store } from '../topology/store.ts'
import { bindPort } from '../topology/tunnel.ts'
import type { Settings } from './settings.ts'
import { joinDefaultZone } from './underlay.ts'

const log = createDebug('midonet:host')

/** Interfaces that the agent or Docker made: they come and go, and no tunnel runs over them. */
const madeByUs = /^(lo|m[npub][0-9a-f]{11}|veth.*|docker0|br-[0-9a-f]{12}|midonet.*|mt-.*)$/

const since = new Date(performance.timeOrigin).toISOString()

/** How often the host looks whether it is still what it said. */
const lookMs = 2_000
/**
 * At most this part of the time is spent on looking: the kernel lets it wait, and all that this
 * thread does with it, while many links are made.
 */
const lookPart = 1 / 50

/** Opens the store of the settings for host `host`. @throws StoreError */
export function openHostStore(settings: Settings, host: string | undefined): Promise<Store> {
  return openStore(settings.store, {
    host,
    ...etcdAccessOf(settings),
    ...(host !== undefined && { replicaDir: `${settings.stateDir}/replica` }),
  })
}

/** How the settings say that etcd is reached. */
export function etcdAccessOf(settings: Settings): Omit<EtcdAccess, 'endpoints'> {
  return {
    caFile: settings.storeCa,
    certFile: settings.storeCert,
    keyFile: settings.storeKey,
    user: settings.storeUser,
    password: settings.storePassword,
  }
}

/** The host's own interfaces with their addresses, in order of name. */
export function interfacesOf(links: Pick<Links, 'list'>): NonNullable<Host['interfaces']> {
  const addresses = networkInterfaces()
  return links
    .list()
    .filter(({ name }) => !madeByUs.test(name))
    .slice(0, 256)
    .map(({ name, mtu, up, mac }) => ({
      name,
      mtu,
      up,
      ...(mac !== undefined && !/^(00:){5}00$/.test(mac) && { mac }),
      addresses: (addresses[name] ?? [])
        .filter(({ address }) => !address.startsWith('fe80:'))
        .flatMap(({ cidr }) => cidr ?? [])
        .slice(0, 64),
    }))
    .sort((a, b) => (a.name < b.name ? -1 : 1))
}

/**
 * Writes what the host is, that it is alive, and tunnel keys of its ports that have none. Without
 * the store (its replica is used) it is written when the agent starts the next time.
 */
export async function registerHost(store: Store, host: Host, underlay?: string): Promise<void> {
  let problem: string | undefined
  await store.transact((draft) => {
    draft.put('host', host)
    problem = underlay === undefined ? undefined : joinDefaultZone(draft, host, underlay)
    draft.put('hostAlive', { id: host.id, since })
    for (const fact of draft.list('portActive')) {
      const isHere = draft.get('binding', fact.id)?.host === host.id
      if (fact.host === host.id && !isHere) draft.delete('portActive', fact.id)
    }
    for (const binding of draft.list('binding'))
      if (binding.host === host.id && !hasKey(binding)) bindPort(draft, keyless(binding))
  })
  if (problem !== undefined) console.error(`midonet: ${problem}`)
}

/** What `followHost` looks at, and how often. */
export interface HostView {
  /** The host as it is now. */
  readonly describe: () => Host
  /** Its addresses; a short look that comes before the whole one. */
  readonly addresses?: () => string
  readonly underlay: string | undefined
  /** The store has what the host is. */
  readonly isKnown: boolean
  readonly everyMs?: number
}

/**
 * Says anew what the host is when its addresses have changed: that of the underlay may come after
 * the agent. Also when the store could not be reached at first. Returns what ends it.
 */
export function followHost(store: Store, view: HostView): () => void {
  const { describe, addresses = addressText, underlay, everyMs = lookMs } = view
  let known = view.isKnown ? addresses() : undefined
  let isWriting = false
  const look = async () => {
    const now = addresses()
    if (isWriting || now === known || store.problem !== undefined) return
    isWriting = true
    try {
      await registerHost(store, describe(), underlay)
      known = now
    } catch (error) {
      log('not written: %s', error instanceof Error ? error.message : error)
    } finally {
      isWriting = false
    }
  }
  const next = (pauseMs: number) =>
    setTimeout(() => {
      const begun = performance.now()
      void look()
      timer = next(Math.max(everyMs, (performance.now() - begun) / lookPart))
    }, pauseMs)
  let timer = next(everyMs)
  return () => clearTimeout(timer)
}

function addressText(): string {
  return Object.entries(networkInterfaces())
    .filter(([name]) => !madeByUs.test(name))
    .flatMap(([name, all = []]) => all.map(({ cidr }) => `${name} ${cidr}`))
    .sort()
    .join(', ')
}

/** The host as it is now. */
export function thisHost(id: string, links: Pick<Links, 'list'>): Host {
  return { id, name: hostname(), interfaces: interfacesOf(links) }
}

/** Keys that earlier versions gave out may have the bit that says of a flood. */
function hasKey({ tunnelKey }: Binding): boolean {
  return tunnelKey !== undefined && tunnelKey <= tunnelKeyMax
}

function keyless({ tunnelKey: _key, ...binding }: Binding): Binding {
  return binding
}
