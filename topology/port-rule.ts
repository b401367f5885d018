/** Rules about ports: their links, stations and addresses. */
import {
  broadcastOf,
  type Cidr,
  formatCidr,
  formatIp,
  networkOf,
  overlaps,
  parseCidr,
} from '../packet/address.ts'
import { TopologyError } from './error.ts'
import {
  ownAddressesOf,
  referenceMark,
  routerPortMark,
  stationMark,
  stationNamesOf,
} from './mark.ts'
import type { BridgePort, Port, RouterPort } from './model.ts'
import type { Indexed } from './objects.ts'
import { checkAddresses6, checkNoOverlap6 } from './port6-rule.ts'

/** @throws TopologyError for the first rule that the port breaks. */
export function checkPort(port: Port, outcome: Indexed): void {
  checkPeer(port, outcome)
  switch (port.kind) {
    case 'bridge':
      checkStations(port)
      checkStationsAreNoRouter(port, outcome)
      break
    case 'router':
      checkAddresses(port)
      checkAddresses6(port)
      checkNoOverlap(port, outcome)
      checkNoOverlap6(port, outcome)
      checkRouterIsNoStation(port, outcome)
      break
  }
}

function checkPeer(port: Port, outcome: Indexed): void {
  if (port.peer === undefined) return
  if (port.peer === port.id) {
    throw invalid(`port ${port.id}: peer: a port cannot be linked to itself; name another port`)
  }
  const peer = outcome.get('port', port.peer)
  if (peer === undefined) return
  if (peer.peer !== port.id) {
    const message = `port ${port.id}: peer: port ${peer.id} does not name it; link both at once`
    throw invalid(message)
  }
  if (outcome.get('binding', port.id) !== undefined) {
    const message = `port ${port.id}: peer: the port is bound to an interface; unbind it first`
    throw invalid(message)
  }
  if (port.kind !== 'bridge' || peer.kind !== 'bridge' || port.bridge !== peer.bridge) return
  throw invalid(`port ${port.id}: peer: port ${peer.id} is of the same bridge; link another device`)
}

function checkStations(port: BridgePort): void {
  const names = new Set<string>()
  for (const name of stationNamesOf(port)) {
    if (names.has(name))
      throw invalid(`port ${port.id}: stations: ${name} stands twice; once will do`)
    names.add(name)
  }
}

/** A station must not take the MAC or address of a router on the same bridge. */
function checkStationsAreNoRouter(port: BridgePort, outcome: Indexed): void {
  for (const name of stationNamesOf(port)) {
    for (const { kind, id, value } of outcome.holders(routerPortMark(name))) {
      if (kind !== 'port' || bridgeBehind(value, outcome) !== port.bridge) continue
      const message = `port ${port.id}: ${name} is router port ${id}'s; choose another one`
      throw new TopologyError('CONFLICT', message)
    }
  }
}

function checkRouterIsNoStation(port: RouterPort, outcome: Indexed): void {
  const bridge = bridgeBehind(port, outcome)
  if (bridge === undefined) return
  for (const name of [port.mac, ...ownAddressesOf(port)]) {
    for (const { id } of outcome.holders(stationMark(bridge, name))) {
      const message = `port ${port.id}: port ${id} of bridge ${bridge} has ${name}; choose another`
      throw new TopologyError('CONFLICT', message)
    }
  }
}

function bridgeBehind({ peer }: Port, outcome: Indexed): string | undefined {
  const other = peer === undefined ? undefined : outcome.get('port', peer)
  return other?.kind === 'bridge' ? other.bridge : undefined
}

/** First and last address of a network are no host's, save on /31 (RFC 1812 section 4.2.2.11). */
function checkAddresses(port: RouterPort): void {
  for (const [index, cidr] of cidrsOf(port).entries()) {
    if (cidr.prefixLength >= 31) continue
    const isNetwork = cidr.address === networkOf(cidr)
    if (!isNetwork && cidr.address !== broadcastOf(cidr)) continue
    const what = isNetwork ? 'the network itself' : 'its broadcast address'
    const example = `${formatIp(networkOf(cidr) + 1)}/${cidr.prefixLength}`
    throw invalid(
      `port ${port.id}: addresses.${index}: that is ${what}; choose a host's such as ${example}`,
    )
  }
}

/** Two links of one router share no address, or it could not tell which link a host is on. */
function checkNoOverlap(port: RouterPort, outcome: Indexed): void {
  const cidrs = cidrsOf(port)
  if (cidrs.length === 0) return
  for (const { kind, id, value } of outcome.holders(referenceMark('router', port.router))) {
    if (kind !== 'port' || value.kind !== 'router' || id === port.id) continue
    for (const other of cidrsOf(value)) {
      if (!cidrs.some((cidr) => overlaps(cidr, other))) continue
      throw new TopologyError(
        'CONFLICT',
        `port ${port.id}: addresses: ${port.addresses.join(', ')} overlaps with ` +
          `${formatCidr(other)} of port ${id} on router ${port.router}; ` +
          'choose another network or another router',
      )
    }
  }
}

function cidrsOf({ addresses }: RouterPort): readonly Cidr[] {
  return addresses.flatMap((text) => parseCidr(text) ?? [])
}

function invalid(message: string): TopologyError {
  return new TopologyError('INVALID', message)
}
