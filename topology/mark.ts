/** The marks of an object: what it refers to and what it claims for itself. */

import { listenClaim, routerClaims, serverClaim } from './balance-claim.ts'
import { canonicalAddress } from './block.ts'
import type { BridgePort, Condition, Kind, RouterPort, Rule } from './model.ts'
import type { Entry } from './objects.ts'

/** A field that names another object. */
export interface Reference {
  readonly field: string
  readonly kind: Kind
  readonly id: string
}

/** Something only one object may have; `problem` says what to do when two want it. */
export interface Claim {
  readonly mark: string
  readonly problem: string
}

/** The mark of everything that refers to object `id` of `kind`. */
export function referenceMark(kind: Kind, id: string): string {
  return `reference ${kind}/${id}`
}

/** The mark of the station with this MAC or address on a bridge. */
export function stationMark(bridge: string, macOrAddress: string): string {
  return `station ${bridge} ${macOrAddress}`
}

/** The mark of router ports with this MAC or address, on whatever link. */
export function routerPortMark(macOrAddress: string): string {
  return `router port ${macOrAddress}`
}

/** The mark of the port that tunnels name by this key. */
export function tunnelKeyMark(key: number): string {
  return `tunnel key ${key}`
}

/** The mark of the pools of one address space. */
export function spaceMark(space: string): string {
  return `space ${space}`
}

/** Everything an object is indexed by, each once. */
export function marksOf(entry: Entry): ReadonlySet<string> {
  return new Set([
    ...referencesOf(entry).map(({ kind, id }) => referenceMark(kind, id)),
    ...claimsOf(entry).map(({ mark }) => mark),
    ...plainMarksOf(entry),
  ])
}

/** The objects that must stand for this one to stand. */
export function referencesOf({ kind, id, value }: Entry): readonly Reference[] {
  switch (kind) {
    case 'host':
    case 'pool':
    case 'chain':
    case 'portGroup':
    case 'addressGroup':
    case 'qosPolicy':
    case 'tunnelZone':
    case 'healthMonitor':
      return []
    case 'loadBalancer':
      return optional('router', 'router', value.router)
    case 'balancerPool':
      return [
        named('loadBalancer', 'loadBalancer', value.loadBalancer),
        ...optional('healthMonitor', 'healthMonitor', value.healthMonitor),
      ]
    case 'bgpPeer':
    case 'bgpNetwork':
      return [named('router', 'router', value.router)]
    case 'poolMember':
      return [named('pool', 'balancerPool', value.pool)]
    case 'vip':
      return [
        named('loadBalancer', 'loadBalancer', value.loadBalancer),
        named('pool', 'balancerPool', value.pool),
      ]
    case 'zoneMember':
      return [named('zone', 'tunnelZone', value.zone), named('host', 'host', value.host)]
    case 'hostAlive':
      return [named('id', 'host', id)]
    case 'portActive':
      return [named('id', 'port', id), named('host', 'host', value.host)]
    case 'learnedMac':
      return [named('bridge', 'bridge', value.bridge), ...learnedReferences(value)]
    case 'learnedNeighbor':
    case 'learnedRoute':
      return [named('router', 'router', value.router), ...learnedReferences(value)]
    case 'bridge':
      return [...filterReferences(value), ...optional('qosPolicy', 'qosPolicy', value.qosPolicy)]
    case 'router':
      return filterReferences(value)
    case 'dhcpSubnet':
      return [{ field: 'bridge', kind: 'bridge', id: value.bridge }]
    case 'dhcpHost':
      return [{ field: 'subnet', kind: 'dhcpSubnet', id: value.subnet }]
    case 'traceRequest':
      return [
        { field: 'device', kind: value.device.kind, id: value.device.id },
        ...conditionReferences(value.condition),
      ]
    case 'mirror':
      return [
        ...(value.device ? [named('device', value.device.kind, value.device.id)] : []),
        named('toPort', 'port', value.toPort),
        ...(value.conditions ?? []).flatMap((condition) => conditionReferences(condition)),
      ]
    case 'rule':
      return ruleReferences(value)
    case 'port':
      return [
        ...filterReferences(value),
        ...many('portGroups', 'portGroup', value.portGroups),
        ...optional('qosPolicy', 'qosPolicy', value.qosPolicy),
        value.kind === 'bridge'
          ? { field: 'bridge', kind: 'bridge', id: value.bridge }
          : { field: 'router', kind: 'router', id: value.router },
        ...optional('peer', 'port', value.peer),
      ]
    case 'route':
      return [
        { field: 'router', kind: 'router', id: value.router },
        ...optional('port', 'port', value.port),
      ]
    case 'binding':
      return [
        { field: 'id', kind: 'port', id },
        { field: 'host', kind: 'host', id: value.host },
      ]
    case 'address':
      return [{ field: 'pool', kind: 'pool', id: value.pool }]
    case 'network':
      return [
        { field: 'bridge', kind: 'bridge', id: value.bridge },
        ...optional('router', 'router', value.router),
        ...optional('provider', 'router', value.provider),
        ...optional('routerPort', 'port', value.routerPort),
      ]
    case 'endpoint':
      return [
        { field: 'network', kind: 'network', id: value.network },
        { field: 'host', kind: 'host', id: value.host },
      ]
    case 'uplink':
      return [
        { field: 'id', kind: 'port', id },
        { field: 'router', kind: 'router', id: value.router },
        { field: 'host', kind: 'host', id: value.host },
      ]
  }
}

