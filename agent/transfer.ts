/** `midonet store export` and `import`: a topology to a file, or from one store to another. */
import { readFileSync, writeFileSync } from 'node:fs'
import { StoreError } from '../topology/error.ts'
import { endpointsOf } from '../topology/etcd.ts'
import { EtcdClient } from '../topology/etcd-client.ts'
import { importToEtcd } from '../topology/etcd-import.ts'
import { exportText, importText } from '../topology/transfer.ts'
import { etcdAccessOf, openHostStore } from './host.ts'
import type { Settings } from './settings.ts'

/** Asks the agent that runs here for its topology as text. */
export type AskAgent = () => Promise<string>

/** The topology of the settings' store; from the agent, when it has the store open. */
export async function exportTopology(settings: Settings, ask: AskAgent): Promise<string> {
  try {
    const store = await openHostStore(settings, undefined)
    try {
      return exportText(store)
    } finally {
      await store.close()
    }
  } catch (error) {
    if (error instanceof StoreError && error.code === 'LOCKED') return ask()
    throw error
  }
}

/** Writes it to a file that only its owner can read. */
export function writeTopology(file: string, text: string): void {
  writeFileSync(file, text, { mode: 0o600 })
}

/** From a file, or a store's URL, into the store `to`. Returns how many objects. */
export async function importTopology(
  settings: Settings,
  from: string,
  to: string,
  ask: AskAgent,
): Promise<number> {
  const isStore = /^(leveldb|etcd):/.test(from)
  const text = isStore
    ? await exportTopology({ ...settings, store: from }, ask)
    : readFileSync(from, 'utf8')
  if (to.startsWith('etcd:')) return importAtEtcd(settings, to, text)
  const store = await openHostStore({ ...settings, store: to }, undefined)
  try {
    return await importText(store, text)
  } finally {
    await store.close()
  }
}

async function importAtEtcd(settings: Settings, url: string, text: string): Promise<number> {
  const client = new EtcdClient({ endpoints: endpointsOf(url), ...etcdAccessOf(settings) })
  try {
    return await importToEtcd(client, text)
  } finally {
    client.close()
  }
}
