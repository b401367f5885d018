/**
 * BGP in the walk-through's world, against what FRR itself needs there: for a kernel route that is
 * added by hand to be seen at the next router, for 10 000 to be learned; and silent loss with BFD.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { openRouteMonitor } from '../../datapath/route-monitor.ts'
import { bgpProtocol } from '../../gateway/bgp/learned.ts'
import { layCables, startRouters } from '../system/bgp-world.ts'
import { Engine } from '../system/engine.ts'
import { Stage } from '../system/stage.ts'
import { BenchError, countLearned, measureLearning, median, until } from './bgp-learn.ts'
import type { Row } from './row.ts'

const rounds = 7
const fromWorld = '198.51.100.0/24'

export async function benchBgp(): Promise<Row[]> {
  const engine = await Engine.open()
  const stage = new Stage(engine, 'ebpf')
  try {
    await furnish(stage)
    const path = (name: string) => `/proc/${engine.pid}/root/run/netns/${name}`
    const advertise = await benchAdvertise(stage, path('r1'))
    const [own] = (await stage.sh('ls /run/netns | grep midonet-bgp')).split('\n')
    const learn = await measureLearning({
      router: 'r1',
      path: path(own ?? ''),
      sh: (script) => stage.sh(script),
      count: () => countLearned(stage),
    })
    const failover = await benchFailover(stage)
    return [
      { name: 'bgp-advertise', unit: 'ms', ...advertise, goal: 2, better: 'lower' },
      { name: 'bgp-10k', unit: 'ms', ...learn, goal: 3, better: 'lower' },
      {
        name: 'bgp-failover',
        unit: 'ms',
        ours: failover,
        peer: null,
        goal: 1_000,
        better: 'lower',
      },
    ]
  } finally {
    await stage.close()
  }
}

async function furnish(stage: Stage): Promise<void> {
  const bfd = ['bfd', 'bfd profile fast']
  const said = (await layCables(stage)) + (await startRouters(stage, { r1: bfd, r2: bfd }))
  if (said !== '') throw new BenchError(said)
  await stage.startAgent()
  const hosts = await stage.ask('GET', '/v1/host')
  const host = Array.isArray(hosts) ? String(hosts[0]?.id) : ''
  await stage.put('router', { id: 'edge', adminUp: true, asn: 100 })
  const port = { kind: 'router', router: 'edge', adminUp: true, mac: '02:00:00:00:01:01' }
  await stage.put('port', { ...port, id: 'up', addresses: ['10.0.1.1/30'] })
  await stage.put('binding', { id: 'up', host, interface: 'gns3out' })
  const peer = { router: 'edge', asn: 3, address: '10.0.1.2', bfd: true, connectRetry: 1 }
  await stage.put('bgpPeer', { id: 'peer', ...peer })
  await until(() => hasLearned(stage, fromWorld), 'the session')
}

/** From the request to the kernel of the next router; FRR's: from a kernel route of r2 to there. */
async function benchAdvertise(stage: Stage, path: string) {
  const monitor = openRouteMonitor(path, bgpProtocol)
  const [ours, peer]: [number[], number[]] = [[], []]
  const seen = (dst: string, isThere: boolean) =>
    until(
      async () => {
        monitor.poll()
        return monitor.routes.has(dst) === isThere
      },
      dst,
      2,
    )
  try {
    for (let round = 0; round < rounds; round++) {
      const [a, b] = [`203.0.${round}.0/24`, `203.1.${round}.0/24`]
      const value = { id: 'net', router: 'edge', prefix: a }
      ours.push(
        await time(
          () => stage.put('bgpNetwork', value),
          () => seen(a, true),
        ),
      )
      ours.push(
        await time(
          () => stage.ask('DELETE', '/v1/bgpNetwork/net'),
          () => seen(a, false),
        ),
      )
      const route = (verb: string) => () =>
        stage.sh(`ip -n r2 route ${verb} blackhole ${b} proto static`)
      peer.push(await time(route('add'), () => seen(b, true)))
      peer.push(await time(route('del'), () => seen(b, false)))
    }
  } finally {
    monitor.close()
  }
  return { ours: median(ours), peer: median(peer) }
}

async function benchFailover(stage: Stage): Promise<number> {
  const took: number[] = []
  for (let round = 0; round < 3; round++) {
    await until(() => hasLearned(stage, fromWorld), 'the session')
    // BFD is up some time after BGP is.
    await sleep(2_000)
    await stage.sh('ip link set tap0 nomaster')
    const start = performance.now()
    await until(async () => !(await hasLearned(stage, fromWorld)), 'the loss to be found', 5)
    took.push(performance.now() - start)
    await stage.sh('ip link set tap0 master br0')
  }
  return median(took)
}

async function hasLearned(stage: Stage, dst: string): Promise<boolean> {
  const routes = await stage.ask('GET', `/v1/learnedRoute?dst=${encodeURIComponent(dst)}`)
  return Array.isArray(routes) && routes.length > 0
}

async function time(act: () => Promise<unknown>, done: () => Promise<void>): Promise<number> {
  const start = performance.now()
  const acting = act()
  await done()
  const took = performance.now() - start
  await acting
  return took
}
