/**
 * What the services of a Swarm are in the topology, written on a draft. Docker gives a service an
 * address of its own on each of its networks (`--endpoint-mode vip`) and tells it to whoever asks by
 * name, but serves it for its own overlay driver only. On our networks the network's router does:
 *
 *   router ── loadBalancer `swarm:<router>` ── vip, TCP and UDP, all ports
 *                                └── balancerPool `swarm:<service>:<network>` ── a member a task
 *
 * A task that Docker says is running takes connections: of one with a health check that means that
 * it is healthy. One that is to end keeps those it has. What a service publishes in mode ingress is
 * published by its VIP, on all hosts: on the network by which its tasks answer.
 */
import { deleteWhole, partsOf } from '../topology/cascade.ts'
import type { Kind, Network, ObjectOf } from '../topology/model.ts'
import type { Draft, Reader } from '../topology/store.ts'
import type { DockerService, DockerTask } from './docker.ts'

/** Ids of what is made here begin so. */
const prefix = 'swarm:'
const protocols = ['tcp', 'udp'] as const

export const limits = {
  /** Members of one service. */
  tasks: 4096,
  /** Ports that a service publishes, of each protocol. */
  ports: 256,
} as const

/** The networks whose services we serve: Swarm's that have a router. */
export function networksServed(reader: Reader): readonly Network[] {
  return reader
    .list('network')
    .filter(({ swarm, freed, router }) => swarm === true && freed !== true && router !== undefined)
}

/** Whether `planServices` would write anything. */
export function needsServices(reader: Reader, services: readonly DockerService[]): boolean {
  let needed = false
  const write = () => {
    needed = true
  }
  planServices(
    {
      get: (kind, id) => reader.get(kind, id),
      list: (kind) => reader.list(kind),
      put: write,
      delete: write,
      isClaimed: () => false,
      holders: () => [],
    },
    services,
  )
  return needed
}

/** Makes balancers, VIPs and members what the services are, and removes those of services gone. */
export function planServices(draft: Draft, services: readonly DockerService[]): void {
  const pools = new Set<string>()
  for (const network of networksServed(draft))
    for (const service of services) {
      const vip = service.virtualIps.find((one) => one.network === network.id)
      if (vip === undefined || vip.address.includes(':')) continue
      pools.add(putService(draft, network, service, vip.address))
    }
  for (const { id } of draft.list('balancerPool'))
    if (id.startsWith(prefix) && !pools.has(id)) deleteWhole(draft, 'balancerPool', id)
  for (const { id } of draft.list('loadBalancer'))
    if (id.startsWith(prefix) && partsOf(draft, 'loadBalancer', id).length === 0)
      draft.delete('loadBalancer', id)
}

function putService(
  draft: Draft,
  network: Network,
  service: DockerService,
  address: string,
): string {
  const pool = `${prefix}${service.id}:${network.id}`
  const loadBalancer = balancerOf(draft, network.router ?? '')
  const ports = publishes(draft, network, service) ? service.ports : []
  put(draft, 'balancerPool', { id: pool, loadBalancer, adminUp: true })
  for (const protocol of protocols) {
    const published = ports
      .filter((one) => one.protocol === protocol)
      .slice(0, limits.ports)
      .map(({ hostPort, port }) => ({ hostPort, port }))
    put(draft, 'vip', {
      id: `${pool}:${protocol}`,
      loadBalancer,
      pool,
      address,
      protocol,
      port: 0,
      persistence: 'none',
      ...(published.length > 0 && { published }),
      adminUp: true,
    })
  }
  const members = service.tasks
    .slice(0, limits.tasks)
    .flatMap((task) => memberOf(task, pool, network.id))
  for (const member of members) put(draft, 'poolMember', member)
  const known = new Set(members.map(({ id }) => id))
  for (const { id, pool: of } of draft.list('poolMember'))
    if (of === pool && !known.has(id)) draft.delete('poolMember', id)
  return pool
}

/** Whether a network is the first of a service's that leads to the hosts: no other serves its ports. */
function publishes(reader: Reader, network: Network, { virtualIps }: DockerService): boolean {
  const leads = (one: Network | undefined) =>
    one?.swarm === true &&
    one.router !== undefined &&
    one.provider === undefined &&
    !one.internal &&
    one.gatewayMode === 'virtual'
  return virtualIps.find((one) => leads(reader.get('network', one.network)))?.network === network.id
}

/** A router has one balancer: the operator's, if there is one, or ours. */
function balancerOf(draft: Draft, router: string): string {
  const found = draft.list('loadBalancer').find((balancer) => balancer.router === router)
  if (found !== undefined) return found.id
  const id = `${prefix}${router}`
  draft.put('loadBalancer', { id, router, adminUp: true })
  return id
}

function memberOf(task: DockerTask, pool: string, network: string): ObjectOf<'poolMember'>[] {
  const address = task.addresses.find((one) => one.network === network)?.address
  if (address === undefined || address.includes(':')) return []
  return [
    {
      id: `${prefix}${task.id}:${network}`,
      pool,
      address,
      port: 0,
      weight: 1,
      adminUp: !task.ending,
      status: task.running ? 'active' : 'inactive',
    },
  ]
}

function put<K extends Kind>(draft: Draft, kind: K, value: ObjectOf<K>): void {
  const standing = draft.get(kind, value.id)
  if (JSON.stringify(sorted(standing)) !== JSON.stringify(sorted(value))) draft.put(kind, value)
}

function sorted(value: object | undefined): readonly unknown[] {
  return Object.entries(value ?? {}).sort(([a], [b]) => (a < b ? -1 : 1))
}

/** Removes what serves a router's services; the operator's own balancer keeps the router. */
export function removeServices(draft: Draft, router: string): void {
  deleteWhole(draft, 'loadBalancer', `${prefix}${router}`)
}
