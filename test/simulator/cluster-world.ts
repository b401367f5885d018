/**
 * A router that three hosts share: stations behind it, two gateways to the outside in a stateful
 * port group, so that what goes out by one may come back by the other.
 *
 *   in1 (h1), in4 (h1) ─ bridge ─ router ─┬ up2 (h2) ═ 203.0.113.2
 *                                         └ up3 (h3) ═ 198.51.100.2
 */
import { formatIp } from '../../packet/address.ts'
import { type FlowKey, readField } from '../../packet/flow-key.ts'
import { parseKey } from '../../packet/text.ts'
import { Cluster, type Delivered } from './cluster.ts'
import { frameOf } from './frame.ts'
import type { LossyOptions } from './lossy-network.ts'
import { type Item, keyOf, put } from './world.ts'

export const publicAddress = '192.0.2.1'
const routerMac = '02:00:00:00:00:f1'
const macs: Readonly<Record<string, string>> = {
  in1: '02:00:00:00:00:01',
  in4: '02:00:00:00:00:04',
  up2: '02:00:00:00:00:e2',
  up3: '02:00:00:00:00:e3',
}
const upMacs: Readonly<Record<string, string>> = {
  up2: '02:00:00:00:00:d2',
  up3: '02:00:00:00:00:d3',
}

export const addresses: Readonly<Record<string, string>> = { in1: '10.0.0.2', in4: '10.0.0.5' }

/** Rules of chain `out` and `in` of the router. */
export function cluster(items: readonly Item[], options: Partial<LossyOptions> = {}): Cluster {
  const made = new Cluster(['h1', 'h2', 'h3'], options)
  const onRouter = { kind: 'router', router: 'r', adminUp: true } as const
  const onBridge = { kind: 'bridge', bridge: 'b', adminUp: true } as const
  const uplink = (id: string, own: string, neighbor: string) =>
    put('port', {
      ...onRouter,
      id,
      mac: upMacs[id] ?? '',
      addresses: [own],
      neighbors: [{ address: neighbor, mac: macs[id] ?? '' }],
      portGroups: ['ups'],
    })
  made.put(
    put('portGroup', { id: 'ups', stateful: true }),
    put('chain', { id: 'in' }),
    put('chain', { id: 'out' }),
    put('bridge', { id: 'b', adminUp: true }),
    put('router', { id: 'r', adminUp: true, inboundChain: 'in', outboundChain: 'out' }),
    put('port', { ...onBridge, id: 'b-r', peer: 'r-b' }),
    put('port', {
      ...onRouter,
      id: 'r-b',
      peer: 'b-r',
      mac: routerMac,
      addresses: ['10.0.0.1/24'],
    }),
    uplink('up2', '203.0.113.1/24', '203.0.113.2'),
    uplink('up3', '198.51.100.1/24', '198.51.100.2'),
    ...['in1', 'in4'].map((id) =>
      put('port', {
        ...onBridge,
        id,
        stations: [{ mac: macs[id] ?? '', addresses: [addresses[id] ?? ''] }],
      }),
    ),
    defaultRoute('up2'),
    put('route', {
      id: 'public',
      router: 'r',
      src: '0.0.0.0/0',
      dst: `${publicAddress}/32`,
      action: 'blackhole',
      weight: 1,
    }),
    ...items,
  )
  made.bind('in1', 'h1')
  made.bind('in4', 'h1')
  made.bind('up2', 'h2')
  made.bind('up3', 'h3')
  made.run(50)
  return made
}

/** The uplink that what goes outside takes. */
export function defaultRoute(port: 'up2' | 'up3'): Item {
  return put('route', {
    id: 'default',
    router: 'r',
    src: '0.0.0.0/0',
    dst: '0.0.0.0/0',
    action: 'port',
    port,
    gateway: port === 'up2' ? '203.0.113.2' : '198.51.100.2',
    weight: 1,
  })
}

export function snatRules(first: number, last: number): Item[] {
  const targets = [{ first: publicAddress, last: publicAddress, ports: { first, last } }]
  return [
    put('rule', {
      id: 'snat',
      chain: 'out',
      position: 1,
      condition: { outPortGroup: { is: 'ups' } },
      action: { kind: 'snat', targets, verdict: 'accept' },
    }),
    put('rule', {
      id: 'back',
      chain: 'in',
      position: 1,
      condition: { dst: { is: `${publicAddress}/32` } },
      action: { kind: 'reverseSnat', verdict: 'accept' },
    }),
  ]
}

/** Lets inside begin connections, and nothing else in. */
export const firewallRules: readonly Item[] = [
  put('rule', {
    id: 'answers',
    chain: 'in',
    position: 1,
    condition: { inPortGroup: { is: 'ups' }, flow: { is: 'return' } },
    action: { kind: 'accept' },
  }),
  put('rule', {
    id: 'refuse',
    chain: 'in',
    position: 2,
    condition: { inPortGroup: { is: 'ups' } },
    action: { kind: 'drop' },
  }),
  put('rule', {
    id: 'notice',
    chain: 'in',
    position: 3,
    condition: { flow: { is: 'forward' } },
    action: { kind: 'accept' },
  }),
]

export interface Packet {
  readonly from: string
  readonly src: string
  readonly dst: string
  readonly srcPort: number
  readonly dstPort: number
  readonly protocol?: 6 | 17
  /** Of TCP: SYN 2, ACK 16, FIN 1, RST 4. */
  readonly flags?: number
}

/** A packet to the router, as who is behind a port sends it. */
export function frame({ from, src, dst, srcPort, dstPort, protocol = 6, flags }: Packet) {
  const name = protocol === 6 ? 'tcp' : 'udp'
  const tcp = protocol === 6 ? `,tcp_flags(${flags ?? 16})` : ''
  const to = upMacs[from] ?? routerMac
  const { key } = parseKey(
    `eth(src=${macs[from]},dst=${to}),eth_type(0x0800),` +
      `ipv4(src=${src},dst=${dst},proto=${protocol},tos=0,ttl=64,frag=no),` +
      `${name}(src=${srcPort},dst=${dstPort})${tcp}`,
  )
  return frameOf(key)
}

/** What a delivered packet says. */
export function describe({ host, interface: port, frame: bytes }: Delivered): string {
  const key = keyOf(bytes)
  const ip = (field: 'ipSrc' | 'ipDst') => formatIp(Number(readField(key, field)))
  return `${host} ${port}: ${ip('ipSrc')}:${portOf(key, 0)} > ${ip('ipDst')}:${portOf(key, 16)}`
}

function portOf(key: FlowKey, shift: number): number {
  return ((key[18] ?? 0) >>> shift) & 0xffff
}

export function sourceOf({ frame: bytes }: Delivered): number {
  return portOf(keyOf(bytes), 0)
}
