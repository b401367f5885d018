/** Hosts, and which of their interfaces are which ports. */
import type { Item } from './client.ts'
import { type Collection, stored, textOf } from './collection.ts'
import { CliError } from './error.ts'
import { field } from './field.ts'

const {
  create: _,
  set: __,
  remove: ___,
  ...host
} = stored({
  name: 'host',
  alias: 'host',
  kind: 'host',
  fields: [field('name', 'name', { readOnly: true })],
})

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

function missing(what: string): never {
  throw new CliError('SYNTAX', `Missing arguments, incomplete command (${what})`)
}

export const hosts: readonly Collection[] = [host, binding]
