/** What `midonet status` tells: put together from store, worker, gateway and driver; printed here. */
import type { SessionStatus } from '../gateway/bgp/speakers.ts'
import type { DatapathStatus, ForwardingStatus } from './forwarding.ts'

export interface NetworkStatus {
  readonly id: string
  /** Docker's name for it; undefined while Docker does not answer. */
  readonly name: string | undefined
  readonly subnets: readonly string[]
  readonly router: string | undefined
  readonly internal: boolean
  readonly gateway: 'virtual' | 'docker'
  readonly mtu: number
  readonly endpoints: number
}

export interface EndpointStatus {
  readonly id: string
  readonly network: string
  readonly container: string | undefined
  readonly address: string | undefined
  readonly mac: string
  readonly interface: string | undefined
  readonly published: readonly string[]
  readonly groups: readonly string[]
  /** The container's label that puts it into them, as it is given. */
  readonly groupsLabel: string | undefined
}

export interface Status {
  readonly version: string
  readonly host: { readonly id: string; readonly name: string }
  readonly pid: number
  readonly upS: number
  readonly versions: { readonly node: string; readonly kernel: string }
  /** Docker's calls can be served. */
  readonly ready: boolean
  readonly problems: readonly string[]
  readonly datapath: DatapathStatus
  readonly store: {
    readonly url: string
    readonly revision: number
    readonly objects: Readonly<Record<string, number>>
  }
  readonly networks: readonly NetworkStatus[]
  readonly endpoints: readonly EndpointStatus[]
  readonly uplinks: readonly {
    readonly router: string
    readonly interface: string
    readonly address: string
  }[]
  /** Of BGP. */
  readonly sessions: readonly SessionStatus[]
  readonly forwarding: ForwardingStatus | undefined
  readonly repairs: readonly { readonly time: string; readonly what: string }[]
}

/** For people: problems first, then networks, endpoints, counters, the last repairs. */
export function formatStatus(status: Status): string {
  const { host, datapath, store, forwarding } = status
  const forwarder = forwarding?.forwarder
  return [
    `midonet ${status.version} on ${host.name} (${host.id}), pid ${status.pid}, up ${duration(status.upS)}`,
    `Node.js ${status.versions.node}, kernel ${status.versions.kernel}`,
    `datapath ${datapath.kind}: ${datapath.why}`,
    ...(datapath.features.length === 0 ? [] : [`  has ${datapath.features.join(', ')}`]),
    `store ${store.url}, revision ${store.revision}`,
    ...status.problems.map((problem) => `PROBLEM ${problem}`),
    '',
    ...table(
      ['NETWORK', 'SUBNET', 'ROUTER', 'MTU', 'WAY OUT', 'ENDPOINTS'],
      status.networks.map((network) => [
        network.name ?? short(network.id),
        network.subnets.join(' '),
        network.router ?? '-',
        String(network.mtu),
        network.internal ? 'none' : network.gateway,
        String(network.endpoints),
      ]),
    ),
    '',
    ...table(
      ['PORT', 'CONTAINER', 'NETWORK', 'ADDRESS', 'MAC', 'INTERFACE', 'PUBLISHED', 'GROUPS'],
      status.endpoints.map((endpoint) => [
        short(endpoint.id),
        endpoint.container ?? '-',
        endpoint.network,
        endpoint.address ?? '-',
        endpoint.mac,
        endpoint.interface ?? '-',
        endpoint.published.join(' ') || '-',
        groupsText(endpoint),
      ]),
    ),
    '',
    ...table(
      ['UPLINK OF', 'INTERFACE', 'ADDRESS'],
      status.uplinks.map((uplink) => [uplink.router, uplink.interface, uplink.address]),
    ),
    ...formatSessions(status.sessions),
    ...(forwarder?.tunnels ?? []).map(
      ({ interface: name, problem }) => `tunnel ${name}: ${problem ?? 'up'}`,
    ),
    ...(forwarder === undefined
      ? []
      : [
          '',
          ...Object.entries(forwarder)
            .filter(isFigure)
            .map(([name, value]) => `${words(name)}: ${figure(value)}`),
        ]),
    '',
    status.repairs.length === 0 ? 'no repairs' : 'repairs, the last ones:',
    ...status.repairs.slice(-10).map(({ time, what }) => `  ${time} ${what}`),
  ].join('\n')
}

function formatSessions(sessions: readonly SessionStatus[]): readonly string[] {
  if (sessions.length === 0) return []
  return [
    '',
    ...table(
      ['BGP OF', 'AS', 'PEER', 'PEER AS', 'STATE', 'FOR', 'RECEIVED', 'ADVERTISED', 'BFD'],
      sessions.map((one) => [
        one.router,
        String(one.asn),
        one.peer,
        String(one.peerAsn),
        one.state,
        duration(one.forS),
        String(one.received),
        String(one.advertised),
        one.bfd ?? '-',
      ]),
    ),
  ]
}

function groupsText({ groups, groupsLabel }: EndpointStatus): string {
  if (groupsLabel !== undefined) return `${groups.join(',') || 'none'} (label ${groupsLabel})`
  return groups.join(',') || '-'
}

function isFigure([, value]: [string, unknown]): boolean {
  return (
    typeof value === 'number' ||
    (typeof value === 'object' &&
      value !== null &&
      !Array.isArray(value) &&
      Object.keys(value).length > 0)
  )
}

function figure(value: unknown): string {
  if (typeof value !== 'object' || value === null) return String(value)
  return Object.entries(value)
    .map(([reason, count]) => `${reason} ${count}`)
    .join(', ')
}

/** `icmpSent` is `icmp sent`. */
function words(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`)
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string[] {
  const all = [head, ...rows]
  const widths = head.map((_, column) => Math.max(...all.map((row) => row[column]?.length ?? 0)))
  return all.map((row) =>
    row
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join('  ')
      .trimEnd(),
  )
}

function short(id: string): string {
  return id.length > 12 && /^[0-9a-f]+$/.test(id) ? id.slice(0, 12) : id
}

function duration(seconds: number): string {
  if (seconds < 120) return `${Math.floor(seconds)} s`
  if (seconds < 7200) return `${Math.floor(seconds / 60)} min`
  return `${Math.floor(seconds / 3600)} h`
}
