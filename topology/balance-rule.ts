/** Rules about load balancers: what a packet could never reach is refused when it is written. */
import { parseIp } from '../packet/address.ts'
import { TopologyError } from './error.ts'
import type { PoolMember, Vip } from './model.ts'
import type { Reader } from './store.ts'

/** @throws TopologyError when the address can be no host's, or the pool is another balancer's */
export function checkVip({ id, address, pool, loadBalancer }: Vip, outcome: Reader): void {
  checkUnicast(`vip ${id}`, address)
  const owner = outcome.get('balancerPool', pool)?.loadBalancer
  if (owner === loadBalancer) return
  const problem = `pool ${pool} is of loadBalancer ${owner}; name a pool of ${loadBalancer}`
  throw new TopologyError('INVALID', `vip ${id}: ${problem}`)
}

/** @throws TopologyError when the address can be no host's */
export function checkPoolMember({ id, address }: PoolMember): void {
  checkUnicast(`poolMember ${id}`, address)
}

function checkUnicast(owner: string, text: string): void {
  const octet = (parseIp(text) ?? 0) >>> 24
  if (octet !== 0 && octet !== 127 && octet < 224) return
  throw new TopologyError('INVALID', `${owner}: ${text} is no address of a host; give one that is`)
}
