/** Join and Leave: a container takes an endpoint by one end of a veth pair, and lets go of it. */
import { setImmediate } from 'node:timers/promises'
import { LinkError, type Links, type VethRequest } from '../datapath/link.ts'
import type { Endpoint, Network } from '../topology/model.ts'
import { type DriverContext, settle } from './context.ts'
import {
  bindEndpoint,
  linkNames,
  requireEndpoint,
  requireNetwork,
  unbindEndpoint,
} from './endpoint.ts'
import { gatewaysFor, siblingRoutes } from './network.ts'
import { readRequest, requests } from './request.ts'

/** Answers Join: makes the link, binds it, waits for the datapath, tells Docker its end. */
export async function joinCall(context: DriverContext, body: unknown): Promise<object> {
  const request = readRequest('Join', requests.join, body)
  const id = request.EndpointID
  context.recent.touch(id)
  context.recent.touch(linkNames(id).host)
  return context.turns.take(id, async () => {
    const endpoint = requireEndpoint(context.store, request.NetworkID, id)
    const network = requireNetwork(context.store, request.NetworkID)
    await attach(context, endpoint, network, request.SandboxKey || undefined)
    return joinAnswer(context, endpoint, network)
  })
}

/** Makes the veth pair and binds it; takes everything back when a step fails. */
async function attach(
  context: DriverContext,
  endpoint: Endpoint,
  network: Network,
  sandbox: string | undefined,
): Promise<void> {
  const { store, links } = context
  const names = linkNames(endpoint.id)
  const bound = endpoint.interface !== undefined && links.find(endpoint.interface) !== undefined
  if (bound && store.get('binding', endpoint.id) !== undefined)
    return settle(context, store.revision)
  // It is written while the kernel makes the link; the datapath hears of it only after both.
  const binding = store.transact((draft) => {
    const current = requireEndpoint(draft, network.id, endpoint.id)
    bindEndpoint(draft, current, names.host, sandbox)
  })
  try {
    createPair(links, {
      name: names.host,
      peerName: names.peer,
      peerMac: endpoint.mac,
      mtu: network.mtu,
    })
    const { revision } = await binding
    await settle(context, revision)
  } catch (error) {
    await Promise.allSettled([binding])
    try {
      await unbind(context, endpoint.id)
    } finally {
      removeLinks(context, [names.host])
    }
    throw error
  }
}

/** Looked for only when it is in the way: on a busy host the kernel answers each question late. */
function createPair(links: Links, request: VethRequest): void {
  try {
    links.createVeth(request)
  } catch (error) {
    if (!(error instanceof LinkError && error.code === 'EEXIST')) throw error
    // A pair of that name is left from a Join whose end nobody saw.
    links.remove(request.name)
    links.remove(request.peerName)
    links.createVeth(request)
  }
}

function joinAnswer({ store }: DriverContext, endpoint: Endpoint, network: Network): object {
  const answer = {
    InterfaceName: { SrcName: linkNames(endpoint.id).peer, DstPrefix: 'eth' },
  }
  const gateways = gatewaysFor(network, endpoint)
  if (network.gatewayMode === 'virtual' && !network.internal)
    // Without a gateway Docker would add its own gateway bridge, which nobody asked for.
    return {
      ...answer,
      ...(gateways.four === undefined
        ? { DisableGatewayService: true }
        : { Gateway: gateways.four }),
      ...(gateways.six !== undefined && { GatewayIPv6: gateways.six }),
    }
  const routes = siblingRoutes(store, network, gateways)
  const list = routes.map(({ subnet, nextHop }) => ({
    Destination: subnet,
    RouteType: 0,
    NextHop: nextHop,
  }))
  return { ...answer, StaticRoutes: list }
}

/**
 * Answers Leave at once: Docker does nothing about an error. The link stays until DeleteEndpoint: the
 * kernel takes tens of milliseconds to remove one, and Docker, which takes the container's end back
 * next, would wait for that.
 */
export function leaveCall(context: DriverContext, body: unknown): object {
  const { EndpointID } = readRequest('Leave', requests.endpointRef, body)
  context.recent.touch(EndpointID)
  context.recent.touch(linkNames(EndpointID).host)
  const leaving = context.turns.take(EndpointID, () => unbind(context, EndpointID))
  leaving.catch((error) => {
    const reason = error instanceof Error ? error.message : String(error)
    context.report(
      `endpoint ${EndpointID.slice(0, 12)} was left, but is bound still, until Docker deletes it: ${reason}`,
    )
  })
  return {}
}

async function unbind({ store }: DriverContext, id: string): Promise<void> {
  if (store.get('endpoint', id) !== undefined)
    await store.transact((draft) => unbindEndpoint(draft, id))
}

/** Removes what an endpoint had once its call is answered: Docker need not wait for the kernel. */
export async function removeLinksLater(
  context: DriverContext,
  id: string,
  names: readonly string[],
): Promise<void> {
  for (const name of names) context.recent.touch(name)
  await context.turns.take(id, async () => {
    await setImmediate()
    removeLinks(context, names)
  })
}

/** What cannot be removed now is found by the reconciler later. */
export function removeLinks({ links, report }: DriverContext, names: readonly string[]): void {
  for (const name of names) {
    try {
      links.remove(name)
    } catch (error) {
      report(`link ${name} could not be removed: ${error instanceof Error ? error.message : error}`)
    }
  }
}
