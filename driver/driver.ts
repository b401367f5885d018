/**
 * Docker's side of the agent: both sockets, the network and IPAM drivers, and the reconciler.
 * What `main.ts` starts; everything else in this folder hangs below it.
 */
import { hostname } from 'node:os'
import { basename } from 'node:path'
import type { Links, OpenContainer } from '../datapath/link.ts'
import type { Revision, Store } from '../topology/store.ts'
import { type ApiSettings, createApi } from './api.ts'
import { answerCni } from './cni.ts'
import { Containers } from './containers.ts'
import { type DriverContext, Recent, Turns } from './context.ts'
import type { DockerView } from './docker.ts'
import { ipamCalls, plainIpamCalls } from './ipam-driver.ts'
import { lenientNetworkCalls, networkCalls } from './network-driver.ts'
import { Reconciler } from './reconciler.ts'
import { listenOnTls, type TlsSettings } from './rest/tls.ts'
import { createPluginApp, type PluginCalls, type PluginLimits } from './server.ts'
import { ServiceWatch } from './service-watch.ts'
import { listenOnSocket } from './socket.ts'
import { swarmCalls } from './swarm.ts'

/** Whose networks a socket makes: one host's, or a Swarm's. */
export type Scope = 'local' | 'global'

export interface DriverSettings {
  /** Where Docker finds the driver; the file's name without `.sock` is the driver's name. */
  readonly socketPath: string
  /** The managed plugin's own socket and the scope of its networks; absent outside of one. */
  readonly managed?: { readonly socketPath: string; readonly scope: Scope } | undefined
  /** The agent's own API, for `midonet status` and `midonet trace`. */
  readonly apiSocketPath: string
  /** Where the API listens besides, for who has a token. */
  readonly apiTls?: TlsSettings | undefined
  /** Calls that come before wait for it, up to 5 s; its rejection is told to Docker. */
  readonly store: Promise<Store>
  readonly links: Links
  readonly hostId: string | Promise<string>
  /** Resolves when datapath and gateway reflect a revision; Join and ports wait for it. */
  readonly settled: (revision: Revision) => Promise<void>
  /** Answers `GET /status` of the API, as JSON. */
  readonly status: () => Promise<unknown>
  /** Answers `POST /trace` of the API, as JSON; its rejection becomes a 400 with the message. */
  readonly trace: (port: string, packet: string) => Promise<unknown>
  /** Answers `GET /traces` of the API. */
  readonly traces?: ApiSettings['traces']
  /** Answers `POST /dpctl` of the API. */
  readonly dpctl?: ApiSettings['dpctl']
  /** How containers' network namespaces are entered; without it CNI is not served. */
  readonly openContainer?: OpenContainer | undefined
  /** `openDocker(path)` of docker.ts. Without it nothing is compared with Docker. */
  readonly docker?: DockerView | undefined
  readonly limits?: PluginLimits
}

export interface Driver {
  readonly reconciler: Reconciler
  readonly containers: Containers
  readonly services: ServiceWatch | undefined
  /** Reads certificate and tokens of the API again. @throws DriverError when they are wrong */
  reload(): void
  /** Stops answering; links and the store stay as they are. The store is not closed. */
  close(): Promise<void>
}

/**
 * Opens both sockets at once and resolves when they listen; the store may come later.
 * @throws SocketError code `IN_USE` when another agent listens there
 */
export async function startDriver(settings: DriverSettings): Promise<Driver> {
  const ready = prepare(settings, (what) => reconciler.report(what))
  // Each call tells the failure to Docker; here it must only not end the process.
  ready.catch(() => undefined)
  const reconciler = new Reconciler({
    ready,
    docker: settings.docker,
    driver: basename(settings.socketPath, '.sock'),
  })
  const containers = new Containers({ ready, docker: settings.docker })
  const services = settings.docker && new ServiceWatch(ready, settings.docker)
  const report = (what: string) => reconciler.report(what)
  const { openContainer } = settings
  const cni = openContainer && ((body: unknown) => answerCni({ ready, openContainer }, body))
  const app = createApi({ ...settings, cni, names: () => containers.names })
  const opened: { close(): Promise<void> }[] = []
  const close = async () => {
    await Promise.all(opened.map((server) => server.close()))
  }
  try {
    const { managed } = settings
    if (managed !== undefined) {
      const managedApp = createPluginApp(callsFor(managed.scope), ready, settings.limits)
      opened.push(await listenOnSocket(managed.socketPath, managedApp, report))
    }
    const pluginApp = createPluginApp(callsFor('local'), ready, settings.limits)
    opened.push(await listenOnSocket(settings.socketPath, pluginApp, report))
    opened.push(await listenOnSocket(settings.apiSocketPath, app, report))
    const tls = settings.apiTls && (await listenOnTls(settings.apiTls, app))
    if (tls !== undefined) opened.push(tls)
    reconciler.start()
    containers.start()
    services?.start()
    return {
      reconciler,
      containers,
      services,
      reload: () => tls?.reload(),
      async close() {
        reconciler.stop()
        containers.stop()
        services?.stop()
        await close()
      },
    }
  } catch (error) {
    await close()
    throw error
  }
}

/** Docker asks each socket whose networks it makes: those of one host, or Swarm's. */
function callsFor(scope: Scope): PluginCalls {
  const capabilities = { Scope: scope, ConnectivityScope: scope }
  return {
    plain: {
      'Plugin.Activate': () => ({ Implements: ['NetworkDriver', 'IpamDriver'] }),
      'NetworkDriver.GetCapabilities': () => capabilities,
      ...plainIpamCalls,
    },
    calls: { ...networkCalls, ...(scope === 'global' && swarmCalls), ...ipamCalls },
    lenient: lenientNetworkCalls,
  }
}

async function prepare(
  settings: DriverSettings,
  report: (what: string) => void,
): Promise<DriverContext> {
  const [store, host] = await Promise.all([settings.store, settings.hostId])
  await store.transact((draft) => {
    // Endpoints and bindings refer to it.
    if (draft.get('host', host) === undefined) draft.put('host', { id: host, name: hostname() })
  })
  return {
    store,
    host,
    links: settings.links,
    settled: settings.settled,
    recent: new Recent(() => performance.now()),
    turns: new Turns(),
    report,
  }
}
