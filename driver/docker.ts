/** The little of Docker's API that reconciling needs. Never called from inside a driver call. */
import createDebug from 'debug'
import Dockerode from 'dockerode'
import { within } from './context.ts'

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
  readonly subnets: readonly string[]
  /** Gateways and auxiliary addresses, without prefix lengths. */
  readonly reserved: readonly string[]
  readonly endpoints: readonly DockerEndpoint[]
}

/** Where to ask Docker. Tests give their own. */
export interface DockerView {
  /**
   * All networks that have `driver` (or `driver:<tag>`) as their driver or for their addresses.
   * @throws DockerError when Docker cannot be asked
   */
  networks(driver: string): Promise<readonly DockerNetwork[]>
  /** Calls `changed` whenever Docker may have changed a network. Returns the way to stop. */
  watch(changed: () => void): () => void
}

/** Docker cannot be asked. `cause` is what came instead of an answer. */
export class DockerError extends Error {
  override readonly name = 'DockerError'
  readonly code = 'DOCKER_UNREACHABLE'
}

/** Whether a driver's name, as Docker shows it, is `driver`: managed plugins carry their tag. */
export function isDriver(name: string | undefined, driver: string): boolean {
  return name === driver || name?.startsWith(`${driver}:`) === true
}

/** Docker at a unix socket. Nothing is asked until it is used, so Docker may come later. */
export function openDocker(socketPath: string, answerMs: number = limits.answerMs): DockerView {
  const docker = new Dockerode({ socketPath, timeout: answerMs })
  // Events come when they come: no timeout.
  const events = new Dockerode({ socketPath })
  return {
    async networks(driver) {
      try {
        return await within(answerMs, 'no answer in time', readNetworks(docker, driver))
      } catch (error) {
        const reason = error instanceof Error ? error.message : String(error)
        const what = `Docker at ${socketPath} cannot be asked for its networks: ${reason}`
        throw new DockerError(what, { cause: error })
      }
    },
    watch(changed) {
      return watchEvents(events, changed)
    },
  }
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

function withoutPrefix(address: string | undefined): string {
  return address?.split('/')[0] ?? ''
}

/** Follows Docker's events for as long as wanted, also over Docker's own restarts. */
function watchEvents(docker: Dockerode, changed: () => void): () => void {
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
      stream = await docker.getEvents({ filters: { type: ['network'] } })
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
