/**
 * CNI's calls, as `midonet-cni` hands them on. What an attachment is: an endpoint of ours, a veth
 * pair whose one end is in the container's network namespace with addresses and routes, and the
 * ports it publishes. DEL and GC succeed for what is unknown; ADD leaves nothing when it fails.
 */
import {
  type ContainerLinks,
  LinkError,
  type NamespaceFile,
  type OpenContainer,
} from '../datapath/link.ts'
import { parseIp } from '../packet/address.ts'
import type { Endpoint, Network } from '../topology/model.ts'
import { checkAttachment } from './cni-check.ts'
import { CniError, type CniErrorAnswer, describeCniError } from './cni-error.ts'
import {
  attachmentId,
  attachmentsOf,
  createAttachment,
  networkId,
  removeAttachment,
} from './cni-network.ts'
import {
  type CniConfig,
  type CniRequest,
  type CniRoute,
  readCniConfig,
  readCniRequest,
  readWishes,
  type Wishes,
} from './cni-request.ts'
import { type DriverContext, settle, within } from './context.ts'
import { bindEndpoint, linkNames, requireNetwork } from './endpoint.ts'
import { publishPorts } from './external.ts'
import { removeLinks } from './join.ts'
import { gatewaysFor } from './network.ts'
import type { PortRequest } from './request.ts'
import { takenByHost } from './subnet.ts'

export const limits = { answerMs: 40_000, readyMs: 5_000, statusMs: 5_000 } as const

export interface CniSettings {
  readonly ready: Promise<DriverContext>
  readonly openContainer: OpenContainer
}

/** The result of ADD, in the form of CNI 1.1 less its version and DNS. */
export interface CniResult {
  readonly interfaces: readonly {
    readonly name: string
    readonly mac: string
    readonly mtu: number
    readonly sandbox?: string
  }[]
  readonly ips: readonly { readonly interface: number; address: string; gateway?: string }[]
  readonly routes: readonly CniRoute[]
}

export type CniAnswer =
  | { readonly error: CniErrorAnswer }
  | { readonly result?: CniResult; readonly removed?: readonly Attachment[] }

/** Whose IPAM plugin has to hear that it is gone. */
export interface Attachment {
  readonly container: string
  readonly ifname: string
  readonly netns: string
}

/** Answers one call, in bounded time. Never rejects. */
export async function answerCni(settings: CniSettings, body: unknown): Promise<CniAnswer> {
  try {
    const late = 'the agent took too long; delete the attachment and add it again'
    return await within(limits.answerMs, late, call(settings, body))
  } catch (error) {
    return { error: describeCniError(error) }
  }
}

async function call({ ready, openContainer }: CniSettings, body: unknown): Promise<CniAnswer> {
  const request = readCniRequest(body)
  if (request.command === 'STATUS') return status(request, ready)
  const starting = 'midonet is starting: its store is not open yet; try again in a moment'
  const context = await within(limits.readyMs, starting, ready)
  const opened = (file: NamespaceFile) => openOrRefuse(openContainer, file)
  switch (request.command) {
    case 'ADD':
      return { result: await add(context, request, opened) }
    case 'DEL':
      await remove(context, idOf(context, request))
      return {}
    case 'CHECK':
      check(context, request, opened)
      return {}
    case 'GC':
      return { removed: await collect(context, request) }
  }
}

function idOf({ host }: DriverContext, { network, container, ifname }: CniRequest): string {
  return attachmentId(host, network, need('container', container), need('ifname', ifname))
}

function need<T>(what: string, value: T | undefined): T {
  if (value !== undefined) return value
  throw new CniError('invalidEnvironment', `${what} is missing`)
}

function openOrRefuse(open: OpenContainer, file: NamespaceFile): ContainerLinks {
  try {
    return open(file)
  } catch (error) {
    if (!(error instanceof LinkError)) throw error
    const what = `CNI_NETNS: ${file.path}: ${error.message}`
    throw new CniError('unknownContainer', what, { cause: error })
  }
}

type Opened = (file: NamespaceFile) => ContainerLinks

