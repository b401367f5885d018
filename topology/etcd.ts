/** Opens an etcd store: `etcd://h1:2379,h2:2379,h3:2379`. */
import { randomUUID } from 'node:crypto'
import { StoreError } from './error.ts'
import { type EtcdAccess, EtcdClient } from './etcd-client.ts'
import { Lease } from './etcd-lease.ts'
import { openReplicaFile } from './etcd-replica.ts'
import { EtcdStore } from './etcd-store.ts'

/** What an etcd store needs besides its URL. */
export interface EtcdOptions extends Omit<EtcdAccess, 'endpoints'> {
  /** Whose lease ephemeral facts are tied to; without it, this process's own. */
  readonly host?: string | undefined
  /** Folder of the replica; without it the store cannot start while etcd is out of reach. */
  readonly replicaDir?: string | undefined
}

/** How long opening waits for etcd: with a replica at hand, and without. */
const limits = { withReplicaMs: 2_500, withoutMs: 10_000 } as const

/** @throws StoreError: UNREACHABLE without etcd and replica, UNSUPPORTED for a URL that is none */
export async function openEtcdStore(url: string, options: EtcdOptions = {}): Promise<EtcdStore> {
  const client = new EtcdClient({ ...options, endpoints: endpointsOf(url) })
  const { file, snapshot, origin } = await openReplicaFile(options.replicaDir)
  const host = options.host ?? randomUUID()
  const lease = new Lease(client, host)
  const { objects, revision } = snapshot
  const store = new EtcdStore({ client, lease, host, replica: file, objects, revision, origin })
  const waitMs = origin === undefined ? limits.withoutMs : limits.withReplicaMs
  if ((await store.reached(waitMs)) || origin !== undefined) return store
  const { failure } = store
  await store.close()
  throw failure
}

/** The endpoints that a URL names. @throws StoreError code `UNSUPPORTED` */
export function endpointsOf(url: string): readonly string[] {
  const endpoints = url.slice('etcd://'.length).split(',')
  const isEndpoint = (one: string) => /^(\[[0-9a-fA-F:]+\]|[0-9A-Za-z.-]+):\d{1,5}$/.test(one)
  if (url.startsWith('etcd://') && endpoints.every(isEndpoint)) return endpoints
  const message = 'name host and port of each member, as in etcd://h1:2379,h2:2379,h3:2379'
  throw new StoreError('UNSUPPORTED', message)
}
