/** Routers, bridges, their ports and routes. */
import { randomBytes } from 'node:crypto'
import type { Change, Client, Item } from './client.ts'
import { type Collection, stored, textOf, type Values } from './collection.ts'
import { CliError } from './error.ts'
import { type Field, field, number, reference, references, state } from './field.ts'
import { balancer, deviceMirrors, portMirrors, splitNaming, withNaming } from './mirrored.ts'

const name = field('name', 'name')
const filters = [
  reference('infilter', 'inboundChain', 'chain'),
  reference('outfilter', 'outboundChain', 'chain'),
]

const qosPolicy = reference('qos-policy', 'qosPolicy', 'qos-policy')
/** Of what leaves by the port, or by the ports of the bridge; bytes of an IP packet. */
const mtu = number('mtu', 'mtu')

const router = device('router', [balancer, number('asn', 'asn')])
const bridge = device('bridge', [qosPolicy, mtu])

function device(kind: string, fields: readonly Field[]): Collection {
  const devices = stored({
    name: kind,
    alias: kind,
    kind,
    defaults: () => ({ adminUp: true }),
    split: splitNaming,
    fields: [name, state, ...filters, ...fields, ...deviceMirrors],
  })
  return {
    ...devices,
    list: async (client, parent) => withNaming(client, await devices.list(client, parent)),
    async find(client, id) {
      const found = await client.find(kind, id)
      return found && (await withNaming(client, [found]))[0]
    },
  }
}

/** Set by the list of ports: whether an interface of a host is bound to it. */
const plugged: Field = {
  name: 'plugged',
  readOnly: true,
  read: (item) => (item.plugged === undefined ? undefined : item.plugged === true ? 'yes' : 'no'),
}

/** Set by the list of ports: Docker's name for what is behind it. */
const container: Field = {
  name: 'container',
  readOnly: true,
  read: (item) => (item.plugged === true ? textOf(item.container) : undefined),
}

/** Set by the list of ports: whether the interface is in its host's datapath. */
const active: Field = {
  name: 'active',
  readOnly: true,
  hidden: true,
  read: (item) => (item.active === undefined ? undefined : String(item.active)),
}

const commonOfPorts = [state, plugged, active, container, ...filters]
const linksOfPorts = [
  reference('peer', 'peer', 'port'),
  references('port-groups', 'portGroups', 'port-group'),
  ...portMirrors,
]

/** `address A net N` for one, `addresses C,C` for several; both are taken. */
const addresses: readonly Field[] = [
  {
    name: 'address',
    read: (item) => (isSingle(item) ? addressesOf(item)[0]?.split('/')[0] : undefined),
  },
  { name: 'net', read: (item) => (isSingle(item) ? networkOf(addressesOf(item)[0]) : undefined) },
  {
    name: 'addresses',
    read: (item) => (isSingle(item) ? undefined : addressesOf(item).join(',') || undefined),
  },
]

const routerPortFields: readonly Field[] = [
  reference('device', 'router', 'router', { readOnly: true }),
  ...commonOfPorts,
  field('mac', 'mac'),
  mtu,
  ...addresses,
  ...linksOfPorts,
]
const bridgePortFields: readonly Field[] = [
  reference('device', 'bridge', 'bridge', { readOnly: true }),
  ...commonOfPorts,
  number('vlan', 'vlan'),
  ...linksOfPorts,
  qosPolicy,
]

const routerPort = portCollection({
  parent: { collection: 'router', field: 'router' },
  fixed: { kind: 'router' },
  defaults: () => ({ adminUp: true, mac: randomMac(), addresses: [] }),
  fields: routerPortFields,
  combine: combineAddresses,
})

const bridgePort = portCollection({
  parent: { collection: 'bridge', field: 'bridge' },
  fixed: { kind: 'bridge' },
  defaults: () => ({ adminUp: true }),
  fields: bridgePortFields,
})

/** All ports, of whatever device. */
const anyPort: Collection = {
  ...portCollection({
    fields: [
      ...new Map([...bridgePortFields, ...routerPortFields].map((f) => [f.name, f])).values(),
    ],
    combine: combineAddresses,
  }),
  read: (item, attribute) =>
    (item.kind === 'router' ? routerPort : bridgePort).read(item, attribute),
  parentOf: (item) => textOf(item.router ?? item.bridge),
}

