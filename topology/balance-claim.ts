/** What of load balancing only one object may have. */
import { canonicalAddress } from './block.ts'
import type { Claim } from './mark.ts'
import type { LoadBalancer, PoolMember, Vip } from './model.ts'

/** A router has one load balancer. */
export function routerClaims({ router }: LoadBalancer): readonly Claim[] {
  if (router === undefined) return []
  const problem = `router ${router} has a load balancer; use that one`
  return [{ mark: `load balancer ${router}`, problem }]
}

/** One VIP listens on an address, protocol and port. */
export function listenClaim({ loadBalancer, address, protocol, port }: Vip): Claim {
  const where = `${protocol} ${canonicalAddress(address)}:${port}`
  const problem = `${where} is taken on loadBalancer ${loadBalancer}; choose another port`
  return { mark: `vip ${loadBalancer} ${where}`, problem }
}

/** A server is once in a pool. */
export function serverClaim({ pool, address, port }: PoolMember): Claim {
  const where = `${canonicalAddress(address)}:${port}`
  return { mark: `member ${pool} ${where}`, problem: `${where} is in pool ${pool}; use that one` }
}
