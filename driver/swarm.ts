/**
 * Swarm's side of the NetworkDriver calls, on the managed plugin's socket. A network of Swarm is one
 * for all hosts:
 *
 *   leader    AllocateNetwork …………………………………………………… FreeNetwork
 *   each host   CreateNetwork   CreateEndpoint, Join … Leave   DeleteNetwork     (first, last task)
 *
 * The first host that has a task on it writes the network, with the id that all hosts know; those
 * after it find it written. It goes when Swarm frees it, with the last endpoint. AllocateNetwork
 * comes again with each new leader, FreeNetwork some seconds before the last tasks end.
 */
import type { Network } from '../topology/model.ts'
import type { Call, DriverContext } from './context.ts'
import { deleteEndpoint } from './endpoint.ts'
import { removeLinks } from './join.ts'
import { createNetwork, freeNetwork } from './network.ts'
import { planOf } from './network-driver.ts'
import { type NetworkRequest, readRequest, requests } from './request.ts'

/** In place of those of networks of one host. */
export const swarmCalls: Readonly<Record<string, Call>> = {
  'NetworkDriver.AllocateNetwork': allocateCall,
  'NetworkDriver.FreeNetwork': freeCall,
  'NetworkDriver.CreateNetwork': createCall,
  'NetworkDriver.DeleteNetwork': deleteCall,
}

/**
 * Checks what is asked for. Nothing is written: whether the network is internal is told to the hosts
 * only. Answers the options, which Docker then gives to the hosts.
 */
function allocateCall(context: DriverContext, body: unknown): object {
  const request = readRequest('AllocateNetwork', requests.createNetwork, body)
  const { id } = planOf(context, families(request))
  context.recent.touch(id)
  return { Options: request.Options }
}

/** Docker gives the subnets of both families as those of IPv4, and the options bare. */
function families(request: NetworkRequest): NetworkRequest {
  const isSix = ({ Pool }: { readonly Pool: string }) => Pool.includes(':')
  return {
    ...request,
    IPv4Data: request.IPv4Data.filter((data) => !isSix(data)),
    IPv6Data: [...request.IPv6Data, ...request.IPv4Data.filter(isSix)],
  }
}

async function createCall(context: DriverContext, body: unknown): Promise<object> {
  const request = readRequest('CreateNetwork', requests.createNetwork, body)
  const plan = { ...planOf(context, request), swarm: true }
  context.recent.touch(plan.id)
  await context.turns.take(plan.id, () =>
    context.store.transact((draft) => createNetwork(draft, plan)),
  )
  return {}
}

/** The last task of this host has left, or Docker has forgotten those that it had. */
async function deleteCall(context: DriverContext, body: unknown): Promise<object> {
  const { NetworkID } = readRequest('DeleteNetwork', requests.networkRef, body)
  await context.turns.take(NetworkID, async () => {
    const network = context.store.get('network', NetworkID)
    if (network === undefined || nothingToDo(context, network)) return
    const { value } = await context.store.transact((draft) => {
      const mine = draft
        .list('endpoint')
        .filter(({ network, host }) => network === NetworkID && host === context.host)
      const links = mine.flatMap(({ id }) => deleteEndpoint(draft, id))
      const freed = draft.get('network', NetworkID)?.freed === true
      return freed ? [...links, ...freeNetwork(draft, NetworkID)] : links
    })
    removeLinks(context, value)
  })
  return {}
}

function nothingToDo({ store, host }: DriverContext, { id, freed }: Network): boolean {
  const isHere = (one: { network: string; host: string }) => one.network === id && one.host === host
  return freed !== true && !store.list('endpoint').some(isHere)
}

async function freeCall(context: DriverContext, body: unknown): Promise<object> {
  const { NetworkID } = readRequest('FreeNetwork', requests.networkRef, body)
  await context.turns.take(NetworkID, async () => {
    if (context.store.get('network', NetworkID) === undefined) return
    const { value } = await context.store.transact((draft) => freeNetwork(draft, NetworkID))
    removeLinks(context, value)
  })
  return {}
}
