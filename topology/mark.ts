/** The marks of an object: what it refers to and what it claims for itself. */

import { canonicalAddress } from './block.ts'
import type { BridgePort, Kind, RouterPort } from './model.ts'
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
    case 'bridge':
    case 'router':
    case 'pool':
      return []
    case 'port':
      return [
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
    case 'bridge':
    case 'router':
      if (value.name === undefined) return []
      return [
        {
          mark: `name ${kind} ${value.name}`,
          problem: `the name ${value.name} is taken; choose another name`,
        },
      ]
    case 'binding':
    case 'uplink':
      return [
        {
          mark: `interface ${value.host} ${value.interface}`,
          problem: `interface ${value.interface} of host ${value.host} is taken; remove that first`,
        },
      ]
    case 'port':
      return value.kind === 'bridge' ? stationClaims(value) : []
    case 'host':
    case 'route':
    case 'pool':
    case 'address':
    case 'network':
    case 'endpoint':
      return []
  }
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

function optional(field: string, kind: Kind, id: string | undefined): readonly Reference[] {
  return id === undefined ? [] : [{ field, kind, id }]
}
