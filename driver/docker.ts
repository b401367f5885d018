/** The little of Docker's API that reconciling needs. Never called from inside a driver call. */
import createDebug from 'debug'
import Dockerode from 'dockerode'
import { within } from './context.ts'
import { servicesReader, withoutPrefix } from './docker-swarm.ts'

const log = createDebug('midonet:driver')

export const limits = {
  /** For one answer; a hung engine must not hang the reconciler. */
  answerMs: 10_000,
  /** Pause before events are asked for again; doubles up to the second figure. */
  retryMs: 1_000,
  retryMsMax: 30_000,
} as const

/** An endpoint as Docker knows it. */
export interface DockerEndpoint {
  readonly id: string
  /** Container name; the endpoint's own id when no container has it yet. */
  readonly container: string
  /** Without prefix lengths. */
  readonly addresses: readonly string[]
}

/** A network as Docker knows it, with what uses its addresses. */
export interface DockerNetwork {
  readonly id: string
  readonly name: string
  readonly driver: string
  readonly ipamDriver: string
  /** Of all hosts of a Swarm: known to its managers, and to hosts with tasks on it. */
  readonly swarm?: boolean
  readonly subnets: readonly string[]
  /** Gateways and auxiliary addresses, without prefix lengths. */
  readonly reserved: readonly string[]
  readonly endpoints: readonly DockerEndpoint[]
}

/** A container that runs, and what it has of networks. */
export interface DockerContainer {
  readonly id: string
  readonly name: string
  readonly labels: Readonly<Record<string, string>>
  readonly endpoints: readonly {
    readonly id: string
    readonly network: string
    readonly networkName: string
  }[]
}

/** A task of a service: one container, on one host. */
export interface DockerTask {
  readonly id: string
  /** Docker says so; of a container with a health check when that succeeds. */
  readonly running: boolean
  /** It is to end, or to make room for another. */
  readonly ending: boolean
  /** On each network, without prefix length. */
  readonly addresses: readonly DockerAddress[]
}

export interface DockerAddress {
  readonly network: string
  readonly address: string
}

/** A port of the hosts, and the port of a service that it leads to. */
export interface DockerPort {
  readonly protocol: string
  readonly hostPort: number
  readonly port: number
}

/** A service of Swarm. */
export interface DockerService {
  readonly id: string
  readonly name: string
  /**
   * Its own address on each network; none in endpoint mode dnsrr. First the network by which its
   * tasks answer the world.
   */
  readonly virtualIps: readonly DockerAddress[]
  /** What is published on all hosts (mode ingress). */
  readonly ports: readonly DockerPort[]
  readonly tasks: readonly DockerTask[]
}

/** Where to ask Docker. Tests give their own. */
export interface DockerView {
  /**
   * All networks that have `driver` (or `driver:<tag>`) as their driver or for their addresses.
   * @throws DockerError when Docker cannot be asked
   */
  networks(driver: string): Promise<readonly DockerNetwork[]>
  /** Whether it manages a Swarm, and so knows all networks of it. @throws DockerError */
  managesSwarm?(): Promise<boolean>
  /** All that run. @throws DockerError when Docker cannot be asked */
  containers?(): Promise<readonly DockerContainer[]>
  /** The Swarm's services; undefined where it is not led. @throws DockerError */
  services?(): Promise<readonly DockerService[] | undefined>
  /**
   * Calls `changed` whenever Docker may have changed a network, or something else of `types`.
   * Returns the way to stop.
   */
  watch(changed: () => void, types?: readonly EventType[]): () => void
}

export type EventType = 'network' | 'container' | 'service' | 'node'

/** Docker cannot be asked. `cause` is what came instead of an answer. */
export class DockerError extends Error {
  override readonly name = 'DockerError'
  readonly code = 'DOCKER_UNREACHABLE'
}

/**
 * Whether a driver's name, as Docker shows it, is `driver`: managed plugins carry their tag, and
 * without an alias where they came from.
 */
export function isDriver(name: string | undefined, driver: string): boolean {
  const last = name?.split('/').at(-1)
  return last === driver || last?.startsWith(`${driver}:`) === true
}

export interface DockerSettings {
  readonly answerMs?: number
  /** Whether this is a managed plugin, whose plain name Docker must be made to see. */
  readonly managed?: boolean
}

/** Docker at a unix socket. Nothing is asked until it is used, so Docker may come later. */
export function openDocker(socketPath: string, settings: DockerSettings = {}): DockerView {
  const { answerMs = limits.answerMs, managed = false } = settings
  const docker = new Dockerode({ socketPath, timeout: answerMs })
  // Events come when they come: no timeout.
  const events = new Dockerode({ socketPath })
  const services = servicesReader(docker)
  const ask = async <T>(what: string, answer: Promise<T>): Promise<T> => {
    try {
      return await within(answerMs, 'no answer in time', answer)
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error)
      const problem = `Docker at ${socketPath} cannot be asked for ${what}: ${reason}`
      throw new DockerError(problem, { cause: error })
    }
  }
  return {
    networks: (driver) => ask('its networks', readNetworks(docker, driver)),
    managesSwarm: () => ask('its Swarm', isManager(docker)),
    containers: () => ask('its containers', readContainers(docker)),
    services: () => ask('its services', services()),
    watch(changed, types = ['network']) {
      if (!managed || !types.includes('network') || types.includes('container'))
        return watchEvents(events, changed, types)
      const all = () => {
        changed()
        activate(docker)
      }
      return watchEvents(events, all, types)
    },
  }
}

