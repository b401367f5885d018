/**
 * Docker's IpamDriver calls: pools and addresses as transactions in the store, so that one address
 * is never given twice. Releases succeed always.
 */
import { releaseAddress, releasePool, requestAddress, requestPool } from '../topology/allocate.ts'
import { addressId } from '../topology/pool-rule.ts'
import type { Call, DriverContext } from './context.ts'
import { DriverError } from './error.ts'
import { readSpace } from './options.ts'
import { readRequest, requests } from './request.ts'
import { takenByHost } from './subnet.ts'

const addressType = 'RequestAddressType'
const gatewayType = 'com.docker.network.gateway'

/** Answered without a store. */
export const plainIpamCalls: Readonly<Record<string, () => object>> = {
  // A replay would ask for addresses that are taken already: our store keeps them.
  'IpamDriver.GetCapabilities': () => ({
    RequiresMACAddress: false,
    RequiresRequestReplay: false,
  }),
  'IpamDriver.GetDefaultAddressSpaces': () => ({
    LocalDefaultAddressSpace: 'midonet-local',
    GlobalDefaultAddressSpace: 'midonet-global',
  }),
}

/** By name, as Docker calls them. */
export const ipamCalls: Readonly<Record<string, Call>> = {
  'IpamDriver.RequestPool': requestPoolCall,
  'IpamDriver.ReleasePool': releasePoolCall,
  'IpamDriver.RequestAddress': requestAddressCall,
  'IpamDriver.ReleaseAddress': releaseAddressCall,
}

async function requestPoolCall(context: DriverContext, body: unknown): Promise<object> {
  const request = readRequest('RequestPool', requests.requestPool, body)
  const { store } = context
  // A subnet that we choose must be usable: free on the host and among all networks.
  const avoid = request.Pool ? [] : takenByHost(context.links).map(({ cidr }) => cidr)
  const { value } = await store.transact((draft) => {
    const networks = draft
      .list('network')
      .flatMap(({ subnets, subnets6 }) => [...subnets, ...subnets6].map(({ subnet }) => subnet))
    const pool = requestPool(draft, {
      space: readSpace(request.AddressSpace, request.Options),
      subnet: request.Pool || undefined,
      range: request.SubPool || undefined,
      v6: request.V6 ?? false,
      avoid: [...avoid, ...networks],
    })
    context.recent.touch(pool.id)
    return pool
  })
  return { PoolID: value.id, Pool: value.subnet, Data: {} }
}

async function releasePoolCall({ store }: DriverContext, body: unknown): Promise<object> {
  const { PoolID } = readRequest('ReleasePool', requests.poolRef, body)
  if (store.get('pool', PoolID) !== undefined)
    await store.transact((draft) => releasePool(draft, PoolID))
  return {}
}

async function requestAddressCall(context: DriverContext, body: unknown): Promise<object> {
  const request = readRequest('RequestAddress', requests.requestAddress, body)
  const { value } = await context.store.transact((draft) => {
    const pool = draft.get('pool', request.PoolID)
    if (pool === undefined)
      throw new DriverError(
        'NOT_FOUND',
        `midonet: pool ${request.PoolID} is unknown; remove the network and create it again`,
      )
    const address = requestAddress(draft, pool.id, {
      address: request.Address || undefined,
      gateway: request.Options[addressType] === gatewayType,
      host: context.host,
    })
    context.recent.touch(addressId(pool.id, address))
    return `${address}/${pool.subnet.split('/')[1]}`
  })
  return { Address: value, Data: {} }
}

async function releaseAddressCall({ store, host }: DriverContext, body: unknown): Promise<object> {
  const { PoolID, Address } = readRequest('ReleaseAddress', requests.releaseAddress, body)
  await store.transact((draft) => {
    const standing = draft.get('address', addressId(PoolID, Address))
    // A gateway of several hosts goes with the last of them, and with the pool.
    const isNeeded = standing?.gateway === true && (draft.get('pool', PoolID)?.references ?? 0) > 1
    if (isNeeded || (standing?.host ?? host) !== host) return
    releaseAddress(draft, PoolID, Address)
  })
  return {}
}
