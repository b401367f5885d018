/**
 * The same 10 000 routes, until another host than the gateway uses them: two hosts over one etcd.
 *
 *   host 2     host 1 (gateway) ─ up1 ═ eth0 in hs-r1 (AS 3)
 */
import { readdirSync, readFileSync } from 'node:fs'
import { startRouter } from '../system/bgp-world.ts'
import { Hosts, hostName } from '../system/hosts.ts'
import { guest, type Stage } from '../system/stage.ts'
import { BenchError, countLearned, measureLearning, until } from './bgp-learn.ts'
import type { Row } from './row.ts'

const router = 'hs-r1'

export async function benchBgpHosts(): Promise<Row[]> {
  const hosts = await Hosts.open({ count: 2 })
  try {
    await furnish(hosts)
    const learn = await measureLearning({
      router,
      path: namespaceOf(hosts.stage(0)),
      sh,
      count: () => countLearned(hosts.stage(1)),
    })
    return [{ name: 'bgp-10k-hosts', unit: 'ms', ...learn, goal: 3, better: 'lower' }]
  } finally {
    await sh(`kill $(cat /run/router-${router}/*.pid); rm -rf /run/router-${router}`)
    for (const stage of hosts.stages) {
      await stage.stopAgent('TERM')
      await stage.clean()
    }
    await hosts.close()
  }
}

/** What is no host's: namespaces that are made in a host's own are not seen by others. */
async function sh(script: string): Promise<string> {
  const { code, stdout, stderr } = await guest.run('sh', '-c', script)
  return code === 0 ? stdout : `${stdout}${stderr} (status ${code})`
}

async function furnish(hosts: Hosts): Promise<void> {
  const said =
    (await sh(`set -e
chmod 711 ${hosts.stage(0).dir}
ip netns add ${router}
ip -n ${router} link set lo up
ip link add up1 netns ${hostName(0)} type veth peer name eth0 netns ${router}
ip -n ${hostName(0)} link set up1 up
ip -n ${router} addr add 10.0.1.2/30 dev eth0
ip -n ${router} link set eth0 up`)) +
    (await startRouter({ sh }, router, {
      ...{ asn: 3, routerId: '198.51.100.1', networks: ['198.51.100.0/24'] },
      peers: [{ address: '10.0.1.1', asn: 100 }],
    }))
  if (said !== '') throw new BenchError(said)
  const port = { kind: 'router', router: 'edge', adminUp: true, mac: '02:00:00:00:01:01' }
  const peer = { router: 'edge', asn: 3, address: '10.0.1.2', connectRetry: 1 }
  await hosts.put(
    ['router', { id: 'edge', adminUp: true, asn: 100 }],
    ['port', { ...port, id: 'up', addresses: ['10.0.1.1/30'] }],
    ['binding', { id: 'up', host: hosts.ids[0] ?? '', interface: 'up1' }],
    ['bgpPeer', { id: 'peer', ...peer }],
  )
  await until(async () => (await countLearned(hosts.stage(1))) === 1, 'the session')
}

/** The network namespace of FRR, which has a name in its agent's mount namespace only. */
function namespaceOf({ dir }: Stage): string {
  const [name = ''] = readdirSync(`${dir}/run/bgp`)
  const pid = readFileSync(`${dir}/run/bgp/${name}/zebra.pid`, 'utf8').trim()
  return `/proc/${pid}/ns/net`
}
