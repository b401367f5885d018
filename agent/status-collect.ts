/** Gathers what `status.ts` shows; every part may still be missing while the agent starts. */
import { existsSync } from 'node:fs'
import { hostname, release } from 'node:os'
import { basename } from 'node:path'
import type { DockerNetwork, DockerView } from '../driver/docker.ts'
import type { Driver } from '../driver/driver.ts'
import type { Speakers } from '../gateway/bgp/speakers.ts'
import type { Gateway } from '../gateway/gateway.ts'
import { kinds } from '../topology/model.ts'
import type { Store } from '../topology/store.ts'
import type { Forwarding } from './forwarding.ts'
import type { Settings } from './settings.ts'
import type { EndpointStatus, NetworkStatus, Status } from './status.ts'
import { version } from './version.ts'

/** The agent's parts, filled in as they start. */
export interface Parts {
  readonly settings: Settings
  readonly docker: DockerView
  readonly hostId?: string
  readonly store?: Store
  readonly forwarding?: Forwarding
  readonly gateway?: Gateway
  readonly speakers?: Speakers
  readonly driver?: Driver
}

/** A host without Docker has no socket of it, and nothing in the store that Docker has asked for. */
function expectsDocker({ settings, store, hostId }: Parts): boolean {
  if (existsSync(settings.dockerSocket)) return true
  const endpoints = store?.list('endpoint') ?? []
  const networks = store?.list('network') ?? []
  const isOfDocker = ({ host, cni }: { host?: string | undefined; cni?: unknown }) =>
    host === hostId && cni === undefined
  return endpoints.some(isOfDocker) || networks.some(isOfDocker)
}

/** Docker is asked for names; without an answer in time they are left out. */
const dockerMs = 1_500

export async function collectStatus(parts: Parts): Promise<Status> {
  const { store, settings } = parts
  const [forwarding, told] = await Promise.all([parts.forwarding?.status(), askDocker(parts)])
  const seen = told ?? parts.driver?.reconciler.known
  const problems: string[] = []
  if (store === undefined) problems.push('the agent is starting')
  if (store?.problem !== undefined) problems.push(store.problem)
  if (forwarding !== undefined && !forwarding.running)
    problems.push(`forwarding does not run: ${forwarding.lastError}`)
  problems.push(...(parts.gateway?.status().problems ?? []))
  problems.push(...(parts.speakers?.problems ?? []))
  const unseen = parts.driver?.reconciler.problem
  if (expectsDocker(parts)) {
    if (unseen !== undefined) problems.push(unseen)
    else if (told === undefined) problems.push('Docker does not answer')
  }
  problems.push(...(parts.driver?.containers.problems ?? []))
  const unserved = parts.driver?.services?.problem
  if (unserved !== undefined && unserved !== unseen) problems.push(unserved)
  const repairs = [
    ...(parts.driver?.reconciler.repairs ?? []),
    ...(parts.forwarding?.repairs ?? []),
    ...[...(parts.gateway?.repairs ?? []), ...(parts.speakers?.repairs ?? [])].map(
      ({ time, what }) => ({
        time: new Date(time).toISOString(),
        what,
      }),
    ),
  ]
  return {
    version,
    host: { id: parts.hostId ?? '', name: hostname() },
    pid: process.pid,
    upS: Math.round(process.uptime()),
    versions: { node: process.versions.node, kernel: release() },
    ready: store !== undefined && forwarding?.running === true,
    problems,
    datapath: forwarding?.datapath ?? {
      kind: 'none',
      why: 'forwarding does not run yet',
      features: [],
    },
    store: {
      url: settings.store,
      revision: store?.revision ?? 0,
      objects: Object.fromEntries(kinds.map((kind) => [kind, store?.list(kind).length ?? 0])),
    },
    networks: networksOf(store, seen),
    endpoints: endpointsOf(store, seen, parts.driver?.containers.names),
    uplinks: uplinksOf(store),
    sessions: parts.speakers?.sessions() ?? [],
    forwarding,
    repairs: repairs.toSorted((a, b) => (a.time < b.time ? -1 : 1)),
  }
}

/** Docker's networks and their endpoints: as it says now, else as it said last. */
export async function namesFromDocker(
  parts: Pick<Parts, 'docker' | 'settings' | 'driver'>,
): Promise<readonly DockerNetwork[] | undefined> {
  return (await askDocker(parts)) ?? parts.driver?.reconciler.known
}

/** Undefined when Docker does not answer in time. */
async function askDocker({
  docker,
  settings,
}: Pick<Parts, 'docker' | 'settings'>): Promise<readonly DockerNetwork[] | undefined> {
  const driver = basename(settings.pluginSocket, '.sock')
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<undefined>((resolve) => {
    timer = setTimeout(() => resolve(undefined), dockerMs)
  })
  const answer = await Promise.race([docker.networks(driver).catch(() => undefined), late])
  clearTimeout(timer)
  return answer
}

function routerName(store: Store | undefined, id: string | undefined): string | undefined {
  return id === undefined ? undefined : (store?.get('router', id)?.name ?? id.slice(0, 12))
}

function networksOf(
  store: Store | undefined,
  seen: readonly DockerNetwork[] | undefined,
): NetworkStatus[] {
  const counts = new Map<string, number>()
  for (const { network } of store?.list('endpoint') ?? [])
    counts.set(network, (counts.get(network) ?? 0) + 1)
  return (store?.list('network') ?? []).map((network) => ({
    id: network.id,
    name: network.cni?.name ?? seen?.find(({ id }) => id === network.id)?.name,
    subnets: [...network.subnets, ...network.subnets6].map(({ subnet }) => subnet),
    router: routerName(store, network.router),
    internal: network.internal,
    gateway: network.gatewayMode,
    mtu: network.mtu,
    endpoints: counts.get(network.id) ?? 0,
  }))
}

function endpointsOf(
  store: Store | undefined,
  seen: readonly DockerNetwork[] | undefined,
  names: ReadonlyMap<string, string> | undefined,
): EndpointStatus[] {
  const containers = new Map([
    ...(seen ?? []).flatMap(({ endpoints }) =>
      endpoints.map(({ id, container }) => [id, container] as const),
    ),
    ...(names ?? []),
  ])
  const networkName = (id: string) =>
    store?.get('network', id)?.cni?.name ?? seen?.find((one) => one.id === id)?.name
  return (store?.list('endpoint') ?? []).map((endpoint) => ({
    id: endpoint.id,
    network: networkName(endpoint.network) ?? endpoint.network.slice(0, 12),
    container: endpoint.cni?.container.slice(0, 24) ?? containers.get(endpoint.id),
    address: endpoint.address,
    mac: endpoint.mac,
    interface: endpoint.interface,
    published: endpoint.publications.map(
      ({ protocol, hostAddress, hostPort, port }) =>
        `${hostAddress === '' ? '' : `${hostAddress}:`}${hostPort}->${port}/${protocol}`,
    ),
    groups: endpoint.securityGroups ?? [],
    groupsLabel: endpoint.groupsLabel,
  }))
}

function uplinksOf(store: Store | undefined): Status['uplinks'] {
  return (store?.list('uplink') ?? []).map((uplink) => ({
    router: routerName(store, uplink.router) ?? uplink.router,
    interface: uplink.interface,
    address: uplink.hostAddress,
  }))
}
