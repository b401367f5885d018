/** What this host says of itself in the topology, and opening the store as this host. */
import { hostname, networkInterfaces } from 'node:os'
import type { Links } from '../datapath/link.ts'
import type { Host } from '../topology/model.ts'
import { openStore } from '../topology/open.ts'
import type { Store } from '../topology/store.ts'
import { bindPort } from '../topology/tunnel.ts'
import type { Settings } from './settings.ts'

/** Interfaces that the agent or Docker made: they come and go, and no tunnel runs over them. */
const madeByUs = /^(lo|m[npu][0-9a-f]{11}|veth.*|docker0|br-[0-9a-f]{12}|midonet.*)$/

/** Opens the store of the settings for host `host`. @throws StoreError */
export function openHostStore(settings: Settings, host: string | undefined): Promise<Store> {
  return openStore(settings.store, {
    host,
    caFile: settings.storeCa,
    certFile: settings.storeCert,
    keyFile: settings.storeKey,
    user: settings.storeUser,
    password: settings.storePassword,
    ...(host !== undefined && { replicaDir: `${settings.stateDir}/replica` }),
  })
}

/** The host's own interfaces with their addresses, in order of name. */
export function interfacesOf(links: Pick<Links, 'list'>): NonNullable<Host['interfaces']> {
  const addresses = networkInterfaces()
  return links
    .list()
    .filter(({ name }) => !madeByUs.test(name))
    .slice(0, 256)
    .map(({ name, mtu, up, mac }) => ({
      name,
      mtu,
      up,
      ...(mac !== undefined && !/^(00:){5}00$/.test(mac) && { mac }),
      addresses: (addresses[name] ?? [])
        .filter(({ address }) => !address.startsWith('fe80:'))
        .flatMap(({ cidr }) => cidr ?? [])
        .slice(0, 64),
    }))
    .sort((a, b) => (a.name < b.name ? -1 : 1))
}

/**
 * Writes what the host is, that it is alive, and tunnel keys of its ports that have none. Without
 * the store (its replica is used) it is written when the agent starts the next time.
 */
export async function registerHost(store: Store, host: Host): Promise<void> {
  await store.transact((draft) => {
    draft.put('host', host)
    draft.put('hostAlive', { id: host.id, since: new Date().toISOString() })
    for (const fact of draft.list('portActive')) {
      const isHere = draft.get('binding', fact.id)?.host === host.id
      if (fact.host === host.id && !isHere) draft.delete('portActive', fact.id)
    }
    for (const binding of draft.list('binding'))
      if (binding.host === host.id && binding.tunnelKey === undefined) bindPort(draft, binding)
  })
}

/** The host as it is now. */
export function thisHost(id: string, links: Pick<Links, 'list'>): Host {
  return { id, name: hostname(), interfaces: interfacesOf(links) }
}
