/** A router with two bridges, and stations of both on three hosts; the topology declares none. */
import { type Hosts, HostsError } from './hosts.ts'

export interface Station {
  readonly name: string
  readonly host: number
  readonly bridge: 'red' | 'blue'
  /** The last number of its addresses. */
  readonly n: number
}

export const stations: readonly Station[] = [
  { name: 'a', host: 0, bridge: 'red', n: 2 },
  { name: 'b', host: 1, bridge: 'red', n: 3 },
  { name: 'c', host: 2, bridge: 'red', n: 4 },
  { name: 'd', host: 0, bridge: 'blue', n: 5 },
  { name: 'e', host: 1, bridge: 'blue', n: 6 },
  { name: 'f', host: 2, bridge: 'blue', n: 7 },
]

/** A station by its name. @throws HostsError */
export function stationOf(name: string): Station {
  const found = stations.find((one) => one.name === name)
  if (found === undefined) throw new HostsError(`there is no station ${name}`)
  return found
}

const netOf = (bridge: Station['bridge']): number => (bridge === 'red' ? 1 : 2)
export const addressOf = ({ bridge, n }: Station): string => `10.${netOf(bridge)}.0.${n}`
export const address6Of = ({ bridge, n }: Station): string => `fd00:${netOf(bridge)}::${n}`

/** Makes the stations and their topology. */
export async function furnishHosts(
  hosts: Hosts,
  mtu: number,
  all: readonly Station[] = stations,
): Promise<void> {
  for (const station of all) {
    const net = netOf(station.bridge)
    hosts.addStation(
      station.name,
      station.host,
      [
        `addr add ${addressOf(station)}/24 dev eth0`,
        `addr add ${address6Of(station)}/64 dev eth0 nodad`,
        `route add default via 10.${net}.0.1`,
        `route add default via fd00:${net}::1`,
      ],
      mtu,
    )
  }
  await hosts.put(
    ['router', { id: 'r', adminUp: true }],
    ...(['red', 'blue'] as const).flatMap((bridge) => bridgeOf(bridge, mtu)),
    ...all.map(
      ({ name, bridge }) => ['port', { id: name, kind: 'bridge', bridge, adminUp: true }] as const,
    ),
  )
  for (const { name, host } of all) await hosts.bind(name, host)
}

function bridgeOf(bridge: Station['bridge'], mtu: number) {
  const net = netOf(bridge)
  const inner = { id: `${bridge}-r`, kind: 'bridge', bridge, adminUp: true, peer: `r-${bridge}` }
  const outer = { id: `r-${bridge}`, kind: 'router', router: 'r', adminUp: true, peer: inner.id }
  const own = { addresses: [`10.${net}.0.1/24`], addresses6: [`fd00:${net}::1/64`] }
  return [
    ['bridge', { id: bridge, adminUp: true, mtu }],
    ['port', inner],
    ['port', { ...outer, mac: `02:00:00:00:e0:0${net}`, ...own }],
  ] as const
}
