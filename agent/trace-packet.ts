/**
 * A packet to trace, in a form people type: `icmp 10.1.0.2 -> 10.2.0.2`,
 * `tcp 10.1.0.2:40000 -> 10.2.0.2:80`. MAC addresses come from the topology.
 * Anything else (hex bytes, a flow key in Open vSwitch's notation) goes on as it is.
 */
import { contains, parseCidr, parseIp } from '../packet/address.ts'
import type { BridgePort, Port, RouterPort } from '../topology/model.ts'
import type { Reader } from '../topology/store.ts'

/** The packet or port to trace cannot be understood; the message says what can. */
export class TracePacketError extends Error {
  override readonly name = 'TracePacketError'
  readonly code = 'INVALID_TRACE'
}

const protocols: Readonly<Record<string, number>> = { icmp: 1, tcp: 6, udp: 17 }
const form = /^(icmp|tcp|udp) +([0-9.]+)(?::(\d{1,5}))? *-?> *([0-9.]+)(?::(\d{1,5}))?$/

/**
 * The id of the port that `text` names: its id, a prefix of it that only one has, its interface, or
 * the only container of that name in `endpoints`.
 */
export function findTracePort(
  reader: Reader,
  text: string,
  endpoints: readonly { readonly id: string; readonly container: string }[],
): string {
  if (reader.get('port', text) !== undefined) return text
  const named = endpoints.filter(({ container }) => container === text)
  if (named.length === 1 && named[0] !== undefined) return named[0].id
  const bound = reader.list('binding').find((binding) => binding.interface === text)
  if (bound !== undefined) return bound.id
  const matching = reader.list('port').filter(({ id }) => text.length > 3 && id.startsWith(text))
  if (matching.length === 1 && matching[0] !== undefined) return matching[0].id
  const several = matching.length > 1 || named.length > 1
  const problem = several ? 'names several ports' : 'is no port'
  throw new TracePacketError(`${text} ${problem}; midonet status lists ports and interfaces`)
}

/** The packet as a flow key in text, MAC addresses filled in, when it is in the short form. */
export function expandTracePacket(reader: Reader, portId: string, text: string): string {
  const match = form.exec(text.trim())
  if (match === null) return text
  const [, protocol = '', src = '', srcPort = '32768', dst = '', dstPort = '80'] = match
  for (const address of [src, dst])
    if (parseIp(address) === undefined)
      throw new TracePacketError(`${address} is not an IPv4 address`)
  for (const port of [srcPort, dstPort])
    if (Number(port) > 65535) throw new TracePacketError(`${port} is not a port: at most 65535`)
  const { srcMac, dstMac } = macsFor(reader, portId, src, dst)
  const l4 =
    protocol === 'icmp' ? 'icmp(type=8,code=0)' : `${protocol}(src=${srcPort},dst=${dstPort})`
  const ip = `src=${src},dst=${dst},proto=${protocols[protocol]},tos=0,ttl=64,frag=no`
  return `eth(src=${srcMac},dst=${dstMac}),eth_type(0x0800),ipv4(${ip}),${l4}`
}

function macsFor(reader: Reader, portId: string, src: string, dst: string) {
  const port = reader.get('port', portId)
  if (port === undefined) throw new TracePacketError(`${portId} is no port`)
  if (port.kind === 'router') {
    const neighbor = port.neighbors?.find(({ address }) => address === src) ?? port.neighbors?.[0]
    return { srcMac: neighbor?.mac ?? '02:00:00:00:00:01', dstMac: port.mac }
  }
  const onBridge = reader.list('port').filter((other) => isOn(other, port.bridge))
  const srcMac = stationMac([port], src) ?? stationMac(onBridge, src) ?? port.stations?.[0]?.mac
  const gateways = onBridge.map((other) => routerPortBehind(reader, other))
  const sharesLink = gateways.some((gateway) => gateway?.addresses.some((a) => isIn(a, dst)))
  const gateway = gateways.find((candidate) => candidate !== undefined)
  const dstMac =
    stationMac(onBridge, dst) ??
    gateways.find((candidate) => candidate?.addresses.some((a) => a.split('/')[0] === dst))?.mac ??
    (sharesLink ? undefined : gateway?.mac)
  if (srcMac === undefined || dstMac === undefined) {
    const address = srcMac === undefined ? src : dst
    throw new TracePacketError(
      `no MAC address is known for ${address}; give the packet as a flow key: eth(src=…,dst=…),…`,
    )
  }
  return { srcMac, dstMac }
}

function isOn(port: Port, bridge: string): port is BridgePort {
  return port.kind === 'bridge' && port.bridge === bridge
}

function stationMac(ports: readonly BridgePort[], address: string): string | undefined {
  for (const { stations } of ports)
    for (const station of stations ?? [])
      if (station.addresses.includes(address)) return station.mac
  return undefined
}

function routerPortBehind(reader: Reader, port: BridgePort): RouterPort | undefined {
  const peer = port.peer === undefined ? undefined : reader.get('port', port.peer)
  return peer?.kind === 'router' ? peer : undefined
}

function isIn(network: string, address: string): boolean {
  const cidr = parseCidr(network)
  const ip = parseIp(address)
  return cidr !== undefined && ip !== undefined && contains(cidr, ip)
}
