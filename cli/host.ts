/** Hosts, and which of their interfaces are which ports. */
import type { Item } from './client.ts'
import { type Collection, readOnly, stored, textOf } from './collection.ts'
import { missing } from './error.ts'
import { choice, field, number } from './field.ts'

const storedHost = readOnly(
  stored({
    name: 'host',
    alias: 'host',
    kind: 'host',
    fields: [
      field('name', 'name'),
      // Set by what lists and finds hosts.
      field('alive', 'alive'),
      {
        name: 'addresses',
        read: (item) => interfacesOf(item).flatMap(addressesOf).map(withoutLength).join(','),
      },
    ],
  }),
)

/** A host, and whether its agent runs. */
const host: Collection = {
  ...storedHost,
  async list(client, parent) {
    const [all, alive] = await Promise.all([
      storedHost.list(client, parent),
      client.list('hostAlive'),
    ])
    const ids = new Set(alive.map(({ id }) => id))
    return all.map((item) => ({ ...item, alive: ids.has(item.id) }))
  },
  async find(client, id) {
    const found = await client.find('host', id)
    if (found === undefined) return undefined
    return { ...found, alive: (await client.find('hostAlive', id)) !== undefined }
  },
}

/** The host's own interfaces: what ports may be bound to. */
const interfaces: Collection = {
  name: 'interface',
  alias: undefined,
  parent: 'host',
  attributes: ['iface', 'status', 'addresses', 'mac', 'mtu'].map((name) => ({
    name,
    readOnly: true,
  })),
  list: async (client, above) => {
    const found = above && (await client.find('host', above.id))
    return found === undefined ? [] : interfacesOf(found)
  },
  read: (item, attribute) => {
    if (attribute === 'iface') return item.id
    if (attribute === 'status') return item.up === true ? 'up' : 'down'
    if (attribute === 'addresses') return addressesOf(item).join(',') || undefined
    return textOf(item[attribute])
  },
}

function interfacesOf({ interfaces: all }: Item): readonly Item[] {
  return Array.isArray(all) ? all.map((one) => ({ ...one, id: String(one.name) })) : []
}

function addressesOf({ addresses }: Item): readonly string[] {
  return Array.isArray(addresses) ? addresses.map(String) : []
}

function withoutLength(cidr: string): string {
  return cidr.slice(0, cidr.lastIndexOf('/'))
}

/** A binding has the id of its port. */
const binding: Collection = {
  name: 'binding',
  alias: undefined,
  parent: 'host',
  attributes: [
    { name: 'host', refers: 'host', readOnly: true },
    { name: 'interface' },
    { name: 'port', refers: 'port' },
  ],
  list: (client, above) => client.list('binding', above && { host: above.id }),
  parentOf: (item) => textOf(item.host),
  read: (item, attribute) =>
    attribute === 'port'
      ? item.id
      : attribute === 'host'
        ? textOf(item.host)
        : textOf(item.interface),
  async create(client, above, values) {
    const value = {
      id: values.get('port')?.text ?? missing('port PORT'),
      host: above?.id ?? missing('a host'),
      interface: values.get('interface')?.text ?? missing('interface NAME'),
    }
    const [made] = await client.transact([{ op: 'create', kind: 'binding', value }])
    return made ?? (value as Item)
  },
  async remove(client, item) {
    await client.transact([{ op: 'delete', kind: 'binding', id: item.id }])
  },
}

const tunnelZone = stored({
  name: 'tunnel-zone',
  alias: 'tzone',
  kind: 'tunnelZone',
  fields: [
    field('name', 'name'),
    choice('type', 'encapsulation', { vxlan: 'vxlan', gre: 'gre', geneve: 'geneve' }),
    number('port', 'udpPort'),
  ],
})

/** Which hosts are in a zone, and by which address. */
const member: Collection = {
  name: 'member',
  alias: undefined,
  parent: 'tunnel-zone',
  attributes: [
    { name: 'tunnel-zone', refers: 'tunnel-zone', readOnly: true },
    { name: 'host', refers: 'host' },
    { name: 'address' },
  ],
  list: (client, above) => client.list('zoneMember', above && { zone: above.id }),
  parentOf: (item) => textOf(item.zone),
  read: (item, attribute) => textOf(item[attribute === 'tunnel-zone' ? 'zone' : attribute]),
  async create(client, above, values) {
    const zone = above?.id ?? missing('a tunnel-zone')
    const host = values.get('host')?.text ?? missing('host HOST')
    const address = values.get('address')?.text ?? missing('address ADDRESS')
    const value = { id: `${zone}_${host}`, zone, host, address }
    const [made] = await client.transact([{ op: 'create', kind: 'zoneMember', value }])
    return made ?? (value as Item)
  },
  async remove(client, item) {
    await client.transact([{ op: 'delete', kind: 'zoneMember', id: item.id }])
  },
}

export const hosts: readonly Collection[] = [host, interfaces, binding, tunnelZone, member]
