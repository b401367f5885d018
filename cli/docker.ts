/** What Docker's side keeps in the topology: to be looked at, Docker and the agents change it. */
import { type Collection, readOnly, stored } from './collection.ts'
import { type Field, field, number, reference } from './field.ts'

const host = reference('host', 'host', 'host')
const router = reference('router', 'router', 'router')

function kept(name: string, kind: string, fields: readonly Field[]): Collection {
  return readOnly(stored({ name, alias: name, kind, fields }))
}

export const dockers: readonly Collection[] = [
  kept('network', 'network', [
    reference('bridge', 'bridge', 'bridge'),
    router,
    field('gateway-mode', 'gatewayMode'),
    field('internal', 'internal'),
    number('mtu', 'mtu'),
    host,
  ]),
  kept('endpoint', 'endpoint', [
    reference('network', 'network', 'network'),
    host,
    field('mac', 'mac'),
    field('address', 'address'),
    field('address6', 'address6'),
    field('interface', 'interface'),
  ]),
  kept('uplink', 'uplink', [
    router,
    host,
    field('interface', 'interface'),
    field('address', 'hostAddress'),
    field('mac', 'hostMac'),
  ]),
  kept('address-pool', 'pool', [
    field('space', 'space'),
    field('subnet', 'subnet'),
    field('range', 'range'),
    number('references', 'references'),
  ]),
  kept('address', 'address', [
    reference('pool', 'pool', 'address-pool'),
    field('address', 'address'),
    field('gateway', 'gateway'),
    host,
  ]),
]
