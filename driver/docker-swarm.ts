/** What Docker's API tells of a Swarm: services, their tasks, and whether this node leads. */
import type Dockerode from 'dockerode'
import type { DockerAddress, DockerPort, DockerService, DockerTask } from './docker.ts'

/** Reads services where the Swarm is led; the number of this node is asked for once. */
export function servicesReader(
  docker: Dockerode,
): () => Promise<readonly DockerService[] | undefined> {
  let self: string | undefined
  return async () => {
    if (self === undefined) {
      const { Swarm } = await docker.info()
      if (Swarm?.ControlAvailable !== true) return undefined
      self = Swarm.NodeID
    }
    try {
      const nodes: SwarmNode[] = await docker.listNodes()
      const own = nodes.find(({ ID }) => ID === self)
      // It has left, and may have joined another Swarm.
      if (own === undefined) self = undefined
      if (own?.ManagerStatus?.Leader !== true) return undefined
      return await readServices(docker, nodes)
    } catch (error) {
      self = undefined
      // It manages no Swarm any more, or its Swarm has no leader.
      if (error instanceof Error && 'statusCode' in error && error.statusCode === 503)
        return undefined
      throw error
    }
  }
}

async function readServices(
  docker: Dockerode,
  nodes: readonly SwarmNode[],
): Promise<readonly DockerService[]> {
  const wanted = ['running', 'shutdown', 'remove']
  const [services, tasks]: [Dockerode.Service[], Task[]] = await Promise.all([
    docker.listServices(),
    docker.listTasks({ filters: { 'desired-state': wanted } }),
  ])
  const lost = new Set(nodes.filter(({ Status }) => Status?.State === 'down').map(({ ID }) => ID))
  const standing = tasks.filter(({ NodeID }) => NodeID === undefined || !lost.has(NodeID))
  const described = services.map(({ ID, Spec, Endpoint }) => ({
    id: ID,
    name: Spec?.Name ?? ID,
    virtualIps: (Endpoint?.VirtualIPs ?? []).flatMap(({ NetworkID, Addr }) =>
      NetworkID && Addr ? [{ network: NetworkID, address: withoutPrefix(Addr) }] : [],
    ),
    ports: (Endpoint?.Ports ?? []).flatMap(describePort),
    tasks: standing.filter(({ ServiceID }) => ServiceID === ID).flatMap(describeTask),
  }))
  return described.some(needsOrder) ? inOrder(docker, described) : described
}

/** Besides `ingress`, which has an address of each service that publishes, too. */
function needsOrder({ ports, virtualIps }: DockerService): boolean {
  return ports.length > 0 && virtualIps.length > 2
}

/** Of several networks, Docker gives a container its default route by the one whose name is first. */
async function inOrder(
  docker: Dockerode,
  services: readonly DockerService[],
): Promise<readonly DockerService[]> {
  const names = new Map((await docker.listNetworks()).map(({ Id, Name }) => [Id, Name]))
  const nameOf = ({ network }: DockerAddress) => names.get(network) ?? ''
  return services.map((service) => ({
    ...service,
    virtualIps: service.virtualIps.toSorted((a, b) => (nameOf(a) < nameOf(b) ? -1 : 1)),
  }))
}

function describePort({
  Protocol,
  TargetPort,
  PublishedPort,
  PublishMode,
}: Dockerode.PortConfig): DockerPort[] {
  if (PublishMode !== 'ingress' || !Protocol || !TargetPort || !PublishedPort) return []
  return [{ protocol: Protocol, hostPort: PublishedPort, port: TargetPort }]
}

/** What of Docker's nodes is read; its types have less. */
interface SwarmNode {
  readonly ID: string
  readonly Status?: { readonly State?: string }
  readonly ManagerStatus?: { readonly Leader?: boolean }
}

/** What of Docker's tasks is read; its types have none. */
interface Task {
  readonly ID: string
  readonly ServiceID?: string
  readonly NodeID?: string
  readonly DesiredState?: string
  readonly Status?: { readonly State?: string }
  readonly NetworksAttachments?: readonly {
    readonly Network?: { readonly ID?: string }
    readonly Addresses?: readonly string[]
  }[]
}

function describeTask({ ID, DesiredState, Status, NetworksAttachments }: Task): DockerTask[] {
  const running = Status?.State === 'running'
  const ending = DesiredState !== 'running'
  // Those that have ended stay in Docker's list for a while.
  if (ending && !running) return []
  const addresses = (NetworksAttachments ?? []).flatMap(({ Network, Addresses }) =>
    (Addresses ?? []).map((one) => ({ network: Network?.ID ?? '', address: withoutPrefix(one) })),
  )
  return [{ id: ID, running, ending, addresses }]
}

/** Of an address as Docker writes it. */
export function withoutPrefix(address: string | undefined): string {
  return address?.split('/')[0] ?? ''
}
