/** Rules about tunnel zones and the hosts in them. */
import { TopologyError } from './error.ts'
import { zoneMemberId } from './host-schema.ts'
import { referenceMark } from './mark.ts'
import type { TunnelZone, ZoneMember } from './model.ts'
import type { Indexed } from './objects.ts'

/** GRE has no ports. */
export function checkTunnelZone({ id, encapsulation, udpPort }: TunnelZone): void {
  if (encapsulation !== 'gre' || udpPort === undefined) return
  throw invalid(`tunnelZone ${id}: udpPort: GRE has no UDP port; leave it out`)
}

/** The id says zone and host, so a host is in a zone once; all hosts of a zone can reach it. */
export function checkZoneMember(member: ZoneMember, outcome: Indexed): void {
  const { id, zone, host, address } = member
  if (id !== zoneMemberId(zone, host))
    throw invalid(`zoneMember ${id}: write its id as ${zoneMemberId(zone, host)}`)
  if (isUnusable(address))
    throw invalid(`zoneMember ${id}: address: ${address} is no host's; use one of the underlay`)
  for (const { kind, id: otherId, value } of outcome.holders(referenceMark('tunnelZone', zone))) {
    if (kind !== 'zoneMember' || otherId === id) continue
    if (value.address.includes(':') === address.includes(':')) continue
    const message =
      `zoneMember ${id}: address: ${address} is of another family than ${value.address} of host ` +
      `${value.host}; use one family in a zone, or a zone for each`
    throw invalid(message)
  }
}

/** Multicast, loopback, unspecified. */
function isUnusable(address: string): boolean {
  if (address.includes(':')) return /^(::1?$|ff)/i.test(address)
  const first = Number(address.slice(0, address.indexOf('.')))
  return first === 0 || first === 127 || first >= 224
}

function invalid(message: string): TopologyError {
  return new TopologyError('INVALID', message)
}
