/**
 * CNI's networks and attachments in the topology, written on a draft: a network configuration is a
 * network as Docker's are, made with its first attachment on a host and gone with the last; an
 * attachment is an endpoint. All hosts' networks of one name share a bridge, a gateway and pools.
 */
import { createHash } from 'node:crypto'
import { formatIp, networkOf, parseCidr, parseIp } from '../packet/address.ts'
import { formatCidr6, networkOf6, parseCidr6 } from '../packet/address6.ts'
import { releasePool, requestAddress, requestPool } from '../topology/allocate.ts'
import type { Endpoint, Network } from '../topology/model.ts'
import { addressId } from '../topology/pool-rule.ts'
import type { Draft, Reader } from '../topology/store.ts'
import { CniError } from './cni-error.ts'
import type { CniConfig, CniRequest, Wishes } from './cni-request.ts'
import { createEndpoint } from './endpoint.ts'
import { createNetwork, deleteNetwork, releaseEndpoint } from './network.ts'
import { limits } from './options.ts'
import type { TakenSpace } from './subnet.ts'

/** One attachment to be made. */
export interface AttachmentPlan {
  readonly request: CniRequest
  readonly config: CniConfig
  readonly wishes: Wishes
  readonly host: string
  readonly container: string
  readonly ifname: string
  readonly netns: string
  readonly hostSpace: readonly TakenSpace[]
}

/** Of a configuration's name, on one host. */
export function networkId(host: string, name: string): string {
  return digest(['cni', host, name])
}

/** Of who is attached by which interface. */
export function attachmentId(host: string, name: string, container: string, ifname: string) {
  return digest(['cni', host, name, container, ifname])
}

function digest(parts: readonly string[]): string {
  return createHash('sha256').update(JSON.stringify(parts)).digest('hex')
}

/** What the CNI runtimes of a host have attached to networks called `name`. */
export function attachmentsOf(reader: Reader, host: string, name: string): readonly Endpoint[] {
  const id = networkId(host, name)
  return reader.list('endpoint').filter(({ network, cni }) => network === id && cni !== undefined)
}

/** Writes the attachment, its addresses, and its network if it is the first. */
export function createAttachment(draft: Draft, plan: AttachmentPlan): Endpoint {
  const network = ensureNetwork(draft, plan)
  const taken = takeAddresses(draft, network, plan)
  const id = attachmentId(plan.host, plan.request.network, plan.container, plan.ifname)
  const endpoint = createEndpoint(draft, {
    id,
    network: network.id,
    host: plan.host,
    address: taken.ips.find((ip) => !ip.includes(':')),
    address6: taken.ips.find((ip) => ip.includes(':')),
    mac: plan.wishes.mac,
    securityGroups: plan.wishes.securityGroups,
  })
  const { container, ifname, netns } = plan
  const cni = { container, interface: ifname, netns, addresses: [...taken.addresses] }
  draft.put('endpoint', { ...endpoint, cni })
  return { ...endpoint, cni }
}

/** Removes an endpoint, and of CNI's what was made for it. Returns links left without a use. */
export function removeAttachment(draft: Draft, id: string): readonly string[] {
  const endpoint = draft.get('endpoint', id)
  const links = releaseEndpoint(draft, id)
  if (endpoint?.cni === undefined) return links
  for (const address of endpoint.cni.addresses) draft.delete('address', address)
  const others = draft.list('endpoint').filter(({ network }) => network === endpoint.network)
  return others.length > 0 ? links : [...links, ...removeNetwork(draft, endpoint.network)]
}

/** Removes a network, and gives back what CNI's has of pools. Returns links left without a use. */
export function removeNetwork(draft: Draft, id: string): readonly string[] {
  const network = draft.get('network', id)
  const held = draft.list('endpoint').filter((one) => one.network === id && one.cni !== undefined)
  const links = deleteNetwork(draft, id)
  for (const { cni } of held)
    for (const address of cni?.addresses ?? []) draft.delete('address', address)
  for (const address of network?.cni?.reserved ?? []) draft.delete('address', address)
  for (const pool of network?.cni?.pools ?? []) releasePool(draft, pool)
  return links
}

interface Subnet {
  readonly subnet: string
  readonly gateway?: string | undefined
}

