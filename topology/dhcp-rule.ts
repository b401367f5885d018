/** Rules about what DHCP gives out: what a client could not use is refused when it is written. */
import {
  broadcastOf,
  type Cidr,
  contains,
  formatCidr,
  networkOf,
  parseCidr,
  parseIp,
} from '../packet/address.ts'
import { MalformedError } from '../packet/bytes.ts'
import { encodeNamedOption } from '../packet/dhcp-named-option.ts'
import { TopologyError } from './error.ts'
import type { DhcpHost, DhcpSubnet } from './model.ts'
import type { Indexed } from './objects.ts'

const limits = {
  /** Bytes of a host's extra options: with the subnet's own they fit into one message. */
  optionBytes: 600,
} as const

/** @throws TopologyError for the first thing about the subnet that makes no sense. */
export function checkDhcpSubnet({ id, subnet, gateway, server, routes }: DhcpSubnet): void {
  const cidr = parseCidr(subnet)
  if (cidr === undefined) return
  const name = `dhcpSubnet ${id}`
  if (cidr.address !== networkOf(cidr))
    throw invalid(`${name}: subnet: ${subnet} has host bits; use ${networkText(cidr)}`)
  if (gateway === undefined && server === undefined)
    throw invalid(`${name}: clients need a server's address; give a gateway or a server`)
  for (const [field, text] of [
    ['gateway', gateway],
    ['server', server],
  ] as const)
    if (text !== undefined && !isHostOf(cidr, text))
      throw invalid(`${name}: ${field}: ${text} is no host of ${subnet}; choose one that is`)
  for (const [at, { dst }] of (routes ?? []).entries()) {
    const network = parseCidr(dst)
    if (network === undefined || network.address === networkOf(network)) continue
    throw invalid(`${name}: routes.${at}: ${dst} has host bits; use ${networkText(network)}`)
  }
}

/** @throws TopologyError for the first thing about the host that makes no sense. */
export function checkDhcpHost(host: DhcpHost, outcome: Indexed): void {
  const { id, address } = host
  const subnet = outcome.get('dhcpSubnet', host.subnet)
  const cidr = subnet === undefined ? undefined : parseCidr(subnet.subnet)
  if (subnet !== undefined && cidr !== undefined) {
    if (!isHostOf(cidr, address)) {
      const problem = `${address} is no host of ${subnet.subnet}; choose one that is`
      throw invalid(`dhcpHost ${id}: address: ${problem}`)
    }
    for (const field of ['gateway', 'server'] as const)
      if (subnet[field] === address)
        throw invalid(`dhcpHost ${id}: address: ${address} is the ${field}'s; choose another one`)
  }
  checkOptions(host)
}

function checkOptions({ id, options = [] }: DhcpHost): void {
  const codes = new Set<number>()
  let size = 0
  for (const [at, { option, value }] of options.entries()) {
    const field = `dhcpHost ${id}: options.${at}`
    try {
      const encoded = encodeNamedOption(option, value)
      size += encoded.value.length + 2
      if (codes.has(encoded.code)) throw invalid(`${field}: option ${option} stands twice`)
      codes.add(encoded.code)
    } catch (error) {
      if (!(error instanceof MalformedError)) throw error
      throw new TopologyError('INVALID', `${field}: ${error.message}`, { cause: error })
    }
  }
  if (size > limits.optionBytes)
    throw invalid(`dhcpHost ${id}: options: over ${limits.optionBytes} bytes; shorten them`)
}

/** Of small subnets all addresses are hosts' (RFC 3021). */
function isHostOf(cidr: Cidr, text: string): boolean {
  const address = parseIp(text)
  if (address === undefined || !contains(cidr, address)) return false
  if (cidr.prefixLength >= 31) return true
  return address !== networkOf(cidr) && address !== broadcastOf(cidr)
}

function networkText({ address, prefixLength }: Cidr): string {
  return formatCidr({ address: networkOf({ address, prefixLength }), prefixLength })
}

function invalid(message: string): TopologyError {
  return new TopologyError('INVALID', message)
}
