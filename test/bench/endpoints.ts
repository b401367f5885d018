/**
 * 10 000 endpoints, one after the other as Docker makes them: its calls for an address, an endpoint
 * and a join, through the real driver and the real store over an etcd, on four hosts that share one
 * bridge. Each host has a forwarder over a datapath in memory. No link is made: what the kernel
 * takes for one is not ours.
 *
 * The row compares the last thousand with the first after a warm-up, in processor time of all four
 * hosts: unlike the time that passes, it does not tell of what else the machine does.
 */
import type { Link, Links } from '../../datapath/link.ts'
import { MemoryDatapath } from '../../datapath/memory.ts'
import { type DriverContext, Recent, Turns } from '../../driver/context.ts'
import { ipamCalls } from '../../driver/ipam-driver.ts'
import { networkCalls } from '../../driver/network-driver.ts'
import { Forwarder } from '../../simulator/forwarder.ts'
import { openEtcdStore } from '../../topology/etcd.ts'
import { dockerId, endpointBody, joinBody, networkBody } from '../driver/agent.ts'
import { EtcdCluster } from '../system/etcd-cluster.ts'
import type { Row } from './row.ts'

const part = 1_000
const warmUp = 2_000
const hostCount = 4
const subnet = '10.16.0.0/12'
const gateway = '10.16.0.1/12'
const options = { 'org.midonet.bridge': 'shared' }

interface Host {
  readonly context: DriverContext
  readonly network: string
  readonly pool: string
  close(): Promise<void>
}

export async function benchEndpoints(count = 10_000): Promise<Row[]> {
  const etcd = await EtcdCluster.start(1)
  const hosts: Host[] = []
  try {
    for (let at = 0; at < hostCount; at++) hosts.push(await openHost(etcd.url, at))
    const attachMany = async (first: number, end: number): Promise<number> => {
      const before = process.cpuUsage()
      for (let at = first; at < end; at++) {
        const host = hosts[at % hostCount]
        if (host !== undefined) await attach(host, dockerId(0x1000 + at))
      }
      const { user, system } = process.cpuUsage(before)
      return (user + system) / 1000 / (end - first)
    }
    await attachMany(0, warmUp)
    const first = await attachMany(warmUp, warmUp + part)
    await attachMany(warmUp + part, count - part)
    const last = await attachMany(count - part, count)
    const facts = { unit: 'ms, last 1000 : first 1000', goal: 1.2, better: 'lower' } as const
    return [{ name: 'endpoints-10k', ...facts, ours: last, peer: first }]
  } finally {
    for (const host of hosts) await host.close()
    await etcd.stop()
  }
}

/** A host with its network, whose bridge all share. */
async function openHost(url: string, at: number): Promise<Host> {
  const id = `host-${at}`
  const store = await openEtcdStore(url, { host: id })
  const now = () => performance.now()
  const forwarder = new Forwarder({ datapath: new MemoryDatapath(), host: id, now, epoch: at + 1 })
  store.watch((batch) => forwarder.apply(batch))
  forwarder.adopt()
  const ticks = setInterval(() => forwarder.tick(), 250)
  await store.transact((draft) => draft.put('host', { id, name: id }))
  const context: DriverContext = {
    store,
    links: new NoLinks(),
    host: id,
    settled: async () => {},
    recent: new Recent(now),
    turns: new Turns(),
    report: () => {},
  }
  const network = dockerId(1 + at)
  const { PoolID } = await call(context, 'IpamDriver.RequestPool', {
    AddressSpace: 'midonet-global',
    Pool: subnet,
    Options: {},
  })
  await call(context, 'IpamDriver.RequestAddress', {
    PoolID,
    Address: gateway.split('/')[0],
    Options: { RequestAddressType: 'com.docker.network.gateway' },
  })
  const body = networkBody({ id: network, subnet, gateway, options })
  await call(context, 'NetworkDriver.CreateNetwork', body)
  const close = async () => {
    clearInterval(ticks)
    await store.close()
  }
  return { context, network, pool: String(PoolID), close }
}

/** What Docker calls when a container starts. */
async function attach({ context, network, pool }: Host, id: string): Promise<void> {
  const asked = { PoolID: pool, Address: '', Options: {} }
  const { Address } = await call(context, 'IpamDriver.RequestAddress', asked)
  const body = endpointBody(network, id, String(Address))
  await call(context, 'NetworkDriver.CreateEndpoint', body)
  await call(context, 'NetworkDriver.Join', joinBody(network, id))
}

async function call(
  context: DriverContext,
  name: string,
  body: object,
): Promise<Readonly<Record<string, unknown>>> {
  const answer = { ...networkCalls, ...ipamCalls }[name]
  return { ...(await answer?.(context, body)) }
}

/** Takes everything, and has nothing. */
class NoLinks implements Links {
  list = (): readonly Link[] => []
  find = (): undefined => undefined
  createVeth(): void {}
  remove(): void {}
  setUp(): void {}
  setDown(): void {}
  setMtu(): void {}
  addAddress(): void {}
  addresses = (): readonly never[] => []
  addresses6 = (): readonly never[] => []
  setRoute(): void {}
  removeRoute(): void {}
  routes = (): readonly never[] => []
}