function add(context: DriverContext, request: CniRequest, open: Opened): Promise<CniResult> {
  const config = readCniConfig(request.config)
  const wishes = readWishes(config, request.args)
  const id = idOf(context, request)
  context.recent.touch(id)
  context.recent.touch(linkNames(id).host)
  context.recent.touch(networkId(context.host, request.network))
  return context.turns.take(id, async () => {
    const container = open(need('netns', request.netns))
    try {
      return await attach(context, { request, config, wishes, id, container })
    } finally {
      container.close()
    }
  })
}

interface Work {
  readonly request: CniRequest
  readonly config: CniConfig
  readonly wishes: Wishes
  readonly id: string
  readonly container: ContainerLinks
}

async function attach(context: DriverContext, work: Work): Promise<CniResult> {
  const { request, config, wishes, id, container } = work
  const ifname = need('ifname', request.ifname)
  if (container.find(ifname) !== undefined)
    throw new CniError('exists', `CNI_IFNAME: the container has an interface ${ifname} already`)
  // What an ADD before left whose runtime, or whose container, is gone.
  if (context.store.get('endpoint', id) !== undefined) await detach(context, id)
  const plan = {
    ...{ request, config, wishes, ifname, host: context.host },
    container: need('container', request.container),
    netns: need('netns', request.netns).path,
    hostSpace: takenByHost(context.links),
  }
  const { value: endpoint } = await context.store.transact((draft) => createAttachment(draft, plan))
  try {
    const network = requireNetwork(context.store, endpoint.network)
    const link = linkNames(id).host
    context.links.remove(link)
    const { mac, host } = { mac: endpoint.mac, host: link }
    container.createVeth({ name: host, peerName: ifname, peerMac: mac, mtu: network.mtu })
    const routes = configure(work, endpoint, network)
    const { revision } = await context.store.transact((draft) => {
      bindEndpoint(draft, endpoint, link, plan.netns)
    })
    await settle(context, revision)
    const bound = context.store.get('endpoint', id) ?? endpoint
    await publishPorts(context, bound, wishes.portMappings.map(portRequest))
    return resultOf(context, work, endpoint, network, routes)
  } catch (error) {
    await detach(context, id)
    throw error
  }
}

/** Sets up the container's end. Returns the routes that were added. */
function configure(work: Work, endpoint: Endpoint, network: Network): readonly CniRoute[] {
  const { container, request } = work
  const ifname = need('ifname', request.ifname)
  for (const address of addressesOf(endpoint, request)) container.addAddress(ifname, address)
  container.setUp(ifname)
  return routesOf(work, endpoint, network).filter((route) => container.addRoute(ifname, route))
}

function addressesOf(endpoint: Endpoint, { ipam }: CniRequest): readonly string[] {
  const own = [endpoint.address, endpoint.address6].flatMap((address) => address ?? [])
  const others = ipam?.ips.map(({ address }) => address) ?? []
  return [...new Set([...own, ...others])]
}

/** The IPAM plugin's, the configuration's, and the default routes unless those have one. */
function routesOf({ request, config }: Work, endpoint: Endpoint, network: Network) {
  const { four, six } = gatewaysFor(network, endpoint)
  const gateways = gatewaysOf(network, endpoint)
  const wished = [...(request.ipam?.routes ?? []), ...config.routes].map((route): CniRoute => {
    const gw = route.gw ?? (route.dst.includes(':') ? gateways.six : gateways.four)
    return gw === undefined ? route : { ...route, gw }
  })
  if (!config.isDefaultGateway || network.internal) return wished
  const has = (dst: string) => wished.some((route) => route.dst === dst)
  return [
    ...wished,
    ...(four === undefined || has('0.0.0.0/0') ? [] : [{ dst: '0.0.0.0/0', gw: four }]),
    ...(six === undefined || has('::/0') ? [] : [{ dst: '::/0', gw: six }]),
  ]
}

