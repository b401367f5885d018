/** How a host joins the other hosts on its own: by the tunnel zone that all of them are in. */
import { contains, parseCidr, parseIp, parseIpv6 } from '../packet/address.ts'
import { contains6, parseCidr6 } from '../packet/address6.ts'
import { zoneMemberId } from '../topology/host-schema.ts'
import type { Host } from '../topology/model.ts'
import type { Draft } from '../topology/store.ts'

/** Id and name of the zone; made by the first host, and never changed afterwards. */
export const defaultZone = 'default'

/** Whether a text is an address or a network, of either family. */
export function isUnderlay(text: string): boolean {
  return [parseIp, parseIpv6, parseCidr, parseCidr6].some((parse) => parse(text) !== undefined)
}

/** The address of the host that an underlay names; undefined when it has none such. */
export function underlayAddress({ interfaces = [] }: Host, underlay: string): string | undefined {
  const own = interfaces.flatMap(({ addresses }) => addresses).map((cidr) => cidr.split('/')[0])
  return own.find((address) => address !== undefined && isIn(address, underlay))
}

function isIn(address: string, underlay: string): boolean {
  const [four, six] = [parseIp(address), parseIpv6(address)]
  const [network, network6] = [parseCidr(underlay), parseCidr6(underlay)]
  if (four !== undefined)
    return network === undefined ? parseIp(underlay) === four : contains(network, four)
  if (six === undefined) return false
  return network6 === undefined ? parseIpv6(underlay) === six : contains6(network6, six)
}

/** Has the host join the default zone, or says why it cannot. */
export function joinDefaultZone(draft: Draft, host: Host, underlay: string): string | undefined {
  const address = underlayAddress(host, underlay)
  if (address === undefined)
    return `no interface of this host has an address of ${underlay} (MIDONET_UNDERLAY)`
  const zone = draft.get('tunnelZone', defaultZone)
  if (zone === undefined)
    draft.put('tunnelZone', { id: defaultZone, name: defaultZone, encapsulation: 'vxlan' })
  const id = zoneMemberId(defaultZone, host.id)
  if (draft.get('zoneMember', id)?.address !== address)
    draft.put('zoneMember', { id, zone: defaultZone, host: host.id, address })
  return undefined
}
