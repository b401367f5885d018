/**
 * What telling another host of its state adds to the first packet of a connection, through kernels:
 * two hosts, each with an agent and a datapath, and packets of new connections by the router on one
 * to the gateway's port on the other, in turn translated (the gateway's host is told, before the
 * packet) and as they are:
 *
 *   a ── host 1: red, router ═ tunnel ═ host 2: up ── outside: 198.18.0.1 translated, .2 not
 *
 * A rule looks at ports, so that the first packet of either kind goes by the agent. From sending to
 * arrival; the answer, by the same way back, is waited for, and says that the state was there.
 */
import { Hosts, HostsError } from '../system/hosts.ts'
import type { Row } from './row.ts'

const child = new URL('first-packet.js', import.meta.url).pathname
const told = '198.18.0.1'
const own = '198.18.0.2'
const publicAddress = '192.0.2.1'
const source = '10.1.0.2'
const rounds = 9
const connections = 300
const firstPort = 10_000

export async function benchStatePush(): Promise<Row[]> {
  const hosts = await Hosts.open({ count: 2 })
  try {
    await furnish(hosts)
    await hosts.serve('out', process.execPath, child, 'echo', told, own)
    await round(hosts, firstPort - 1_000, 100)
    const before = await messages(hosts)
    const best = { told: Number.POSITIVE_INFINITY, own: Number.POSITIVE_INFINITY }
    for (let at = 0; at < rounds; at++) {
      const times = await round(hosts, firstPort + at * connections, connections)
      // What else the machine does only adds: the least disturbed round counts.
      best.told = Math.min(best.told, p99(times.told))
      best.own = Math.min(best.own, p99(times.own))
    }
    if ((await messages(hosts)) - before < rounds * connections)
      throw new HostsError('not every connection was told to the other host')
    const ours = Math.max(0, best.told - best.own)
    return [
      { name: 'state-push', unit: 'ms added, p99', ours, peer: null, goal: 1, better: 'lower' },
    ]
  } finally {
    await hosts.close()
  }
}

interface Times {
  readonly told: readonly number[]
  readonly own: readonly number[]
}

/** Milliseconds of the first packets of so many connections of each kind. @throws HostsError */
async function round(hosts: Hosts, first: number, count: number): Promise<Times> {
  const words = `send ${first} ${count} ${told} ${own}`
  const text = await hosts.in('a', `${process.execPath} ${child} ${words}`)
  const seen = text
    .trim()
    .split('\n')
    .map((line) => line.split(' '))
  const of = (address: string, from: string): readonly number[] => {
    const times = seen.filter(([to, by]) => to === address && by === from)
    if (times.length === count) return times.map(([, , ns]) => Number(ns) / 1e6)
    throw new HostsError(
      `${times.length} of ${count} packets came from ${from}: ${text.slice(0, 500)}`,
    )
  }
  return { told: of(told, publicAddress), own: of(own, source) }
}

async function furnish(hosts: Hosts): Promise<void> {
  hosts.addStation('a', 0, [
    'link set eth0 address 02:00:00:00:e1:0a',
    `addr add ${source}/24 dev eth0`,
    'route add default via 10.1.0.1',
  ])
  hosts.addStation('out', 1, [
    'link set eth0 address 02:00:00:00:e2:02',
    'addr add 203.0.113.2/24 dev eth0',
    ...[told, own].map((address) => `addr add ${address}/32 dev lo`),
    'route add default via 203.0.113.1',
    // Who asks with an address that is none of the link's is not answered.
    'neigh add 203.0.113.1 lladdr 02:00:00:00:e1:02 dev eth0 nud permanent',
  ])
  await hosts.put(...topology())
  await hosts.bind('a', 0)
  await hosts.bind('out', 1)
}

function topology() {
  const nat = { first: publicAddress, last: publicAddress, ports: { first: 1024, last: 65_535 } }
  const router = { kind: 'router', router: 'r', adminUp: true } as const
  const route = { router: 'r', src: '0.0.0.0/0', weight: 1 } as const
  return [
    ['chain', { id: 'out' }],
    ['chain', { id: 'in' }],
    [
      'rule',
      {
        ...{ id: 'ports', chain: 'out', position: 1 },
        condition: { protocol: { is: 17 }, srcPorts: { is: { first: 1, last: 1 } } },
        action: { kind: 'drop' },
      },
    ],
    [
      'rule',
      {
        ...{ id: 'snat', chain: 'out', position: 2, condition: { dst: { is: `${told}/32` } } },
        action: { kind: 'snat', targets: [nat], verdict: 'accept' },
      },
    ],
    [
      'rule',
      {
        ...{ id: 'back', chain: 'in', position: 1 },
        condition: { dst: { is: `${publicAddress}/32` } },
        action: { kind: 'reverseSnat', verdict: 'accept' },
      },
    ],
    ['router', { id: 'r', adminUp: true, inboundChain: 'in', outboundChain: 'out' }],
    ['bridge', { id: 'red', adminUp: true, mtu: 1450 }],
    ['port', { id: 'red-r', kind: 'bridge', bridge: 'red', adminUp: true, peer: 'r-red' }],
    [
      'port',
      {
        ...{ ...router, id: 'r-red', peer: 'red-r', mac: '02:00:00:00:e1:01' },
        addresses: ['10.1.0.1/24'],
      },
    ],
    [
      'port',
      {
        ...{ id: 'a', kind: 'bridge', bridge: 'red', adminUp: true },
        stations: [{ mac: '02:00:00:00:e1:0a', addresses: [source] }],
      },
    ],
    [
      'port',
      {
        ...{ ...router, id: 'out', mac: '02:00:00:00:e1:02', addresses: ['203.0.113.1/24'] },
        neighbors: [{ address: '203.0.113.2', mac: '02:00:00:00:e2:02' }],
      },
    ],
    [
      'route',
      {
        ...route,
        id: 'all',
        dst: '0.0.0.0/0',
        action: 'port',
        port: 'out',
        gateway: '203.0.113.2',
      },
    ],
  ] as const
}

/** Messages of flow state that the first host has sent. */
async function messages(hosts: Hosts): Promise<number> {
  const status = Object(await hosts.stage(0).ask('GET', '/status'))
  return Number(Object(status.forwarding?.forwarder?.stateMessages).sent)
}

function p99(times: readonly number[]): number {
  return times.toSorted((a, b) => a - b)[Math.floor(times.length * 0.99)] ?? Number.NaN
}
