/** Rules about pools and their addresses. */
import {
  type Block,
  blockCovers,
  blockHas,
  blocksOverlap,
  canonicalAddress,
  formatBlock,
  parseAddress,
  parseBlock,
} from './block.ts'
import { TopologyError } from './error.ts'
import { spaceMark } from './mark.ts'
import type { Address, Pool } from './model.ts'
import type { Indexed } from './objects.ts'

/** The id of an address in its pool: the same address has the same id, so it is taken once. */
export function addressId(pool: string, address: string): string {
  return `${pool}_${canonicalAddress(address)}`
}

/** The block of a pool's subnet. */
export function subnetOf({ id, subnet }: Pool): Block {
  const block = parseBlock(subnet)
  if (block !== undefined) return block
  throw new TopologyError('INVALID', `pool ${id}: subnet: ${subnet} is no network`)
}

/** A pool's subnet is a network, and its range lies within it. */
export function checkPool(pool: Pool): void {
  const subnet = subnetOf(pool)
  if (formatBlock(subnet) !== pool.subnet) {
    const message = `pool ${pool.id}: subnet: write ${pool.subnet} as ${formatBlock(subnet)}`
    throw new TopologyError('INVALID', message)
  }
  if (pool.range === undefined) return
  const range = parseBlock(pool.range)
  if (range !== undefined && blockCovers(subnet, range)) return
  throw new TopologyError(
    'INVALID',
    `pool ${pool.id}: range: ${pool.range} is not within ${pool.subnet}; choose a range that is`,
  )
}

/** Pools of one address space share no address. */
export function checkPoolOverlap(pool: Pool, outcome: Indexed): void {
  const subnet = subnetOf(pool)
  for (const { kind, id, value } of outcome.holders(spaceMark(pool.space))) {
    if (kind !== 'pool' || id === pool.id || !blocksOverlap(subnet, subnetOf(value))) continue
    throw new TopologyError(
      'CONFLICT',
      `subnet ${pool.subnet} overlaps with ${value.subnet} of pool ${id}; choose another subnet`,
    )
  }
}

/** An address is in its pool's subnet, and its id says which one it is. */
export function checkAddress({ id, pool: poolId, address }: Address, outcome: Indexed): void {
  const pool = outcome.get('pool', poolId)
  const number = parseAddress(address)
  if (pool === undefined || number === undefined) return
  if (!blockHas(subnetOf(pool), number)) {
    const message = `address ${id}: ${address} is not in ${pool.subnet}; choose one that is`
    throw new TopologyError('INVALID', message)
  }
  if (address === canonicalAddress(address) && id === addressId(poolId, address)) return
  throw new TopologyError(
    'INVALID',
    `address ${id}: write ${canonicalAddress(address)}, id ${addressId(poolId, address)}`,
  )
}
