/**
 * Pools of addresses, and addresses out of them, on a draft: what Docker's IPAM asks for.
 *
 * Every address taken is an object, and transactions come one after the other, so no address is
 * given twice. The search goes on where the last one ended (next fit): an address just released
 * rests until the pool has been gone through.
 */
import {
  type Block,
  type BlockAddress,
  blockCovers,
  blockHas,
  blockOf,
  blocksOverlap,
  formatAddress,
  formatBlock,
  parseAddress,
  parseBlock,
} from './block.ts'
import { TopologyError } from './error.ts'
import type { Pool } from './model.ts'
import { addressId, subnetOf } from './pool-rule.ts'
import type { Draft } from './store.ts'

/** What a pool is asked for with. */
export interface PoolRequest {
  readonly space: string
  /** Absent: a free one is chosen. */
  readonly subnet?: string | undefined
  /** Addresses are given from here only. */
  readonly range?: string | undefined
  readonly v6?: boolean | undefined
  /** Networks that a chosen subnet must not overlap with, such as the host's own. */
  readonly avoid?: readonly string[] | undefined
}

/** What an address is asked for with. */
export interface AddressRequest {
  /** Absent: the next free one is given. */
  readonly address?: string | undefined
  readonly gateway?: boolean | undefined
  /** Who asks. */
  readonly host?: string | undefined
}

/** Where subnets are chosen from when none is asked for, in this order, and how long they are. */
const defaults = [
  { within: '172.30.0.0/15', prefixLength: 24, v6: false },
  { within: '10.64.0.0/10', prefixLength: 24, v6: false },
  { within: 'fd6d:6964:6f00::/48', prefixLength: 64, v6: true },
] as const

/**
 * Takes a pool: the one that stands for this subnet, with one reference more, or a new one.
 * @throws TopologyError CONFLICT when another pool of the space overlaps, INVALID when what is
 * asked for makes no sense or no subnet is free.
 */
export function requestPool(draft: Draft, request: PoolRequest): Pool {
  const subnet = request.subnet === undefined ? undefined : parseSubnet(request.subnet, request)
  if (subnet === undefined && request.range !== undefined) {
    throw invalid(`range ${request.range}: a range needs a subnet; name the subnet as well`)
  }
  const others = draft.list('pool').filter(({ space }) => space === request.space)
  const block = subnet ?? chooseSubnet(request, others)
  const text = formatBlock(block)
  const range = request.range === undefined ? undefined : parseRange(request.range, block)
  const id = `${request.space}_${text.replace('/', '-')}`

  const standing = draft.get('pool', id)
  checkFree(block, id, others)
  if (standing !== undefined && standing.range !== range) {
    throw new TopologyError(
      'CONFLICT',
      `subnet ${text} is given out from ${standing.range ?? text} already; ask for the same range`,
    )
  }
  const pool: Pool = standing
    ? { ...standing, references: standing.references + 1 }
    : { id, space: request.space, subnet: text, references: 1, ...(range && { range }) }
  draft.put('pool', pool)
  return pool
}

/** Gives a pool back; with the last reference it goes, and whatever addresses it still had. */
export function releasePool(draft: Draft, id: string): void {
  const pool = draft.get('pool', id)
  if (pool === undefined) return
  if (pool.references > 1) {
    draft.put('pool', { ...pool, references: pool.references - 1 })
    return
  }
  for (const address of draft.list('address')) {
    if (address.pool === id) draft.delete('address', address.id)
  }
  draft.delete('pool', id)
}

/**
 * Takes an address of a pool, the one asked for or the next free one, and returns its text.
 * @throws TopologyError MISSING_REFERENCE without such a pool, CONFLICT when the address is taken,
 * INVALID when it is none of the pool's or no address is free.
 */
export function requestAddress(draft: Draft, poolId: string, request: AddressRequest = {}): string {
  const pool = draft.get('pool', poolId)
  if (pool === undefined) {
    const message = `there is no pool ${poolId}; request the pool first`
    throw new TopologyError('MISSING_REFERENCE', message)
  }
  // Each host's Docker asks for the gateway of the network that all of them share.
  const shared = sharedGateway(draft, pool, request)
  if (shared !== undefined) return shared
  const given =
    request.address === undefined
      ? takeNext(draft, pool)
      : formatAddress(checkAsked(draft, pool, request.address))
  const gateway = request.gateway ?? false
  const { host } = request
  const id = addressId(poolId, given)
  draft.put('address', { id, pool: poolId, address: given, gateway, ...(host && { host }) })
  return given
}

/** A gateway that another host has asked for stands for this host's as well. */
function sharedGateway(draft: Draft, pool: Pool, request: AddressRequest): string | undefined {
  if (request.gateway !== true || request.host === undefined) return undefined
  // Without --gateway Docker leaves the choice to us: the one that is there.
  const standing =
    request.address === undefined
      ? draft
          .list('address')
          .find((one) => one.pool === pool.id && one.gateway && one.host !== request.host)
      : draft.get('address', addressId(pool.id, request.address))
  const isShared = standing?.gateway === true && standing.host !== request.host
  return isShared ? standing.address : undefined
}