/** What no other object may claim as well. */
export function claimsOf({ kind, value }: Entry): readonly Claim[] {
  switch (kind) {
    case 'loadBalancer':
      return [...nameClaims(kind, value.name), ...routerClaims(value)]
    case 'vip':
      return [...nameClaims(kind, value.name), listenClaim(value)]
    case 'bgpPeer': {
      const problem = `router ${value.router} has peer ${value.address}; change that one`
      return [{ mark: `bgp peer ${value.router} ${value.address}`, problem }]
    }
    case 'bgpNetwork': {
      const problem = `router ${value.router} advertises ${value.prefix} already`
      return [{ mark: `bgp network ${value.router} ${value.prefix}`, problem }]
    }
    case 'poolMember':
      return [serverClaim(value)]
    case 'balancerPool':
    case 'healthMonitor':
    case 'bridge':
    case 'router':
    case 'chain':
    case 'portGroup':
    case 'addressGroup':
    case 'qosPolicy':
    case 'traceRequest':
    case 'mirror':
    case 'tunnelZone':
      return nameClaims(kind, value.name)
    case 'binding':
      return [...interfaceClaims(value), ...keyClaims(value)]
    case 'uplink':
      return interfaceClaims(value)
    case 'zoneMember':
      return [
        {
          mark: `zone address ${value.zone} ${canonicalAddress(value.address)}`,
          problem: `address ${value.address} is another host's in zone ${value.zone}; use its own`,
        },
      ]
    case 'port':
      return value.kind === 'bridge' ? stationClaims(value) : []
    case 'rule':
      return [
        {
          mark: `rule ${value.chain} ${value.position}`,
          problem: `position ${value.position} of chain ${value.chain} is taken; choose another`,
        },
      ]
    case 'dhcpHost':
      return [value.mac, value.address].map((one) => ({
        mark: `dhcp ${value.subnet} ${one}`,
        problem: `${one} is taken in dhcpSubnet ${value.subnet}; choose another one`,
      }))
    case 'host':
    case 'hostAlive':
    case 'portActive':
    case 'learnedMac':
    case 'learnedNeighbor':
    case 'learnedRoute':
    case 'route':
    case 'pool':
    case 'address':
    case 'network':
    case 'endpoint':
    case 'dhcpSubnet':
      return []
  }
}

function nameClaims(kind: Kind, name: string | undefined): readonly Claim[] {
  if (name === undefined) return []
  const problem = `the name ${name} is taken; choose another name`
  return [{ mark: `name ${kind} ${name}`, problem }]
}

