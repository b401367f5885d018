/** A driver on sockets of its own, store and links in memory, and a client that plays Docker. */
import { mkdtempSync, rmSync } from 'node:fs'
import { request } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { ExecutionContext } from 'ava'
import { type DriverContext, Recent, Turns } from '../../driver/context.ts'
import type { DockerNetwork } from '../../driver/docker.ts'
import { type Driver, type DriverSettings, startDriver } from '../../driver/driver.ts'
import { openMemoryStore } from '../../topology/memory.ts'
import { kinds } from '../../topology/model.ts'
import type { Store } from '../../topology/store.ts'
import { FakeLinks } from './fake-links.ts'

export interface Answer {
  readonly status: number
  /** Undefined when the body is not JSON. */
  readonly body: Record<string, unknown> | undefined
}

export interface Agent {
  readonly dir: string
  readonly socketPath: string
  readonly apiSocketPath: string
  readonly store: Store
  readonly links: FakeLinks
  readonly driver: Driver
  /** Calls as Docker does; a string or nothing is sent as it is. */
  call(name: string, body?: object | string): Promise<Answer>
}

export const hostId = 'host-1'

/** Starts an agent for one test; it ends with the test. */
export async function startAgent(
  t: ExecutionContext,
  settings: Partial<DriverSettings> = {},
): Promise<Agent> {
  const dir = mkdtempSync(join(tmpdir(), 'midonet-driver-'))
  const store = await openMemoryStore()
  const links = new FakeLinks()
  const socketPath = join(dir, 'plugins', 'midonet.sock')
  const apiSocketPath = join(dir, 'run', 'agent.sock')
  const driver = await startDriver({
    socketPath,
    apiSocketPath,
    store: Promise.resolve(store),
    links,
    hostId,
    settled: async () => {},
    status: async () => ({ ready: true }),
    trace: async (port, packet) => ({ text: `${port} ${packet}` }),
    ...settings,
  })
  t.teardown(async () => {
    await driver.close()
    await store.close()
    rmSync(dir, { recursive: true, force: true })
  })
  const call = (name: string, body?: object | string) => post(socketPath, `/${name}`, body)
  return { dir, socketPath, apiSocketPath, store, links, driver, call }
}

/** What calls work with, without sockets. */
export async function contextOf(t: ExecutionContext, now = () => 0): Promise<MemoryContext> {
  const store = await openMemoryStore()
  t.teardown(() => store.close())
  return {
    store,
    links: new FakeLinks(),
    host: hostId,
    settled: async () => {},
    recent: new Recent(now),
    turns: new Turns(),
    report: () => {},
  }
}

export type MemoryContext = DriverContext & { readonly links: FakeLinks }

export function post(socketPath: string, path: string, body?: object | string): Promise<Answer> {
  return send(socketPath, 'POST', path, body)
}

export function send(
  socketPath: string,
  method: string,
  path: string,
  body?: object | string,
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const outgoing = request({ socketPath, method, path, agent: false }, (incoming) => {
      const parts: Buffer[] = []
      incoming.on('data', (part: Buffer) => parts.push(part))
      incoming.on('error', reject)
      incoming.on('end', () => {
        const text = Buffer.concat(parts).toString()
        resolve({ status: incoming.statusCode ?? 0, body: tryParse(text) })
      })
    })
    outgoing.on('error', reject)
    outgoing.end(typeof body === 'object' ? JSON.stringify(body) : body)
  })
}

function tryParse(text: string): Record<string, unknown> | undefined {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

/** Everything in the store but the host itself, as `kind/id`. */
export function contents(store: Store): readonly string[] {
  return kinds
    .filter((kind) => kind !== 'host')
    .flatMap((kind) => store.list(kind).map(({ id }) => `${kind}/${id}`))
}

/** Ids as Docker makes them, from a small number. */
export function dockerId(seed: number): string {
  return seed.toString(16).padStart(8, '0').repeat(8)
}

interface NetworkRequest {
  readonly id: string
  readonly subnet: string
  readonly gateway?: string
  readonly options?: Readonly<Record<string, string>>
  readonly internal?: boolean
}

/** CreateNetwork's body as Docker 20.10 sends it. */
export function networkBody({ id, subnet, gateway, options, internal }: NetworkRequest): object {
  const [base = '', length = ''] = subnet.split('/')
  return {
    NetworkID: id,
    Options: {
      'com.docker.network.enable_ipv6': false,
      'com.docker.network.generic': options ?? {},
      ...(internal === true && { 'com.docker.network.internal': true }),
    },
    IPv4Data: [
      {
        AddressSpace: 'LocalDefault',
        Gateway: gateway ?? `${base.replace(/\d+$/, '1')}/${length}`,
        Pool: subnet,
      },
    ],
    IPv6Data: [],
  }
}

/** CreateEndpoint's body as Docker 20.10 sends it. */
export function endpointBody(
  network: string,
  id: string,
  address: string,
  { mac = '', options = {} }: { mac?: string; options?: object } = {},
): object {
  return {
    NetworkID: network,
    EndpointID: id,
    Interface: { Address: address, AddressIPv6: '', MacAddress: mac },
    Options: {
      'com.docker.network.endpoint.exposedports': [],
      'com.docker.network.portmap': [],
      ...options,
    },
  }
}

export function joinBody(network: string, id: string): object {
  return {
    NetworkID: network,
    EndpointID: id,
    SandboxKey: '/var/run/docker/netns/b4df88b7ecff',
    Options: {
      'com.docker.network.endpoint.exposedports': [],
      'com.docker.network.portmap': [],
    },
  }
}

export function refBody(network: string, id: string): object {
  return { NetworkID: network, EndpointID: id }
}

/** ProgramExternalConnectivity's body with `-p` options as `[hostPort, port]`. */
export function portsBody(
  network: string,
  id: string,
  ports: readonly (readonly [hostPort: number, port: number])[],
  hostAddress = '',
): object {
  return {
    ...refBody(network, id),
    Options: {
      'com.docker.network.endpoint.exposedports': ports.map(([, Port]) => ({ Proto: 6, Port })),
      'com.docker.network.portmap': ports.map(([HostPort, Port]) => ({
        Proto: 6,
        IP: '',
        Port,
        HostIP: hostAddress,
        HostPort,
        HostPortEnd: HostPort,
      })),
    },
  }
}

/** A network as `DockerView` tells it. */
export function dockerNetwork(id: string, subnet: string, endpoints: readonly string[] = []) {
  return {
    id,
    name: `net-${id.slice(0, 4)}`,
    driver: 'midonet',
    ipamDriver: 'default',
    subnets: [subnet],
    reserved: [],
    endpoints: endpoints.map((endpoint) => ({ id: endpoint, container: 'c1', addresses: [] })),
  } satisfies DockerNetwork
}
