/**
 * A world in a few declarations: stations on bridges or at router ports, chains of rules. Becomes
 * network namespaces with veths, and one transaction of the topology that takes them in.
 */
import type { Condition, RuleAction } from '../../topology/model.ts'
import type { Named, Stage } from './stage.ts'

interface Filter {
  /** Names of chains: from the station or link into the device, and out of the device. */
  readonly inbound?: string
  readonly outbound?: string
}

export interface WorldBridge {
  readonly mtu?: number
  /** The router on it, and the router's address there with its prefix length. */
  readonly router?: string
  readonly address?: string
  readonly address6?: string
}

/** A namespace whose eth0 the datapath has; its default route is the router's address. */
export interface WorldStation extends Filter {
  readonly address: string
  readonly mtu?: number
  readonly gateway?: string
  readonly address6?: string
  readonly gateway6?: string
  /** Where its other end is: a port of this bridge, */
  readonly bridge?: string
  /** an access port of this VLAN if one is given; */
  readonly vlan?: number
  /** or of this router, with this address. */
  readonly router?: string
  readonly routerAddress?: string
  readonly routerAddress6?: string
}

export interface WorldRoute {
  readonly router: string
  readonly dst: string
  /** The station that the port belongs to, and the next hop. */
  readonly station: string
  readonly gateway: string
}

export interface WorldRule {
  readonly condition?: Condition
  readonly action: RuleAction
}

export interface WorldSpec {
  readonly bridges: Readonly<Record<string, WorldBridge>>
  readonly stations: Readonly<Record<string, WorldStation>>
  readonly routes?: readonly WorldRoute[]
  readonly chains?: Readonly<Record<string, readonly WorldRule[]>>
}

interface Operation {
  readonly op: 'put'
  readonly kind: string
  readonly id: string
  readonly value: Named
}

/** Makes the namespaces, starts the agent and gives it the topology. */
export async function furnishWorld(stage: Stage, spec: WorldSpec): Promise<void> {
  await stage.sh('mkdir -p /run/netns')
  for (const [name, station] of Object.entries(spec.stations))
    await addStation(stage, name, station)
  await stage.startAgent()
  const hosts = await stage.ask('GET', '/v1/host')
  const [host] = Array.isArray(hosts) ? hosts : []
  const answer = await stage.ask('POST', '/v1/transaction', {
    operations: topologyOf(spec, String(host?.id)),
  })
  const failed = typeof answer === 'object' && answer !== null && 'code' in answer
  if (failed) throw new WorldError(`the world is refused: ${JSON.stringify(answer)}`)
}

/** A declaration that the agent does not take, or a script of it that fails. */
export class WorldError extends Error {
  override readonly name = 'WorldError'
}

async function addStation(stage: Stage, name: string, station: WorldStation): Promise<void> {
  const { address, gateway, address6, gateway6, mtu = 1500 } = station
  const script = [
    'set -e',
    `ip netns add ${name}`,
    `ip link add v${name} mtu ${mtu} type veth peer name eth0 mtu ${mtu} netns ${name}`,
    `ip link set v${name} up`,
    `ip -n ${name} link set lo up`,
    `ip -n ${name} addr add ${address} dev eth0`,
    `ip -n ${name} link set eth0 up`,
    ...(gateway === undefined ? [] : [`ip -n ${name} route add default via ${gateway}`]),
    ...(address6 === undefined ? [] : [`ip -n ${name} addr add ${address6} dev eth0 nodad`]),
    ...(gateway6 === undefined ? [] : [`ip -n ${name} route add default via ${gateway6}`]),
  ].join('\n')
  const said = await stage.sh(script)
  if (said !== '') throw new WorldError(`station ${name}: ${said}`)
}

function topologyOf(spec: WorldSpec, host: string): readonly Operation[] {
  const operations: Operation[] = []
  const put = (kind: string, value: Named): void => {
    operations.push({ op: 'put', kind, id: value.id, value })
  }
  const routers = [...Object.values(spec.bridges), ...Object.values(spec.stations)]
    .map(({ router }) => router)
    .filter((router) => router !== undefined)
  for (const id of new Set(routers)) put('router', { id, adminUp: true })
  for (const [chain, rules] of Object.entries(spec.chains ?? {})) {
    put('chain', { id: chain })
    for (const [position, rule] of rules.entries())
      put('rule', { id: `${chain}-${position}`, chain, position, ...rule })
  }
  for (const [index, [id, bridge]] of Object.entries(spec.bridges).entries())
    putBridge(put, id, bridge, index)
  for (const [index, [id, station]] of Object.entries(spec.stations).entries())
    putStation(put, id, station, { host, index })
  for (const { router, dst, station, gateway } of spec.routes ?? []) {
    const src = dst.includes(':') ? '::/0' : '0.0.0.0/0'
    const route = { id: `to-${dst.replace(/\W/g, '-')}`, router, src, dst }
    put('route', { ...route, action: 'port', port: station, gateway, weight: 100 })
  }
  return operations
}

type Put = (kind: string, value: Named) => void

function putBridge(put: Put, id: string, bridge: WorldBridge, index: number): void {
  const { mtu = 1500, router, address, address6 } = bridge
  put('bridge', { id, adminUp: true, mtu })
  if (router === undefined) return
  const inner = { id: `${id}-${router}`, kind: 'bridge', bridge: id, adminUp: true }
  const outer = { id: `${router}-${id}`, kind: 'router', router, adminUp: true }
  put('port', { ...inner, peer: outer.id })
  const six = address6 === undefined ? {} : { addresses6: [address6] }
  const own = { mac: mac(0xe0, index), addresses: [address], ...six }
  put('port', { ...outer, peer: inner.id, ...own })
}

function putStation(
  put: Put,
  id: string,
  station: WorldStation,
  { host, index }: { readonly host: string; readonly index: number },
): void {
  const { bridge, vlan, router, routerAddress, routerAddress6, inbound, outbound } = station
  const port = {
    id,
    adminUp: true,
    ...(inbound === undefined ? {} : { inboundChain: inbound }),
    ...(outbound === undefined ? {} : { outboundChain: outbound }),
  }
  if (bridge !== undefined)
    put('port', { ...port, kind: 'bridge', bridge, ...(vlan === undefined ? {} : { vlan }) })
  else {
    const six = routerAddress6 === undefined ? {} : { addresses6: [routerAddress6] }
    const own = { mac: mac(0xf0, index), addresses: [routerAddress], ...six }
    put('port', { ...port, kind: 'router', router, ...own })
  }
  put('binding', { id, host, interface: `v${id}` })
}

function mac(kind: number, index: number): string {
  return `02:00:00:00:${kind.toString(16)}:${index.toString(16).padStart(2, '0')}`
}
