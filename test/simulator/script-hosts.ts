/**
 * The scripts' language for other hosts:
 *
 *   zone ID KIND [udp=PORT]             joins ZONE HOST ADDRESS         alive HOST
 *   told BRIDGE MAC PORT HOST           told-neighbor ROUTER ADDRESS MAC PORT HOST
 *   from TUNNEL INTERFACE PACKET key=N ip=ADDRESS      a packet out of a tunnel, of a station as if
 *   path ADDRESS MTU                    what the underlay's path there carries, within a second
 *   facts                                              it were at INTERFACE; what others are told
 */
import { formatIp, parseIp, parseIpv6 } from '../../packet/address.ts'
import type { Tunnel } from '../../packet/apply.ts'
import { tunnelSourceOf } from '../../packet/tunnel-source.ts'
import { learnedMacId, learnedNeighborId, zoneMemberId } from '../../topology/host-schema.ts'
import { schemas } from '../../topology/model.ts'
import type { Words } from './script-policy.ts'
import { put, type Sent, type World } from './world.ts'

const full = (mac: string): string => (mac.startsWith(':') ? `02:00:00:00:00${mac}` : mac)

export const hostChanges: Readonly<Record<string, (world: World, words: Words) => void>> = {
  zone(world, { plain: [id = '', encapsulation], options }) {
    const udpPort = options.has('udp') ? { udpPort: Number(options.get('udp')) } : {}
    world.put(put('tunnelZone', schemas.tunnelZone.parse({ id, encapsulation, ...udpPort })))
  },

  joins: (world, { plain: [zone = '', host = '', address = ''] }) =>
    world.put(put('zoneMember', { id: zoneMemberId(zone, host), zone, host, address })),

  path: (world, { plain: [address = '', mtu] }) =>
    world.paths.set(parseIp(address) ?? parseIpv6(address) ?? 0, Number(mtu)),

  alive: (world, { plain: [id = ''] }) =>
    world.put(put('hostAlive', { id, since: '2020-01-01T00:00:00Z' })),

  told(world, { plain: [bridge = '', short = '', port = '', host = ''] }) {
    const mac = full(short)
    const id = learnedMacId(bridge, 0, mac)
    world.put(put('learnedMac', { id, bridge, vlan: 0, mac, port, host }))
  },

  'told-neighbor'(world, { plain: [router = '', address = '', short = '', port = '', host = ''] }) {
    const id = learnedNeighborId(router, address)
    world.put(put('learnedNeighbor', { id, router, address, mac: full(short), port, host }))
  },
}

export const hostQueries: Readonly<Record<string, (world: World) => string[]>> = {
  facts: (world) =>
    world.forwarder.takeFacts().map(({ kind, id, value }) => {
      const what = value !== undefined && 'port' in value ? value.port : value?.host
      return `${kind} ${id}: ${what ?? 'no more'}`
    }),
}

/** A packet comes out of a tunnel's vport. */
export function fromTunnel(
  world: World,
  { plain: [tunnel = '', near = ''], options }: Words,
  read: (interfaceName: string, text: string) => Uint8Array,
  rest: string,
): Sent[] {
  const ip = options.get('ip') ?? ''
  const src = tunnelSourceOf(parseIp(ip) ?? parseIpv6(ip) ?? 0)
  const packet = rest.replace(near, '').replaceAll(/\s*\b(?:key|ip)=\S+/g, '')
  return world.send(tunnel, read(near, packet.trim()), { id: Number(options.get('key')), src })
}

/** The header that a frame leaves with by a tunnel. */
export function showTunnel(interfaceName: string, tunnel: Tunnel | undefined): string {
  if (tunnel === undefined || !interfaceName.startsWith('mt-')) return ''
  const { id, dst } = tunnel
  const to = typeof dst === 'number' ? formatIp(dst) : `${dst.toString(16)}`
  return ` key ${id >= 0x80_0000 ? `flood+${id - 0x80_0000}` : id} to ${to}`
}
