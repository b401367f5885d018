/** Rules about routes. */
import {
  contains,
  formatCidr,
  networkOf,
  parseCidr,
  parseIp,
  parseIpv6,
} from '../packet/address.ts'
import {
  contains6,
  formatCidr6,
  isLinkLocal6,
  networkOf6,
  parseCidr6,
  wordsOf6,
} from '../packet/address6.ts'
import { canonicalAddress } from './block.ts'
import { TopologyError } from './error.ts'
import type { Route, RouterPort } from './model.ts'
import type { Indexed } from './objects.ts'

/** @throws TopologyError for the first rule that the route breaks. */
export function checkRoute(route: Route, outcome: Indexed): void {
  checkFamily(route)
  for (const field of ['src', 'dst'] as const) checkHostBits(route, field)
  if (route.action === 'port') checkNextHop(route, outcome)
  else if (route.port !== undefined || route.gateway !== undefined) {
    const message = `route ${route.id}: ${route.action} takes no port or gateway; leave them out`
    throw invalid(message)
  }
}

function checkFamily({ id, src, dst, gateway }: Route): void {
  const isIpv6 = parseCidr(dst) === undefined
  if ((parseCidr(src) === undefined) !== isIpv6) {
    const example = isIpv6 ? '::/0' : '0.0.0.0/0'
    throw invalid(`route ${id}: src: ${src} is of another family than dst ${dst}; use ${example}`)
  }
  if (gateway === undefined || (parseIp(gateway) === undefined) === isIpv6) return
  const family = isIpv6 ? 'IPv6' : 'IPv4'
  throw invalid(`route ${id}: gateway: ${gateway} is no ${family} address as dst ${dst}; name one`)
}

function checkHostBits(route: Route, field: 'src' | 'dst'): void {
  const text = route[field]
  const cidr = parseCidr(text)
  const cidr6 = parseCidr6(text)
  let network: string | undefined
  if (cidr !== undefined && cidr.address !== networkOf(cidr))
    network = formatCidr({ ...cidr, address: networkOf(cidr) })
  if (cidr6 !== undefined && cidr6.address !== networkOf6(cidr6))
    network = formatCidr6({ ...cidr6, address: networkOf6(cidr6) })
  if (network !== undefined)
    throw invalid(`route ${route.id}: ${field}: ${text} has host bits; use ${network}`)
}

function checkNextHop({ id, router, port: portId, gateway }: Route, outcome: Indexed): void {
  if (portId === undefined) {
    throw invalid(`route ${id}: action port needs a port; name one of router ${router}`)
  }
  const port = routerPortOf(portId, router, outcome)
  if (port === undefined) {
    throw invalid(`route ${id}: port ${portId} is not of router ${router}; name one that is`)
  }
  if (gateway === undefined || isOnLink(port, gateway)) return
  const networks = [...port.addresses, ...(port.addresses6 ?? [])].join(', ') || 'none'
  throw invalid(
    `route ${id}: gateway ${gateway} is not on port ${portId} (${networks}); name a neighbour`,
  )
}

/** A gateway is another station of one of the port's networks, or a static neighbour. */
function isOnLink(port: RouterPort, gateway: string): boolean {
  const address = parseIp(gateway)
  if (address === undefined) return isOnLink6(port, gateway)
  if (port.neighbors?.some((neighbor) => neighbor.address === gateway)) return true
  const cidrs = port.addresses.flatMap((text) => parseCidr(text) ?? [])
  if (cidrs.some((cidr) => cidr.address === address)) return false
  return cidrs.some((cidr) => contains(cidr, address))
}

/** Link-local addresses are on every link. */
function isOnLink6(port: RouterPort, gateway: string): boolean {
  const address = parseIpv6(gateway)
  if (address === undefined || port.addresses6 === undefined) return false
  const canonical = canonicalAddress(gateway)
  if (port.neighbors6?.some((one) => canonicalAddress(one.address) === canonical)) return true
  const cidrs = port.addresses6.flatMap((text) => parseCidr6(text) ?? [])
  if (cidrs.some((cidr) => cidr.address === address)) return false
  if (isLinkLocal6(wordsOf6(address)[0])) return true
  return cidrs.some((cidr) => contains6(cidr, address))
}

/** The port if it is one of the router's. */
export function routerPortOf(id: string, router: string, outcome: Indexed): RouterPort | undefined {
  const port = outcome.get('port', id)
  return port?.kind === 'router' && port.router === router ? port : undefined
}

function invalid(message: string): TopologyError {
  return new TopologyError('INVALID', message)
}
