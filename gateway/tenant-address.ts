/** Addresses of the links between tenants' routers and providers'. Pure. */
import { formatIp, networkOf } from '../packet/address.ts'
import type { RouterPort } from '../topology/model.ts'
import type { Reader } from '../topology/store.ts'
import { tenantLink } from '../topology/uplink.ts'
import { addressOf, toCidr } from './link.ts'

/** The end of a tenant's link that translates; undefined when it has none. */
export function tenantPortOf(reader: Reader, router: string): RouterPort | undefined {
  const port = reader.get('port', tenantLink(router).id)
  return port?.kind === 'router' ? port : undefined
}

/** The address behind which all of a tenant is. */
export function tenantAddressOf(reader: Reader, router: string): string | undefined {
  const [cidr] = tenantPortOf(reader, router)?.addresses ?? []
  return cidr === undefined ? undefined : addressOf(cidr)
}

/** The provider's address on the same /30. */
export function providerAddressOf({ addresses }: RouterPort): string {
  return formatIp(networkOf(toCidr(addresses[0] ?? '')) + 1)
}
