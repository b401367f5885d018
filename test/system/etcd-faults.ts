/** What befalls a cluster of etcd while stores are at work. */
import { setTimeout as delay } from 'node:timers/promises'
import type { EtcdCluster } from './etcd-cluster.ts'

export interface ClusterFault {
  /** In words that follow `while`. */
  readonly what: string
  befall(cluster: EtcdCluster): Promise<void>
}

export const clusterFaults: readonly ClusterFault[] = [
  {
    what: 'a member is killed and comes back',
    async befall(cluster) {
      await cluster.kill(0)
      await delay(500)
      cluster.run(0)
    },
  },
  {
    what: 'the leader is killed and comes back',
    async befall(cluster) {
      const leader = cluster.leader()
      await cluster.kill(leader)
      await delay(1_000)
      cluster.run(leader)
    },
  },
  {
    what: 'the leader is stopped for a while',
    async befall(cluster) {
      const leader = cluster.leader()
      cluster.signal(leader, 'SIGSTOP')
      await delay(process.env.MIDONET_LONG === undefined ? 2_500 : 30_000)
      cluster.signal(leader, 'SIGCONT')
    },
  },
  {
    what: 'all members are lost and come back with their data',
    async befall(cluster) {
      for (let at = 0; at < cluster.size; at++) await cluster.kill(at)
      await delay(500)
      for (let at = 0; at < cluster.size; at++) cluster.run(at)
    },
  },
]
