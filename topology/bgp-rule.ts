/** Rules about BGP. */
import { formatCidr, networkOf, parseCidr, parseIp } from '../packet/address.ts'
import { TopologyError } from './error.ts'
import { routerPortMark } from './mark.ts'
import type { BgpNetwork, BgpPeer } from './model.ts'
import type { Indexed } from './objects.ts'

/** @throws TopologyError for the first rule that the peer breaks */
export function checkBgpPeer(peer: BgpPeer, outcome: Indexed): void {
  const { id, router, address, holdTime = 180, keepAlive } = peer
  const first = (parseIp(address) ?? 0) >>> 24
  if (first === 0 || first === 127 || first >= 224)
    throw invalid(`bgpPeer ${id}: address: ${address} is no station's; use the peer's own`)
  if (keepAlive !== undefined && holdTime !== 0 && keepAlive * 3 > holdTime) {
    const most = Math.floor(holdTime / 3)
    throw invalid(
      `bgpPeer ${id}: keepAlive: ${keepAlive} s is more than a third of the hold time; use ${most}`,
    )
  }
  for (const { kind, value } of outcome.holders(routerPortMark(address)))
    if (kind === 'port' && value.kind === 'router' && value.router === router)
      throw invalid(`bgpPeer ${id}: address: ${address} is the router's own; name the other end's`)
}

/** @throws TopologyError when the prefix has host bits */
export function checkBgpNetwork({ id, prefix }: BgpNetwork): void {
  const cidr = parseCidr(prefix)
  if (cidr === undefined || cidr.address === networkOf(cidr)) return
  const network = formatCidr({ ...cidr, address: networkOf(cidr) })
  throw invalid(`bgpNetwork ${id}: prefix: ${prefix} has host bits; use ${network}`)
}

function invalid(message: string): TopologyError {
  return new TopologyError('INVALID', message)
}