/** Also where no router of ours is: who has the address of a gateway is the user's business. */
function gatewaysOf(network: Network, endpoint: Endpoint) {
  const { four, six } = gatewaysFor(network, endpoint)
  const named = (list: Network['subnets']) => list[0]?.gateway?.split('/')[0]
  return { four: four ?? named(network.subnets), six: six ?? named(network.subnets6) }
}

function resultOf(
  { links }: DriverContext,
  { request, config }: Work,
  endpoint: Endpoint,
  network: Network,
  routes: readonly CniRoute[],
): CniResult {
  const name = linkNames(endpoint.id).host
  const { mtu } = network
  const gateways = config.isDefaultGateway || request.ipam ? gatewaysOf(network, endpoint) : {}
  return {
    interfaces: [
      { name, mac: links.find(name)?.mac ?? '', mtu },
      {
        name: need('ifname', request.ifname),
        mac: endpoint.mac,
        mtu,
        sandbox: need('netns', request.netns).path,
      },
    ],
    ips: addressesOf(endpoint, request).map((address) => {
      const given = request.ipam?.ips.find((ip) => ip.address === address)?.gateway
      const { four, six } = { four: undefined, six: undefined, ...gateways }
      const gateway = given ?? (address.includes(':') ? six : four)
      return { interface: 1, address, ...(gateway !== undefined && { gateway }) }
    }),
    routes,
  }
}

function portRequest(mapping: Wishes['portMappings'][number]): PortRequest {
  const { hostPort, containerPort: port, protocol, hostIP } = mapping
  const hostAddress = hostIP || '0.0.0.0'
  if (parseIp(hostAddress) === undefined)
    throw new CniError('invalidConfig', `portMappings: hostIP: ${hostAddress} is no IPv4 address`)
  return { protocol, hostAddress, hostPort, hostPortEnd: hostPort, port }
}

async function remove(context: DriverContext, id: string): Promise<void> {
  context.recent.touch(id)
  await context.turns.take(id, () => detach(context, id))
}

async function detach(context: DriverContext, id: string): Promise<void> {
  const { value } =
    context.store.get('endpoint', id) === undefined
      ? { value: [] }
      : await context.store.transact((draft) => removeAttachment(draft, id))
  removeLinks(context, [...new Set([...value, linkNames(id).host])])
}

function check(context: DriverContext, request: CniRequest, open: Opened): void {
  const config = readCniConfig(request.config)
  const container = open(need('netns', request.netns))
  try {
    const endpoint = context.store.get('endpoint', idOf(context, request))
    checkAttachment({ context, request, endpoint, container, config })
  } finally {
    container.close()
  }
}

/** Removes what the runtime does not name any more; goes on after one that fails. */
async function collect(context: DriverContext, request: CniRequest): Promise<Attachment[]> {
  const { host, store } = context
  const key = ({ container, ifname }: Omit<Attachment, 'netns'>) => `${container} ${ifname}`
  const valid = new Set(
    need('cni.dev/valid-attachments', request.attachments).map(({ containerID, ifname }) =>
      key({ container: containerID, ifname }),
    ),
  )
  const removed: Attachment[] = []
  const failures: unknown[] = []
  for (const { id, cni } of attachmentsOf(store, host, request.network)) {
    if (cni === undefined) continue
    const attachment = { container: cni.container, ifname: cni.interface, netns: cni.netns }
    if (valid.has(key(attachment))) continue
    try {
      await remove(context, id)
      removed.push(attachment)
    } catch (error) {
      failures.push(error)
    }
  }
  if (failures.length > 0) throw failures[0]
  return removed
}

/** Whether an ADD would succeed now. Traffic goes on without an agent: 50, never 51. */
async function status(request: CniRequest, ready: Promise<DriverContext>): Promise<CniAnswer> {
  readCniConfig(request.config)
  try {
    const late = 'forwarding does not follow; see midonet status'
    const works = async () => {
      const { store, settled } = await ready
      if (store.problem !== undefined) throw new CniError('unavailable', store.problem)
      await settled(store.revision)
    }
    await within(limits.statusMs, late, works())
    return {}
  } catch (error) {
    const what = error instanceof Error ? error.message : String(error)
    throw new CniError('unavailable', what, { cause: error })
  }
}