function ensureNetwork(draft: Draft, plan: AttachmentPlan): Network {
  const { config, request, host } = plan
  const id = networkId(host, request.network)
  const four = subnetFour(plan)
  const six = subnetSix(plan)
  const existing = draft.get('network', id)
  const bridge = config.bridge ?? nameOfDevice(request.network)
  const network = createNetwork(draft, {
    id,
    options: {
      router: config.router,
      provider: config.provider,
      bridge,
      mtu: config.mtu ?? limits.mtuDefault,
      gatewayMode: 'virtual',
      internal: config.internal,
      given: {
        'org.midonet.bridge': bridge,
        ...(config.router !== undefined && { 'org.midonet.router': config.router }),
        ...(config.provider !== undefined && { 'org.midonet.provider': config.provider }),
        ...(config.mtu !== undefined && { 'org.midonet.mtu': String(config.mtu) }),
      },
    },
    subnets: four.map(withGateway),
    subnets6: six.map(withGateway),
    host: plan.hostSpace,
    newId: () => crypto.randomUUID(),
    hostId: host,
    isCni: true,
  })
  if (existing !== undefined) return existing
  const ours = request.ipam === undefined ? [...four, ...six] : []
  const pools = ours.map(({ subnet }) =>
    requestPool(draft, {
      space: spaceOf(plan),
      subnet,
      range: subnet.includes(':') ? undefined : config.range,
    }),
  )
  const reserved = ours.flatMap(({ gateway }, at): string[] => {
    const pool = pools[at]?.id
    const address = gateway?.split('/')[0]
    if (pool === undefined || address === undefined) return []
    // Another host's network, or Docker's, may have it already.
    if (draft.get('address', addressId(pool, address)) !== undefined) return []
    requestAddress(draft, pool, { address, gateway: true, host })
    return [addressId(pool, address)]
  })
  const cni = { name: request.network, pools: pools.map((pool) => pool.id), reserved }
  draft.put('network', { ...network, cni })
  return { ...network, cni }
}

function withGateway({ subnet, gateway }: Subnet): { subnet: string; gateway?: string } {
  return gateway === undefined ? { subnet } : { subnet, gateway }
}

/** A bridge's name has 63 characters at most, of a pool's space 4 go for the word before it. */
function nameOfDevice(name: string): string {
  return name.length > 58 ? digest([name]).slice(0, 32) : name
}

/** Networks of one name have one space, so that tenants may use the same addresses. */
function spaceOf({ config, request }: AttachmentPlan): string {
  return config.space ?? `cni.${nameOfDevice(request.network)}`
}

/** As configured; else as the other IPAM plugin's first address tells. */
function subnetFour({ config, request }: AttachmentPlan): readonly Subnet[] {
  const given = request.ipam?.ips.find(({ address }) => !address.includes(':'))
  const subnet = parseCidr(config.subnet ?? given?.address ?? '')
  if (subnet === undefined) return []
  const network = networkOf(subnet)
  const length = subnet.prefixLength
  const isWide = length < 31
  const first = isWide ? formatIp(network + 1) : undefined
  const gateway = config.gateway?.split('/')[0] ?? given?.gateway ?? (given ? undefined : first)
  if (gateway !== undefined && parseIp(gateway) === undefined)
    throw new CniError('invalidConfig', `gateway: ${gateway} is no IPv4 address`)
  return [
    {
      subnet: `${formatIp(network)}/${length}`,
      gateway: gateway === undefined ? undefined : `${gateway}/${length}`,
    },
  ]
}

function subnetSix({ config, request }: AttachmentPlan): readonly Subnet[] {
  const given = request.ipam?.ips.find(({ address }) => address.includes(':'))
  const subnet = parseCidr6(config.subnet6 ?? given?.address ?? '')
  if (subnet === undefined) return []
  const network = { address: networkOf6(subnet), prefixLength: subnet.prefixLength }
  const first = formatCidr6({ ...network, address: network.address + 1n }).split('/')[0]
  const gateway = config.gateway6 ?? given?.gateway ?? (given ? undefined : first)
  return [
    {
      subnet: formatCidr6(network),
      gateway: gateway === undefined ? undefined : `${gateway}/${subnet.prefixLength}`,
    },
  ]
}

interface Taken {
  /** With prefix lengths. */
  readonly ips: readonly string[]
  /** Ids of address objects. */
  readonly addresses: readonly string[]
}

function takeAddresses(draft: Draft, network: Network, plan: AttachmentPlan): Taken {
  const { request, wishes, host } = plan
  if (request.ipam !== undefined)
    return { ips: request.ipam.ips.map(({ address }) => address), addresses: [] }
  const pools = (network.cni?.pools ?? []).flatMap((id) => draft.get('pool', id) ?? [])
  const isSix = (text: string) => text.includes(':')
  const addresses: string[] = []
  const ips = pools.map(({ id, subnet }) => {
    const wish = wishes.ips.find((ip) => isSix(ip) === isSix(subnet))?.split('/')[0]
    const address = requestAddress(draft, id, { address: wish, host })
    addresses.push(addressId(id, address))
    return `${address}/${subnet.split('/')[1]}`
  })
  // Without a subnet of ours, addresses are what the runtime says.
  const free = wishes.ips.filter((ip) => !pools.some(({ subnet }) => isSix(subnet) === isSix(ip)))
  for (const ip of free)
    if (parseCidr(ip) === undefined && parseCidr6(ip) === undefined)
      throw new CniError('invalidConfig', `ips: ${ip.slice(0, 64)} needs a prefix length`)
  return { ips: [...ips, ...free], addresses }
}
