/** Host ports for published container ports: chosen, and tried against the host's processes. */
import { createSocket } from 'node:dgram'
import { createServer } from 'node:net'
import type { Endpoint, Publication } from '../topology/model.ts'
import type { Reader } from '../topology/store.ts'
import { collides, portTaken, publisherOf } from './endpoint.ts'
import { DriverError } from './error.ts'
import type { PortRequest } from './request.ts'

export const limits = {
  /** Linux's own ephemeral ports, as Docker uses them for `-P`. */
  chosenMin: 32_768,
  chosenMax: 60_999,
  /** Ports tried for one publication before giving up. */
  triesMax: 256,
} as const

/** Tells why a process of the host keeps us from a port; undefined when it is free. */
export type Probe = (publication: Publication) => Promise<string | undefined>

/**
 * Chooses a host port for each request; what the endpoint has already stays as it is.
 * @throws DriverError code `PORT_IN_USE`
 */
export async function choosePublications(
  reader: Reader,
  endpoint: Endpoint,
  requests: readonly PortRequest[],
  probe: Probe = probePort,
): Promise<readonly Publication[]> {
  const chosen: Publication[] = []
  for (const request of requests) {
    const kept = endpoint.publications.find((publication) => answers(publication, request))
    const isTaken = (candidate: Publication) =>
      chosen.some((publication) => collides(publication, candidate)) ||
      publisherOf(reader, endpoint, candidate) !== undefined
    if (kept !== undefined && !isTaken(kept)) chosen.push(kept)
    else chosen.push(await choose(request, isTaken, probe))
  }
  return chosen
}

function answers(publication: Publication, request: PortRequest): boolean {
  const { hostPort, hostPortEnd } = rangeOf(request)
  return (
    publication.protocol === request.protocol &&
    publication.port === request.port &&
    publication.hostAddress === request.hostAddress &&
    publication.hostPort >= hostPort &&
    publication.hostPort <= hostPortEnd
  )
}

function rangeOf({ hostPort, hostPortEnd }: PortRequest) {
  return hostPort === 0
    ? { hostPort: limits.chosenMin, hostPortEnd: limits.chosenMax }
    : { hostPort, hostPortEnd }
}

async function choose(
  request: PortRequest,
  isTaken: (candidate: Publication) => boolean,
  probe: Probe,
): Promise<Publication> {
  const { hostPort: first, hostPortEnd: last } = rangeOf(request)
  let problem: DriverError | undefined
  for (let hostPort = first, tries = 0; hostPort <= last && tries < limits.triesMax; hostPort++) {
    const { protocol, hostAddress, port } = request
    const candidate: Publication = { protocol, hostAddress, hostPort, port }
    if (isTaken(candidate)) {
      problem ??= portTaken(candidate)
      continue
    }
    tries++
    const reason = await probe(candidate)
    if (reason === undefined) return candidate
    problem ??= new DriverError(
      'PORT_IN_USE',
      `listen ${protocol}4 ${hostAddress}:${hostPort}: bind: ${reason}`,
    )
  }
  throw problem ?? portTaken({ ...request, hostPort: first })
}

const reasons: Readonly<Record<string, string>> = {
  EADDRINUSE: 'address already in use',
  EADDRNOTAVAIL: 'cannot assign requested address',
  EACCES: 'permission denied',
}

/** Tries to take the port as a process would, and gives it back. SCTP cannot be tried. */
function probePort({ protocol, hostAddress, hostPort }: Publication): Promise<string | undefined> {
  if (protocol === 'sctp') return Promise.resolve(undefined)
  return new Promise((resolve) => {
    const socket = protocol === 'tcp' ? createServer() : createSocket('udp4')
    socket.once('error', (error) => {
      const code = 'code' in error ? String(error.code) : ''
      resolve(reasons[code] ?? (code || error.message))
    })
    const free = () => socket.close(() => resolve(undefined))
    if ('listen' in socket)
      socket.listen({ host: hostAddress, port: hostPort, exclusive: true }, free)
    else socket.bind({ address: hostAddress, port: hostPort, exclusive: true }, free)
  })
}
