/** What a cluster of some size costs, measured (scale.ts). */
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { ScaleWorld, type Size, type Whole } from './scale.ts'

/** Bytes, and milliseconds of a processor (cpu) or of the model's clock. */
export interface ScaleFigures {
  readonly objects: number
  readonly etcdBytes: number
  /** Memory of an agent for each port: of the store, and of what forwards. */
  readonly storeBytesPerPort: number
  readonly compiledBytesPerPort: number
  /** Reading all at the start. */
  readonly startBytes: number
  readonly startCpuMs: number
  /** A new endpoint, which is three transactions: until the last host has seen the last of them. */
  readonly changeMs: number
  /** What each host receives of an endpoint, and what taking it in costs. */
  readonly changeBytes: number
  readonly changeCpuMs: number
  /** Of the hosts, those that have a port on the endpoint's network. */
  readonly concerned: number
  /** Hosts that saw another number of events than all others. */
  readonly unequal: number
}

export async function measureScale(size: Size, changes: number): Promise<ScaleFigures> {
  const world = new ScaleWorld(size)
  try {
    const writer = await world.openWhole(0)
    await world.fill(writer)
    const start = await measureStart(world)
    world.compile(writer)
    while (world.others.length < size.hosts - 2) world.openFollower()
    await world.clock.until(() => false, 5)
    const change = await measureChanges(world, writer, start.whole, changes)
    const events = new Set(world.others.map((one) => one.events))
    const { networkHosts, hosts } = size
    return {
      objects: start.objects,
      etcdBytes: world.etcd.size,
      ...start.figures,
      ...change,
      concerned: Math.min(networkHosts, hosts),
      unequal: events.size - 1,
    }
  } finally {
    await world.close()
  }
}

/** A second host starts: what it reads, and what memory that takes. */
async function measureStart(world: ScaleWorld) {
  const { ports } = world.size
  const memory = [heapUsed()]
  const before = process.cpuUsage()
  const whole = await world.openWhole(1)
  const opened = cpuSince(before)
  memory.push(heapUsed())
  const compiling = process.cpuUsage()
  world.compile(whole)
  const startCpuMs = opened + cpuSince(compiling)
  memory.push(heapUsed())
  const [none = 0, store = 0, compiled = 0] = memory
  const figures = {
    storeBytesPerPort: (store - none) / ports,
    compiledBytesPerPort: (compiled - store) / ports,
    startBytes: whole.client.read,
    startCpuMs,
  }
  return { whole, figures, objects: whole.store.list('port').length + countOthers(whole) }
}

function countOthers({ store }: Whole): number {
  const kinds = ['host', 'zoneMember', 'hostAlive', 'bridge', 'router', 'binding'] as const
  const more = ['network', 'endpoint', 'pool', 'address'] as const
  return [...kinds, ...more].reduce((sum, kind) => sum + store.list(kind).length, 0)
}

async function measureChanges(world: ScaleWorld, writer: Whole, seen: Whole, changes: number) {
  const times: number[] = []
  const { client } = seen
  const [bytes, busy] = [client.received, client.busyMs]
  for (let at = 0; at < changes; at++) {
    const start = world.clock.now()
    await world.addEndpoint(writer)
    times.push(await world.seenByAll(start))
  }
  times.sort((a, b) => a - b)
  return {
    changeMs: times[Math.floor(times.length / 2)] ?? 0,
    changeBytes: (client.received - bytes) / changes,
    changeCpuMs: (client.busyMs - busy) / changes,
  }
}

function cpuSince(before: NodeJS.CpuUsage): number {
  const { user, system } = process.cpuUsage(before)
  return (user + system) / 1000
}

function heapUsed(): number {
  setFlagsFromString('--expose-gc')
  const collect: unknown = runInNewContext('gc')
  if (typeof collect === 'function') collect()
  return process.memoryUsage().heapUsed
}

export interface Contention {
  readonly hosts: number
  /** Until the last endpoint stands, on the model's clock. */
  readonly ms: number
  /** Transactions that etcd took, that it refused, and endpoints that were given up. */
  readonly commits: number
  readonly refusals: number
  readonly failed: number
}

/** All hosts create an endpoint in the same moment; each has the whole of a small topology. */
export async function measureContention(hosts: number): Promise<Contention> {
  const size = { hosts, ports: hosts, networkPorts: 100, networkHosts: hosts }
  const world = new ScaleWorld(size)
  try {
    const first = await world.openWhole(0)
    await world.fill(first)
    for (let at = 1; at < hosts; at++) await world.openWhole(at)
    const { commits, refusals } = world.etcd
    const start = world.clock.now()
    const all = () => Promise.allSettled(world.wholes.map((whole) => world.addEndpoint(whole)))
    const ends = await world.settle(all)
    return {
      hosts,
      ms: world.clock.now() - start,
      commits: world.etcd.commits - commits,
      refusals: world.etcd.refusals - refusals,
      failed: ends.filter(({ status }) => status === 'rejected').length,
    }
  } finally {
    await world.close()
  }
}
