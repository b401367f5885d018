/** What the store, the kernel's links and Docker disagree about. Pure: it finds, others act. */
import type { Link } from '../datapath/link.ts'
import type { Address, Endpoint, Network } from '../topology/model.ts'
import type { Reader } from '../topology/store.ts'
import { type DockerNetwork, isDriver } from './docker.ts'
import { linkNames } from './endpoint.ts'

/** What is compared. */
export interface Picture {
  readonly store: Reader
  readonly links: readonly Link[]
  /** Undefined when Docker is not compared with. */
  readonly docker: readonly DockerNetwork[] | undefined
  readonly host: string
  /** Whether Docker knows all networks of its Swarm. */
  readonly managesSwarm?: boolean
  /** Our name among Docker's drivers. */
  readonly driver: string
}

/** One disagreement. All but `report` are put right by removing `id`. */
export interface Finding {
  readonly kind: 'endpoint' | 'network' | 'address' | 'pool' | 'link' | 'report'
  readonly id: string
  /** What is wrong, and for `report` what the user can do. */
  readonly what: string
}

/** Every disagreement, in an order in which they can be put right. */
export function findDifferences(picture: Picture): readonly Finding[] {
  const docker =
    picture.docker === undefined
      ? []
      : [
          ...findEndpoints(picture, picture.docker),
          ...findNetworks(picture, picture.docker),
          ...findPools(picture, picture.docker),
        ]
  return [...docker, ...findAttachments(picture), ...findLinks(picture)]
}

/**
 * What CNI has left: with its network namespace a container's end of a link goes, and ours with it.
 * Docker has no part in it.
 */
export function findAttachments(picture: Picture): readonly Finding[] {
  const links = new Set(picture.links.map((link) => link.name))
  const own = endpointsHere(picture)
  const gone = own.flatMap((endpoint): Finding[] => {
    const { id, cni, interface: link } = endpoint
    if (cni === undefined || (link !== undefined && links.has(link))) return []
    const who = `attachment ${cni.container.slice(0, 12)}/${cni.interface} (${addressOf(endpoint)})`
    return [{ kind: 'endpoint', id, what: `${who}: its network namespace is gone` }]
  })
  const used = new Set(own.map(({ network }) => network))
  const unused = picture.store
    .list('network')
    .filter(({ id, host, cni }) => cni !== undefined && host === picture.host && !used.has(id))
    .map(({ id, cni }): Finding => {
      return { kind: 'network', id, what: `network ${cni?.name} of CNI: nothing is attached to it` }
    })
  return [...gone, ...unused]
}

function findEndpoints(picture: Picture, docker: readonly DockerNetwork[]): Finding[] {
  const ours = docker.filter((network) => isDriver(network.driver, picture.driver))
  const links = new Set(picture.links.map((link) => link.name))
  const known = new Set(ours.flatMap((network) => network.endpoints.map(({ id }) => id)))
  const gone = endpointsHere(picture)
    .filter(({ id, cni }) => cni === undefined && !known.has(id))
    .map(
      (endpoint): Finding => ({
        kind: 'endpoint',
        id: endpoint.id,
        what: `endpoint ${short(endpoint.id)} (${addressOf(endpoint)}): Docker has it no more`,
      }),
    )
  const broken = ours.flatMap((network) =>
    network.endpoints.flatMap(({ id, container }): Finding[] => {
      const where = `container ${container} on network ${network.name}`
      const endpoint = picture.store.get('endpoint', id)
      if (endpoint === undefined)
        return [report(id, `${where} has an endpoint unknown here; restart the container`)]
      const link = endpoint.interface
      if (link === undefined || links.has(link)) return []
      return [report(id, `${where} has lost its link ${link}; restart the container`)]
    }),
  )
  return [...gone, ...broken]
}

function findNetworks(picture: Picture, docker: readonly DockerNetwork[]): Finding[] {
  const ours = docker.filter((network) => isDriver(network.driver, picture.driver))
  const known = new Set(ours.map((network) => network.id))
  const gone = picture.store
    .list('network')
    .filter((network) => isJudgedHere(picture, network) && !known.has(network.id))
    .map((network): Finding => {
      const what = `network ${short(network.id)}${subnetsOf(network)}: Docker has it no more`
      return { kind: 'network', id: network.id, what }
    })
  const unknown = ours
    .filter(({ id, swarm, endpoints }) => {
      // Of Swarm's the first host with a task writes it.
      if (swarm === true && endpoints.length === 0) return false
      return picture.store.get('network', id) === undefined
    })
    .map(({ id, name }) =>
      report(id, `network ${name} is unknown here; remove it and create it again`),
    )
  return [...gone, ...unknown]
}

