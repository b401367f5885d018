/** From the setting `store` to an open store. */
import { StoreError } from './error.ts'
import { type EtcdOptions, openEtcdStore } from './etcd.ts'
import { openLevelDbStore } from './leveldb.ts'
import { openMemoryStore } from './memory.ts'
import type { Store } from './store.ts'

/** Opens the store that `url` names: `leveldb:<folder>`, `etcd://…` or `memory:`. */
export async function openStore(url: string, options: EtcdOptions = {}): Promise<Store> {
  const scheme = url.match(/^[a-z]+:/)?.[0]
  switch (scheme) {
    case 'leveldb:': {
      const dir = url.slice(scheme.length)
      if (dir !== '') return openLevelDbStore(dir)
      throw new StoreError('UNSUPPORTED', `${url}: name the folder, as in leveldb:<folder>`)
    }
    case 'memory:':
      return openMemoryStore()
    case 'etcd:':
      return openEtcdStore(url, options)
    default:
      throw new StoreError(
        'UNSUPPORTED',
        `${url}: a store is leveldb:<folder>, etcd://<host>:<port>,… or memory:`,
      )
  }
}
