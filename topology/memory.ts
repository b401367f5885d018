/** The engine without a disk, for tests and trials: what it holds ends with the process. */
import { Objects } from './objects.ts'
import { ReplicaStore } from './replica.ts'
import type { Store } from './store.ts'

/** An empty store in memory. */
export async function openMemoryStore(): Promise<Store> {
  const journal = { write: async () => {}, close: async () => {} }
  return new ReplicaStore(journal, { revision: 0, objects: new Objects() })
}