/** Gives an address back; one that is not taken is no error. */
export function releaseAddress(draft: Draft, poolId: string, address: string): void {
  draft.delete('address', addressId(poolId, address))
}

function parseSubnet(text: string, { v6 }: PoolRequest): Block {
  const block = parseBlock(text)
  if (block === undefined) throw invalid(`subnet ${text} is no network; write it as 10.1.0.0/24`)
  if (v6 !== undefined && v6 !== (block.bits === 128)) {
    throw invalid(`subnet ${text} is not ${v6 ? 'IPv6' : 'IPv4'}; name one that is`)
  }
  if (block.value === block.first) return block
  throw invalid(`subnet ${text} has host bits; use ${formatBlock(block)}`)
}

function parseRange(text: string, subnet: Block): string {
  const range = parseBlock(text)
  if (range !== undefined && blockCovers(subnet, range)) return formatBlock(range)
  throw invalid(`range ${text} is not within ${formatBlock(subnet)}; choose a range that is`)
}

function checkFree(block: Block, id: string, others: readonly Pool[]): void {
  const other = others.find((pool) => pool.id !== id && blocksOverlap(block, subnetOf(pool)))
  if (other === undefined) return
  const message = `subnet ${formatBlock(block)} overlaps with ${other.subnet} of another pool`
  throw new TopologyError('CONFLICT', `${message}; choose another subnet`)
}

function chooseSubnet({ v6 = false, avoid = [] }: PoolRequest, others: readonly Pool[]): Block {
  const taken = [...others.map(subnetOf), ...avoid.flatMap((text) => parseBlock(text) ?? [])]
  taken.sort((a, b) => (a.first < b.first ? -1 : 1))
  for (const choice of defaults) {
    const within = parseBlock(choice.within)
    if (within === undefined || choice.v6 !== v6) continue
    const free = firstGap(within, choice.prefixLength, taken)
    if (free !== undefined) return free
  }
  throw invalid('no default subnet is free; name a subnet with --subnet')
}

/** The first block of `prefixLength` in `within` that overlaps with none of `taken`, in order. */
function firstGap(within: Block, prefixLength: number, taken: readonly Block[]): Block | undefined {
  let free = blockOf(within.bits, within.first, prefixLength)
  for (const block of taken) {
    if (blocksOverlap(free, block)) free = blockAfter(free, block.last)
  }
  return blockCovers(within, free) ? free : undefined
}

/** The first block of the size of `block` that begins after `last`. */
function blockAfter({ bits, prefixLength }: Block, last: bigint): Block {
  const inside = blockOf(bits, last, prefixLength)
  return blockOf(bits, inside.last + 1n, prefixLength)
}

function takeNext(draft: Draft, pool: Pool): string {
  const { bits } = subnetOf(pool)
  for (const { value, after } of freeOrder(pool)) {
    const text = formatAddress({ bits, value })
    // Each step but the last meets a taken address, so there are no more steps than those.
    if (draft.get('address', addressId(pool.id, text)) !== undefined) continue
    draft.put('pool', { ...pool, next: formatAddress({ bits, value: after }) })
    return text
  }
  const where = pool.range ?? pool.subnet
  throw invalid(
    `pool ${pool.id}: all addresses of ${where} are taken; free some or use a larger subnet`,
  )
}

/** The addresses a pool gives out, from where the last search ended, once around. */
function* freeOrder(pool: Pool): Generator<{ readonly value: bigint; readonly after: bigint }> {
  const { first, last } = hostsOf(subnetOf(pool))
  const range = parseBlock(pool.range ?? pool.subnet)
  const low = range !== undefined && range.first > first ? range.first : first
  const high = range !== undefined && range.last < last ? range.last : last
  const next = parseAddress(pool.next ?? '')?.value ?? low
  const start = next < low || next > high ? low : next
  for (let value = start; value <= high; value += 1n) {
    yield { value, after: value < high ? value + 1n : low }
  }
  for (let value = low; value < start; value += 1n) yield { value, after: value + 1n }
}

/**
 * What of a subnet hosts may have: in IPv4 not the network's own address nor the broadcast, in IPv6
 * not the routers' anycast address (RFC 4291 section 2.6.1). Links of one or two are used whole.
 */
function hostsOf({ bits, first, last, prefixLength }: Block): { first: bigint; last: bigint } {
  if (bits - prefixLength < 2) return { first, last }
  return { first: first + 1n, last: bits === 32 ? last - 1n : last }
}

function checkAsked(draft: Draft, pool: Pool, text: string): BlockAddress {
  const subnet = subnetOf(pool)
  const address = parseAddress(text)
  if (address === undefined || !blockHas(subnet, address)) {
    throw invalid(`address ${text} is not in ${pool.subnet}; choose one that is`)
  }
  const { first, last } = hostsOf(subnet)
  if (address.value < first || address.value > last) {
    throw invalid(`address ${text} is no host's address in ${pool.subnet}; choose another one`)
  }
  if (draft.get('address', addressId(pool.id, text)) === undefined) return address
  throw new TopologyError('CONFLICT', `address ${text} is taken; choose another one`)
}

function invalid(message: string): TopologyError {
  return new TopologyError('INVALID', message)
}
