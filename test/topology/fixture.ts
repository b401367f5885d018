/** Objects that topology tests start from. */
import type { BridgePort, Endpoint, Network, Route, RouterPort } from '../../topology/model.ts'
import type { Draft } from '../../topology/store.ts'

export function bridgePort(id: string, over: Partial<BridgePort> = {}): BridgePort {
  return { id, kind: 'bridge', bridge: 'br', adminUp: true, ...over }
}

export function routerPort(id: string, over: Partial<RouterPort> = {}): RouterPort {
  return {
    id,
    kind: 'router',
    router: 'ro',
    adminUp: true,
    mac: '02:00:00:00:00:01',
    addresses: ['10.1.0.1/24'],
    ...over,
  }
}

export function route(id: string, over: Partial<Route> = {}): Route {
  return {
    id,
    router: 'ro',
    src: '0.0.0.0/0',
    dst: '10.9.0.0/16',
    action: 'port',
    port: 'gw',
    weight: 0,
    ...over,
  }
}

export function network(id: string, over: Partial<Network> = {}): Network {
  return {
    id,
    bridge: 'br',
    ownsBridge: true,
    router: 'ro',
    routerPort: 'gw',
    subnets: [{ subnet: '10.1.0.0/24', gateway: '10.1.0.1/24' }],
    subnets6: [],
    internal: false,
    gatewayMode: 'virtual',
    mtu: 1500,
    options: {},
    ...over,
  }
}

export function endpoint(id: string, over: Partial<Endpoint> = {}): Endpoint {
  return { id, network: 'net', host: 'h1', mac: '02:00:00:00:00:0a', publications: [], ...over }
}

/** A network `net` on bridge `br`, its gateway on router `ro`, and one container's port `web`. */
export function putNetwork(draft: Draft): void {
  draft.put('host', { id: 'h1', name: 'one' })
  draft.put('bridge', { id: 'br', name: 'red', adminUp: true })
  draft.put('router', { id: 'ro', name: 'main', adminUp: true })
  draft.put('port', bridgePort('up', { peer: 'gw' }))
  draft.put('port', routerPort('gw', { peer: 'up' }))
  draft.put('network', network('net'))
  draft.put('port', bridgePort('web', { stations: [station(10)] }))
  draft.put('binding', { id: 'web', host: 'h1', interface: 'mn00000000001' })
  draft.put('endpoint', endpoint('web'))
}

export function station(number: number): NonNullable<BridgePort['stations']>[number] {
  const hex = number.toString(16).padStart(2, '0')
  return { mac: `02:00:00:00:00:${hex}`, addresses: [`10.1.0.${number}`] }
}

export const uplink = {
  id: 'gw',
  router: 'ro',
  host: 'h1',
  interface: 'mnup0',
  hostAddress: '169.254.1.1/30',
  hostMac: '02:00:00:00:00:02',
}

export function putSecondRouter(draft: Draft): void {
  draft.put('router', { id: 'r2', name: 'second', adminUp: true })
}