function portCollection(
  settings: Omit<Parameters<typeof stored>[0], 'name' | 'alias' | 'kind'>,
): Collection {
  const ports = stored({
    name: 'port',
    alias: 'port',
    kind: 'port',
    along: linkAlong,
    split: splitNaming,
    ...settings,
  })
  const { create: _, ...others } = ports
  return {
    ...(settings.parent === undefined ? others : ports),
    async find(client, id) {
      const found = await client.find('port', id)
      return found && (await withNaming(client, [found]))[0]
    },
    async list(client, parent) {
      const [items, bindings, actives, names] = await Promise.all([
        ports.list(client, parent),
        client.list('binding'),
        client.list('portActive'),
        client.names(),
      ])
      const bound = new Set(bindings.map(({ id }) => id))
      const active = new Set(actives.map(({ id }) => id))
      return (await withNaming(client, items)).map((item) => ({
        ...item,
        plugged: bound.has(item.id),
        active: active.has(item.id),
        container: names[item.id],
      }))
    },
  }
}

/** A link names both of its ports: the other one is changed with this one. */
async function linkAlong(
  client: Client,
  item: Item | undefined,
  object: Readonly<Record<string, unknown>>,
): Promise<readonly Change[]> {
  if (object.peer === undefined || object.peer === item?.peer) return []
  const changes: Change[] = []
  const unlink = (id: unknown) => {
    if (typeof id === 'string' && id !== object.peer && id !== item?.id)
      changes.push({ op: 'patch', kind: 'port', id, value: { peer: null } })
  }
  unlink(item?.peer)
  if (typeof object.peer !== 'string') return changes
  unlink((await client.find('port', object.peer))?.peer)
  const peer = item?.id ?? object.id
  changes.push({ op: 'patch', kind: 'port', id: object.peer, value: { peer } })
  return changes
}

function combineAddresses(
  item: Item | undefined,
  values: Values,
): Readonly<Record<string, unknown>> {
  const all = values.get('addresses')
  const [one, within] = [values.get('address'), values.get('net')]
  if (all !== undefined) return byFamily(all.text?.split(',') ?? [])
  if (one === undefined && within === undefined) return {}
  const [standing = ''] = addressesOf(item ?? { id: '' })
  const host = one === undefined ? standing.split('/')[0] : one.text
  const network = within === undefined ? networkOf(standing) : within.text
  if (host === undefined || host === '') return byFamily([])
  if (host.includes('/')) return byFamily([host])
  const length = /\/(\d+)$/.exec(network ?? '')?.[1]
  if (length === undefined)
    throw new CliError('SYNTAX', `Syntax error at: address ${host} (net ADDRESS/LENGTH is missing)`)
  return byFamily([`${host}/${length}`])
}

/** Addresses of IPv4 and of IPv6 are two fields of a port. */
function byFamily(all: readonly string[]): Readonly<Record<string, unknown>> {
  const six = all.filter((cidr) => cidr.includes(':'))
  return {
    addresses: all.filter((cidr) => !cidr.includes(':')),
    addresses6: six.length > 0 ? six : null,
  }
}

function addressesOf({ addresses, addresses6 }: Item): readonly string[] {
  return [addresses, addresses6].flatMap((list) => (Array.isArray(list) ? list.map(String) : []))
}

function isSingle(item: Item): boolean {
  return addressesOf(item).length === 1
}

/** The network of an IPv4 address with its length; of IPv6 the address as it stands. */
function networkOf(cidr: string | undefined): string | undefined {
  const found = /^(\d+)\.(\d+)\.(\d+)\.(\d+)\/(\d+)$/.exec(cidr ?? '')
  if (found === null) return cidr
  const bytes = found.slice(1, 5).map(Number)
  const length = Number(found[5])
  const masked = bytes.map((byte, at) => {
    const bits = Math.max(0, Math.min(8, length - at * 8))
    return byte & (0xff << (8 - bits)) & 0xff
  })
  return `${masked.join('.')}/${length}`
}

/** One of our own: locally administered, of one station. */
function randomMac(): string {
  const bytes = [2, ...randomBytes(5)]
  return bytes.map((byte) => byte.toString(16).padStart(2, '0')).join(':')
}

export const devices: readonly Collection[] = [router, bridge, anyPort, routerPort, bridgePort]
