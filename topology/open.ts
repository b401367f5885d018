/** From the setting `store` to an open store. */
import { StoreError } from './error.ts'
import { openMemoryStore } from './memory.ts'
import type { Store } from './store.ts'

/** Opens the store that `url` names: `leveldb:<folder>` or `memory:`. */
export async function openStore(url: string): Promise<Store> {
  const scheme = /^[a-z]+:/.exec(url)?.[0]
  switch (scheme) {
    case 'memory:':
      return openMemoryStore()
    case 'etcd:':
      throw new StoreError(
        'UNSUPPORTED',
        `${url}: this version has the embedded store only; use leveldb:<folder>`,
      )
    default:
      throw new StoreError('UNSUPPORTED', `${url}: a store is leveldb:<folder> or memory:`)
  }
}