function isJudgedHere({ host, managesSwarm }: Picture, network: Network): boolean {
  if (network.cni !== undefined) return false
  if (network.swarm === true) return managesSwarm === true && network.freed !== true
  return (network.host ?? host) === host
}

function subnetsOf({ subnets }: Network): string {
  return subnets.length === 0 ? '' : ` (${subnets.map(({ subnet }) => subnet).join(', ')})`
}

/** Any driver's networks may have their addresses from us. */
function findPools(picture: Picture, docker: readonly DockerNetwork[]): Finding[] {
  const ours = docker.filter((network) => isDriver(network.ipamDriver, picture.driver))
  const addresses = new Map<string, Address[]>()
  for (const address of picture.store.list('address')) {
    const others = addresses.get(address.pool)
    if (others === undefined) addresses.set(address.pool, [address])
    else others.push(address)
  }
  const attached = new Set(endpointsHere(picture).flatMap(({ cni }) => cni?.addresses ?? []))
  const cni = picture.store.list('network').flatMap((network) => network.cni ?? [])
  return picture.store.list('pool').flatMap((pool): Finding[] => {
    const isOfCni = cni.some(({ pools }) => pools.includes(pool.id))
    const users = ours.filter((network) => network.subnets.includes(pool.subnet))
    const held = addresses.get(pool.id) ?? []
    if (users.length === 0 && isOfCni) return []
    if (users.length === 0 && isOfOthers(picture, pool.subnet, held)) return []
    if (users.length === 0)
      return [
        { kind: 'pool', id: pool.id, what: `pool ${pool.subnet}: no network of Docker uses it` },
      ]
    const used = new Set(
      users.flatMap((network) => [
        ...network.reserved,
        ...network.endpoints.flatMap(({ addresses }) => addresses),
      ]),
    )
    return held
      .filter(({ host = picture.host }) => host === picture.host)
      .filter(({ id, gateway, address }) => !gateway && !used.has(address) && !attached.has(id))
      .map(({ id, address }) => ({
        kind: 'address',
        id,
        what: `address ${address} of pool ${pool.subnet}: no endpoint of Docker has it`,
      }))
  })
}

/** Whether another host's Docker has a network with the subnet, or addresses of its pool. */
function isOfOthers({ store, host }: Picture, subnet: string, held: readonly Address[]): boolean {
  const others = [...held, ...store.list('network').filter((network) => has(network, subnet))]
  return others.some((one) => one.host !== undefined && one.host !== host)
}

function has({ subnets, subnets6 }: Network, subnet: string): boolean {
  return [...subnets, ...subnets6].some((one) => one.subnet === subnet)
}

/** Links with our names that nothing in the store stands for. */
function findLinks(picture: Picture): Finding[] {
  const used = new Set(
    picture.store
      .list('binding')
      .filter((binding) => binding.host === picture.host)
      .map((binding) => binding.interface),
  )
  for (const endpoint of endpointsHere(picture)) {
    if (endpoint.interface === undefined) continue
    used.add(endpoint.interface)
    used.add(linkNames(endpoint.id).peer)
  }
  const orphans = picture.links.filter(
    ({ name }) => /^m[np][0-9a-f]{11}$/.test(name) && !used.has(name),
  )
  return orphans.map(({ name }) => ({
    kind: 'link',
    id: name,
    what: `link ${name}: no endpoint has it`,
  }))
}

function endpointsHere({ store, host }: Picture): readonly Endpoint[] {
  return store.list('endpoint').filter((endpoint) => endpoint.host === host)
}

function addressOf({ address, address6, mac }: Endpoint): string {
  return address ?? address6 ?? mac
}

function report(id: string, what: string): Finding {
  return { kind: 'report', id, what }
}

function short(id: string): string {
  return id.slice(0, 12)
}