function interfaceClaims(bound: { host: string; interface: string }): readonly Claim[] {
  const mark = `interface ${bound.host} ${bound.interface}`
  const problem = `interface ${bound.interface} of host ${bound.host} is taken; remove that first`
  return [{ mark, problem }]
}

function keyClaims({ tunnelKey }: { tunnelKey?: number | undefined }): readonly Claim[] {
  if (tunnelKey === undefined) return []
  const problem = `tunnel key ${tunnelKey} is another port's; leave it out to get a free one`
  return [{ mark: tunnelKeyMark(tunnelKey), problem }]
}

/** The MACs and addresses of the stations behind a bridge port. */
export function stationNamesOf({ stations }: BridgePort): readonly string[] {
  return (stations ?? []).flatMap(({ mac, addresses, addresses6 }) => [
    mac,
    ...[...addresses, ...(addresses6 ?? [])].map(canonicalAddress),
  ])
}

/** The router's own addresses on a port, without prefix lengths. */
export function ownAddressesOf({ addresses, addresses6 }: RouterPort): readonly string[] {
  return [...addresses, ...(addresses6 ?? [])].map((cidr) =>
    canonicalAddress(cidr.slice(0, cidr.indexOf('/'))),
  )
}

function plainMarksOf({ kind, value }: Entry): readonly string[] {
  if (kind === 'pool') return [spaceMark(value.space)]
  if (kind !== 'port' || value.kind !== 'router') return []
  return [value.mac, ...ownAddressesOf(value)].map(routerPortMark)
}

function stationClaims(port: BridgePort): readonly Claim[] {
  return stationNamesOf(port).map((name) => ({
    mark: stationMark(port.bridge, name),
    problem: `${name} is taken on bridge ${port.bridge}; choose another one`,
  }))
}

function learnedReferences(fact: { port: string; host: string }): readonly Reference[] {
  return [named('port', 'port', fact.port), named('host', 'host', fact.host)]
}

function named(field: string, kind: Kind, id: string): Reference {
  return { field, kind, id }
}

function optional(field: string, kind: Kind, id: string | undefined): readonly Reference[] {
  return id === undefined ? [] : [{ field, kind, id }]
}

function many(field: string, kind: Kind, ids: readonly string[] = []): readonly Reference[] {
  return ids.map((id, at) => ({ field: `${field}.${at}`, kind, id }))
}

function filterReferences(device: {
  readonly inboundChain?: string | undefined
  readonly outboundChain?: string | undefined
}): readonly Reference[] {
  return [
    ...optional('inboundChain', 'chain', device.inboundChain),
    ...optional('outboundChain', 'chain', device.outboundChain),
  ]
}

function ruleReferences({ chain, condition, action }: Rule): readonly Reference[] {
  return [
    { field: 'chain', kind: 'chain', id: chain },
    ...optional('action.chain', 'chain', action.kind === 'jump' ? action.chain : undefined),
    ...optional('action.port', 'port', action.kind === 'redirect' ? action.port : undefined),
    ...conditionReferences(condition),
  ]
}

function conditionReferences(condition: Condition = {}): readonly Reference[] {
  const { traversed } = condition
  return [
    ...many('condition.inPorts.is', 'port', condition.inPorts?.is),
    ...many('condition.outPorts.is', 'port', condition.outPorts?.is),
    ...optional('condition.portGroup', 'portGroup', condition.portGroup?.is),
    ...optional('condition.inPortGroup', 'portGroup', condition.inPortGroup?.is),
    ...optional('condition.outPortGroup', 'portGroup', condition.outPortGroup?.is),
    ...optional('condition.srcGroup', 'addressGroup', condition.srcGroup?.is),
    ...optional('condition.dstGroup', 'addressGroup', condition.dstGroup?.is),
    ...(traversed === undefined
      ? []
      : optional('condition.traversed', traversed.is.kind, traversed.is.id)),
  ]
}
