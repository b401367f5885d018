/**
 * Tenants' routers that reach the outside by a provider's: each is linked to it, and translates on
 * its end of the link as an uplink does.
 *
 *   network ── tenant's router ── .2 link .1 ── provider's router ── uplink ══ host
 */
import { type Cidr, formatIp } from '../packet/address.ts'
import type { Network } from '../topology/model.ts'
import type { Draft, Reader } from '../topology/store.ts'
import { removeTenantLink, tenantLink, uplinkRoute } from '../topology/uplink.ts'
import { anywhere, chooseNetwork, defaultWeight, macOf, smallestMtu } from './addressing.ts'
import { isServed, toCidr } from './link.ts'
import { tenantPublicationsOf } from './publication.ts'
import { providerAddressOf, tenantAddressOf, tenantPortOf } from './tenant-address.ts'
import { completeRules, hasItsRules, type TranslatingLink } from './uplink-chain.ts'

/** Tenants' routers with their networks that lead out, by router. */
function tenantsOf(reader: Reader): ReadonlyMap<string, readonly Network[]> {
  const tenants = new Map<string, Network[]>()
  for (const network of reader.list('network')) {
    if (!isServed(network) || network.provider === undefined || network.router === undefined)
      continue
    const networks = tenants.get(network.router)
    if (networks === undefined) tenants.set(network.router, [network])
    else networks.push(network)
  }
  return tenants
}

/** Whether `planTenants` would write anything. */
export function needsTenants(reader: Reader): boolean {
  const tenants = tenantsOf(reader)
  if (staleLinks(reader, tenants).length > 0) return true
  for (const [router, networks] of tenants) if (!isWhole(reader, router, networks)) return true
  return false
}

/** Makes and removes tenants' links in `draft`; new ones avoid the networks `taken`. */
export function planTenants(draft: Draft, taken: readonly Cidr[]): void {
  const tenants = tenantsOf(draft)
  for (const router of staleLinks(draft, tenants)) removeTenantLink(draft, router)
  for (const [router, networks] of tenants) {
    if (tenantPortOf(draft, router) === undefined) makeLink(draft, router, networks, taken)
    completeLink(draft, router, networks)
  }
}

/** The networks of all tenants' links. */
export function tenantLinks(reader: Reader): readonly Cidr[] {
  return reader
    .list('router')
    .flatMap(({ id }) => tenantPortOf(reader, id)?.addresses.map(toCidr) ?? [])
}

/** Routers with a link that need none, or one to another provider. */
function staleLinks(
  reader: Reader,
  tenants: ReadonlyMap<string, readonly Network[]>,
): readonly string[] {
  const isStale = (router: string) => {
    const port = tenantPortOf(reader, router)
    if (port === undefined) return false
    const peer = reader.get('port', tenantLink(router).peer)
    const provider = peer?.kind === 'router' ? peer.router : undefined
    return provider === undefined || tenants.get(router)?.[0]?.provider !== provider
  }
  return reader
    .list('router')
    .map(({ id }) => id)
    .filter(isStale)
}

function isWhole(reader: Reader, router: string, networks: readonly Network[]): boolean {
  const link = describe(reader, router)
  const port = tenantPortOf(reader, router)
  if (link === undefined || port?.mtu !== smallestMtu(networks)) return false
  const ours = reader.get('route', uplinkRoute(link.id)) !== undefined
  return ours !== hasOtherDefault(reader, router) && hasItsRules(reader, link)
}

function describe(reader: Reader, router: string): TranslatingLink | undefined {
  const port = tenantPortOf(reader, router)
  const inside = tenantAddressOf(reader, router)
  if (port === undefined || inside === undefined) return undefined
  const publications = tenantPublicationsOf(reader, router)
  return { id: port.id, inside, outside: providerAddressOf(port), publications }
}

function makeLink(
  draft: Draft,
  router: string,
  networks: readonly Network[],
  taken: readonly Cidr[],
): void {
  const provider = networks[0]?.provider
  if (provider === undefined) return
  const { id, peer } = tenantLink(router)
  const uplinks = draft.list('uplink').map(({ hostAddress }) => toCidr(hostAddress))
  const network = chooseNetwork(id, [...taken, ...uplinks, ...tenantLinks(draft)])
  const [near, far] = [formatIp(network + 2), formatIp(network + 1)]
  const common = { kind: 'router', adminUp: true, mtu: smallestMtu(networks) } as const
  draft.put('port', {
    ...{ ...common, id: peer, router: provider, peer: id },
    ...{ mac: macOf(id, 2), addresses: [`${far}/30`] },
  })
  draft.put('port', {
    ...{ ...common, id, router, peer },
    ...{ mac: macOf(id, 1), addresses: [`${near}/30`] },
  })
}

function completeLink(draft: Draft, router: string, networks: readonly Network[]): void {
  const link = describe(draft, router)
  if (link === undefined) return
  const mtu = smallestMtu(networks)
  for (const id of Object.values(tenantLink(router))) {
    const port = draft.get('port', id)
    if (port?.kind === 'router' && port.mtu !== mtu) draft.put('port', { ...port, mtu })
  }
  completeRules(draft, link)
  const route = uplinkRoute(link.id)
  const ours = draft.get('route', route) !== undefined
  const others = hasOtherDefault(draft, router)
  if (others && ours) draft.delete('route', route)
  if (others || ours) return
  draft.put('route', {
    ...{ id: route, router, src: anywhere, dst: anywhere, action: 'port' },
    ...{ port: link.id, gateway: link.outside, weight: defaultWeight },
  })
}

function hasOtherDefault(reader: Reader, router: string): boolean {
  const own = uplinkRoute(tenantLink(router).id)
  return reader
    .list('route')
    .some(
      (route) =>
        route.router === router &&
        route.dst === anywhere &&
        route.src === anywhere &&
        route.id !== own,
    )
}