async function readContainers(docker: Dockerode): Promise<DockerContainer[]> {
  const list = await docker.listContainers()
  return list.map(({ Id, Names, Labels, NetworkSettings }) => ({
    id: Id,
    name: nameOf(Names ?? []) ?? Id.slice(0, 12),
    labels: Labels ?? {},
    endpoints: Object.entries(NetworkSettings?.Networks ?? {}).flatMap(([networkName, one]) =>
      one.EndpointID ? [{ id: one.EndpointID, network: one.NetworkID, networkName }] : [],
    ),
  }))
}

/** Its own; others are of links, such as `/web/db`. */
function nameOf(names: readonly string[]): string | undefined {
  return names.map((name) => name.replace(/^\//, '')).find((name) => !name.includes('/'))
}

/**
 * Makes Docker look for drivers by their sockets, which it does for a list of volumes. It finds a
 * driver of a plain name by itself, but not beside a managed plugin called the same with `:latest`.
 */
function activate(docker: Dockerode): void {
  docker.listVolumes().catch((error) => log('drivers are not looked for: %s', error))
}

async function isManager(docker: Dockerode): Promise<boolean> {
  const { Swarm } = await docker.info()
  return Swarm?.ControlAvailable === true
}

async function readNetworks(docker: Dockerode, driver: string): Promise<DockerNetwork[]> {
  const list = await docker.listNetworks()
  const ours = list.filter(
    (network) => isDriver(network.Driver, driver) || isDriver(network.IPAM?.Driver, driver),
  )
  const networks: DockerNetwork[] = []
  for (const { Id } of ours) {
    const network = await inspect(docker, Id)
    if (network !== undefined) networks.push(describe(network))
  }
  return networks
}

/** Undefined when the network has gone since it was listed. */
async function inspect(
  docker: Dockerode,
  id: string,
): Promise<Dockerode.NetworkInspectInfo | undefined> {
  try {
    return await docker.getNetwork(id).inspect()
  } catch (error) {
    if (error instanceof Error && 'statusCode' in error && error.statusCode === 404)
      return undefined
    throw error
  }
}

function describe(network: Dockerode.NetworkInspectInfo): DockerNetwork {
  const config = network.IPAM?.Config ?? []
  return {
    id: network.Id,
    name: network.Name,
    driver: network.Driver,
    ipamDriver: network.IPAM?.Driver ?? '',
    ...(network.Scope === 'swarm' && { swarm: true }),
    subnets: config.flatMap(({ Subnet }) => Subnet ?? []),
    reserved: config
      .flatMap(({ Gateway, AuxiliaryAddresses }) => [
        Gateway ?? '',
        ...Object.values(AuxiliaryAddresses ?? {}),
      ])
      .map(withoutPrefix)
      .filter((address) => address !== ''),
    endpoints: Object.values(network.Containers ?? {}).map((container) => ({
      id: container.EndpointID,
      container: container.Name || container.EndpointID,
      addresses: [container.IPv4Address, container.IPv6Address]
        .map(withoutPrefix)
        .filter((address) => address !== ''),
    })),
  }
}

/** Follows Docker's events for as long as wanted, also over Docker's own restarts. */
function watchEvents(
  docker: Dockerode,
  changed: () => void,
  types: readonly EventType[],
): () => void {
  let retryMs: number = limits.retryMs
  let timer: NodeJS.Timeout | undefined
  let stream: NodeJS.ReadableStream | undefined
  let stopped = false
  const again = () => {
    if (stopped || timer !== undefined) return
    timer = setTimeout(() => {
      timer = undefined
      void follow()
    }, retryMs)
    timer.unref()
    retryMs = Math.min(retryMs * 2, limits.retryMsMax)
  }
  const follow = async () => {
    try {
      stream = await docker.getEvents({ filters: { type: [...types] } })
      if (stopped) return end(stream)
      retryMs = limits.retryMs
      // Docker is here (again): it may have changed anything meanwhile.
      changed()
      stream.on('data', changed)
      stream.once('error', again)
      stream.once('close', again)
      stream.once('end', again)
    } catch (error) {
      log('no events from Docker: %s', error)
      again()
    }
  }
  void follow()
  return () => {
    stopped = true
    clearTimeout(timer)
    if (stream !== undefined) end(stream)
  }
}

function end(stream: NodeJS.ReadableStream): void {
  if ('destroy' in stream && typeof stream.destroy === 'function') stream.destroy()
}
