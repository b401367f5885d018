/** ProgramExternalConnectivity and its revocation: published ports, kept with the endpoint. */
import type { Endpoint, Publication } from '../topology/model.ts'
import { type DriverContext, settle } from './context.ts'
import { publish, requireEndpoint } from './endpoint.ts'
import { choosePublications } from './publication.ts'
import { type PortRequest, readPortMap, readRequest, requests } from './request.ts'

/** The turn of those who choose host ports; no id of Docker's looks like it. */
const publishing = '/publications'

/** Answers ProgramExternalConnectivity. */
export async function publishCall(context: DriverContext, body: unknown): Promise<object> {
  const call = 'ProgramExternalConnectivity'
  const request = readRequest(call, requests.external, body)
  const wanted = readPortMap(request.Options)
  await context.turns.take(request.EndpointID, () => {
    const endpoint = requireEndpoint(context.store, request.NetworkID, request.EndpointID)
    return publishPorts(context, endpoint, wanted)
  })
  return {}
}

/** Publishes these ports of an endpoint and no others, within the endpoint's turn. */
export async function publishPorts(
  context: DriverContext,
  endpoint: Endpoint,
  wanted: readonly PortRequest[],
): Promise<void> {
  const { store } = context
  if (wanted.length === 0 && endpoint.publications.length === 0) return
  // One at a time chooses, so that two do not choose the same port.
  const { revision } = await context.turns.take(publishing, async () => {
    const chosen = await choosePublications(store, endpoint, wanted)
    return store.transact((draft) => publish(draft, endpoint.id, chosen))
  })
  try {
    await settle(context, revision)
  } catch (error) {
    await withdraw(context, endpoint.id, endpoint.publications)
    throw error
  }
}

/** Answers RevokeExternalConnectivity. */
export async function revokeCall(context: DriverContext, body: unknown): Promise<object> {
  const call = 'RevokeExternalConnectivity'
  const { EndpointID } = readRequest(call, requests.endpointRef, body)
  await context.turns.take(EndpointID, () => withdraw(context, EndpointID, []))
  return {}
}

async function withdraw(
  { store }: DriverContext,
  id: string,
  rest: readonly Publication[],
): Promise<void> {
  const endpoint = store.get('endpoint', id)
  if (endpoint === undefined || endpoint.publications.length + rest.length === 0) return
  await store.transact((draft) => publish(draft, id, rest))
}
