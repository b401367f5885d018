/** Routes, and what the agents have learned: routes of BGP, neighbours of routers, stations of bridges. */
import type { Item } from './client.ts'
import { type Collection, readOnly, stored } from './collection.ts'
import { CliError } from './error.ts'
import { choice, field, number, reference } from './field.ts'

const storedRoute = stored({
  name: 'route',
  alias: 'route',
  kind: 'route',
  parent: { collection: 'router', field: 'router' },
  defaults: () => ({ action: 'port', weight: 100 }),
  // From anywhere, of the same family.
  combine: (item, values) => {
    if (item !== undefined || values.has('src')) return {}
    return { src: values.get('dst')?.text?.includes(':') === true ? '::/0' : '0.0.0.0/0' }
  },
  fields: [
    choice('type', 'action', {
      normal: 'port',
      blackhole: 'blackhole',
      reject: 'reject',
      local: 'local',
    }),
    field('src', 'src'),
    field('dst', 'dst'),
    field('gw', 'gateway'),
    reference('port', 'port', 'port'),
    number('weight', 'weight'),
    field('learned', 'learned', { readOnly: true }),
  ],
})

/** Configured routes, and those that routing protocols brought. */
const route: Collection = {
  ...storedRoute,
  async list(client, parent) {
    const filter = parent && { router: parent.id }
    const [own, learned] = await Promise.all([
      storedRoute.list(client, parent),
      client.list('learnedRoute', filter),
    ])
    return [...own, ...learned.map(asRoute)]
  },
  async find(client, id) {
    const own = await client.find('route', id)
    if (own !== undefined) return own
    const learned = await client.find('learnedRoute', id)
    return learned && asRoute(learned)
  },
  set: (client, item, values) => configured(item, () => storedRoute.set?.(client, item, values)),
  remove: (client, item, parent) =>
    configured(item, () => storedRoute.remove?.(client, item, parent)),
}

/** A learned route as `list route` shows it. */
function asRoute(item: Item): Item {
  const src = String(item.dst).includes(':') ? '::/0' : '0.0.0.0/0'
  return { ...item, src, action: 'port', learned: true }
}

/** @throws CliError when the route is a learned one */
async function configured(item: Item, work: () => Promise<void> | undefined): Promise<void> {
  if (item.learned === true)
    throw new CliError('REFUSED', 'the route is learned: it goes when its peer takes it back')
  await work()
}

/** Who answers at which address behind a router's ports. */
const neighbor = readOnly(
  stored({
    name: 'neighbor',
    alias: undefined,
    kind: 'learnedNeighbor',
    parent: { collection: 'router', field: 'router' },
    fields: [
      field('address', 'address'),
      field('mac', 'mac'),
      reference('port', 'port', 'port'),
      reference('host', 'host', 'host'),
    ],
  }),
)

/** Stations that were seen behind a bridge's ports. */
const mac = readOnly(
  stored({
    name: 'mac',
    alias: undefined,
    kind: 'learnedMac',
    parent: { collection: 'bridge', field: 'bridge' },
    fields: [
      field('mac', 'mac'),
      number('vlan', 'vlan'),
      reference('port', 'port', 'port'),
      reference('host', 'host', 'host'),
    ],
  }),
)

export const routes: readonly Collection[] = [route, neighbor, mac]
