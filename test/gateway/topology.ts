/** Topologies as the driver makes them, in few words. */
import { openMemoryStore } from '../../topology/memory.ts'
import type { Network, Publication, Vip } from '../../topology/model.ts'
import type { Draft, Store } from '../../topology/store.ts'

export const host = 'host1'

/** A store that knows this host, with the networks `work` puts into it. */
export async function openTopology(work: (draft: Draft) => void = () => undefined): Promise<Store> {
  const store = await openMemoryStore()
  await store.transact((draft) => {
    draft.put('host', { id: host, name: 'one' })
    work(draft)
  })
  return store
}

/** A network on a router of that name; the router is made when it is not there. */
export function putNetwork(
  draft: Draft,
  id: string,
  router: string,
  subnet: string,
  more: Partial<Network> = {},
): void {
  const gateway = subnet.replace(/\.0\/(\d+)$/, '.1/$1')
  if (draft.get('router', router) === undefined)
    draft.put('router', { id: router, name: router, adminUp: true })
  draft.put('bridge', { id, adminUp: true })
  const peers = [`${id}:bridge`, `${id}:router`] as const
  draft.put('port', { id: peers[0], kind: 'bridge', bridge: id, adminUp: true, peer: peers[1] })
  draft.put('port', {
    id: peers[1],
    kind: 'router',
    router,
    adminUp: true,
    peer: peers[0],
    mac: '02:00:00:00:01:01',
    addresses: [gateway],
  })
  draft.put('network', {
    id,
    bridge: id,
    ownsBridge: true,
    router,
    routerPort: peers[1],
    subnets: [{ subnet, gateway }],
    subnets6: [],
    internal: false,
    gatewayMode: 'virtual',
    mtu: 1500,
    options: {},
    ...more,
  })
}

/** Removes what `putNetwork` put, except the router. */
export function deleteNetwork(draft: Draft, id: string): void {
  draft.delete('network', id)
  draft.delete('port', `${id}:bridge`)
  draft.delete('port', `${id}:router`)
  draft.delete('bridge', id)
}

/** An endpoint with an address and published ports, as far as the gateway reads it. */
export function putEndpoint(
  draft: Draft,
  id: string,
  network: string,
  address: string,
  publications: readonly Publication[],
): void {
  draft.put('endpoint', {
    id,
    network,
    host,
    mac: '02:00:00:00:02:01',
    address,
    publications: [...publications],
  })
}

/** `tcp 127.0.0.1:8080 80`, or without an address `tcp 8080 80`. */
export function publish(text: string): Publication {
  const match = /^(tcp|udp|sctp) (?:([0-9.:a-f]*):)?(\d+) (\d+)$/.exec(text)
  const protocol = match?.[1] === 'udp' ? 'udp' : match?.[1] === 'sctp' ? 'sctp' : 'tcp'
  return {
    protocol,
    hostAddress: match?.[2] ?? '',
    hostPort: Number(match?.[3]),
    port: Number(match?.[4]),
  }
}

/** A VIP of a router's load balancer, published as said. */
export function putVip(draft: Draft, router: string, published: Vip['published']): void {
  const loadBalancer = 'lb'
  draft.put('loadBalancer', { id: loadBalancer, router, adminUp: true })
  draft.put('balancerPool', { id: 'web', loadBalancer, adminUp: true })
  draft.put('vip', {
    ...{ id: 'web:tcp', loadBalancer, pool: 'web', address: '10.1.0.9', protocol: 'tcp', port: 0 },
    ...{ persistence: 'none', adminUp: true, published },
  })
}
