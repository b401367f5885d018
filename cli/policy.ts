/** Chains, their rules, and the groups that rules name. */
import type { Change, Client, Item } from './client.ts'
import { type Collection, isObject, stored, textOf, type Values } from './collection.ts'
import { conditionFields } from './condition.ts'
import { CliError, missing, syntaxError } from './error.ts'
import { at, type Field, field, flag, number, readNumber } from './field.ts'
import { redirectFields, redirectOf, redirectParts } from './redirect.ts'

const name = field('name', 'name')

const chain = stored({ name: 'chain', alias: 'chain', kind: 'chain', fields: [name] })

/** What the words of `type` are in the topology; NAT has its own below. */
const plainTypes = ['accept', 'continue', 'drop', 'reject', 'return'] as const
const natTypes = ['snat', 'dnat', 'rev_snat', 'rev_dnat', 'masquerade'] as const
const prefixTypes = ['prefix_snat', 'prefix_dnat'] as const
const types = [...plainTypes, 'jump', 'redirect', ...natTypes, ...prefixTypes]

const actionFields: readonly Field[] = [
  { name: 'type', values: types, read: typeOf },
  {
    name: 'action',
    values: ['accept', 'continue', 'return'],
    read: (item) => textOf(at(item, 'action.verdict')),
  },
  { name: 'jump-to', refers: 'chain', read: (item) => textOf(at(item, 'action.chain')) },
  { name: 'from', read: (item) => textOf(at(item, 'action.from')) },
  { name: 'target', read: targetOf },
  ...redirectFields,
]

const rule = stored({
  name: 'rule',
  alias: 'rule',
  kind: 'rule',
  parent: { collection: 'chain', field: 'chain' },
  // As the original: a new rule comes first unless it says where.
  defaults: () => ({ position: 1 }),
  fields: [number('pos', 'position'), ...actionFields, ...conditionFields('condition')],
  combine: combineAction,
  along: makeRoom,
})

function typeOf(item: Item): string | undefined {
  const kind = textOf(at(item, 'action.kind'))
  switch (kind) {
    case 'staticSnat':
      return 'snat'
    case 'staticDnat':
      return 'dnat'
    case 'reverseSnat':
      return 'rev_snat'
    case 'reverseDnat':
      return 'rev_dnat'
    case 'prefixSnat':
      return 'prefix_snat'
    case 'prefixDnat':
      return 'prefix_dnat'
    default:
      return kind
  }
}

/**
 * `first[-last][:port[-port]]`, several with commas between; IPv6 addresses in brackets. Of a prefix
 * the one that takes its place.
 */
function targetOf(item: Item): string | undefined {
  const address = at(item, 'action.address') ?? at(item, 'action.to')
  if (typeof address === 'string') return address
  const ports = at(item, 'action.ports')
  if (isObject(ports)) return `:${range(ports.first, ports.last)}`
  const targets = at(item, 'action.targets')
  if (!Array.isArray(targets)) return undefined
  return targets
    .map((target) => {
      const addresses = range(at(target, 'first'), at(target, 'last'))
      const portRange = at(target, 'ports')
      const host = addresses.includes(':') ? `[${addresses}]` : addresses
      return isObject(portRange) ? `${host}:${range(portRange.first, portRange.last)}` : addresses
    })
    .join(',')
}

function range(first: unknown, last: unknown): string {
  return first === last ? `${first}` : `${first}-${last}`
}

/** The rule's action, of what it was and what is typed. */
function combineAction(item: Item | undefined, values: Values): Readonly<Record<string, unknown>> {
  const typed = actionFields.filter((one) => values.has(one.name))
  if (typed.length === 0) {
    if (item !== undefined) return {}
    throw new CliError('SYNTAX', `Missing arguments, incomplete command (type ${types.join('|')})`)
  }
  const word = (attribute: string) => {
    const value = values.get(attribute)
    if (value !== undefined) return value.text
    return item && actionFields.find((one) => one.name === attribute)?.read(item)
  }
  const type = word('type')
  // Passed over, it would leave a rule that translates more than was meant.
  const from = values.get('from')?.text
  if (from !== undefined && !prefixTypes.some((one) => one === type))
    throw syntaxError(['from', from], `only of type ${prefixTypes.join(', ')}; else src or dst`)
  // A merge patch merges: what another kind of action had must go.
  const clean = { ...natParts, chain: null, verdict: null }
  return { action: { ...clean, ...redirectParts, ...actionOf(type, word) } }
}

const natParts = { address: null, targets: null, ports: null, from: null, to: null } as const

function actionOf(type: string | undefined, word: (name: string) => string | undefined) {
  const verdict = word('action') ?? 'accept'
  switch (type) {
    case 'jump':
      return { kind: 'jump', chain: word('jump-to') ?? missing('jump-to CHAIN') }
    // The original's older word.
    case 'l2-transform':
    case 'redirect':
      return redirectOf(word)
    case 'rev_snat':
      return { kind: 'reverseSnat', verdict }
    case 'rev_dnat':
      return { kind: 'reverseDnat', verdict }
    case 'masquerade':
      return { kind: 'masquerade', ports: readPorts(word('target') ?? ':1024-65535'), verdict }
    case 'snat':
    case 'dnat':
      return natOf(type, word('target') ?? missing('target ADDRESS[:PORT]'), verdict)
    case 'prefix_snat':
    case 'prefix_dnat':
      return {
        kind: type === 'prefix_snat' ? 'prefixSnat' : 'prefixDnat',
        from: readPrefix('from', word('from')),
        to: readPrefix('target', word('target')),
        verdict,
      }
    default:
      if (plainTypes.some((one) => one === type)) return { kind: type }
      throw new CliError(
        'SYNTAX',
        `Syntax error at: type ${type ?? ''} (one of ${types.join(', ')})`,
      )
  }
}

/** One address without ports is translated without state. */
function natOf(type: 'snat' | 'dnat', text: string, verdict: string) {
  const targets = text.split(',').map(readTarget)
  const [first, ...others] = targets
  if (first !== undefined && others.length === 0 && first.first === first.last && !first.ports)
    return { kind: type === 'snat' ? 'staticSnat' : 'staticDnat', address: first.first, verdict }
  return { kind: type, targets, verdict }
}

function readTarget(text: string) {
  const found = /^(?:\[([^\]]+)\]|([^:[\]]+|[^[\]]*:[^[\]]*:[^[\]]*))(?::(\d+(?:-\d+)?))?$/.exec(
    text,
  )
  const addresses = found?.[1] ?? found?.[2]
  if (addresses === undefined)
    throw new CliError(
      'SYNTAX',
      `Syntax error at: target ${text} (ADDRESS[-ADDRESS][:PORT[-PORT]])`,
    )
  const [first = '', last = first] = addresses.split('-')
  const ports = found?.[3]
  return { first, last, ...(ports !== undefined && { ports: readPorts(`:${ports}`) }) }
}

function readPrefix(name: string, text: string | undefined): string {
  if (text === undefined) return missing(`${name} PREFIX/LENGTH`)
  if (/^[\da-f.:]*:[\da-f.:]*\/\d+$/i.test(text)) return text
  throw syntaxError([name, text], 'an IPv6 network such as fd00::/64')
}

function readPorts(text: string) {
  const found = /^:?(\d+)(?:-(\d+))?$/.exec(text)
  if (found === null) throw new CliError('SYNTAX', `Syntax error at: target ${text} (PORT-PORT)`)
  const first = readNumber('target', found[1] ?? '')
  return { first, last: readNumber('target', found[2] ?? String(first)) }
}

/** A rule put where one stands moves that one and those right behind it down by one. */
async function makeRoom(
  client: Client,
  item: Item | undefined,
  object: Readonly<Record<string, unknown>>,
): Promise<readonly Change[]> {
  const { position } = object
  if (typeof position !== 'number' || position === item?.position) return []
  const chainId = String(item?.chain ?? object.chain)
  const taken = new Map<unknown, Item>()
  for (const other of await client.list('rule', { chain: chainId }))
    if (other.id !== item?.id) taken.set(other.position, other)
  const changes: Change[] = []
  let at = position
  for (let other = taken.get(at); other !== undefined; other = taken.get(at))
    changes.push({ op: 'patch', kind: 'rule', id: other.id, value: { position: ++at } })
  return changes
}

const portGroup = stored({
  name: 'port-group',
  alias: 'pgroup',
  kind: 'portGroup',
  fields: [name, flag('stateful', 'stateful')],
})

/** A port's membership is kept with the port. */
const member: Collection = {
  name: 'member',
  alias: undefined,
  parent: 'port-group',
  attributes: [
    { name: 'port-group', refers: 'port-group', readOnly: true, hidden: true },
    { name: 'port', refers: 'port' },
  ],
  list: async (client, group) =>
    (await client.list('port', { portGroups: group?.id ?? '' })).map(({ id }) => ({
      id,
      group: group?.id,
    })),
  read: (item, attribute) => (attribute === 'port' ? item.id : textOf(item.group)),
  async create(client, group, values) {
    const id = values.get('port')?.text ?? missing('port PORT')
    await client.transact([await membership(client, id, group?.id, true)])
    return { id, group: group?.id }
  },
  async remove(client, item) {
    await client.transact([await membership(client, item.id, textOf(item.group), false)])
  },
}

async function membership(
  client: Client,
  id: string,
  group: string | undefined,
  isIn: boolean,
): Promise<Change> {
  const port = await client.find('port', id)
  if (port === undefined) throw new CliError('NOT_FOUND', `there is no port ${id}`)
  const others = (Array.isArray(port.portGroups) ? port.portGroups : []).filter((g) => g !== group)
  const portGroups = isIn ? [...others, group] : others
  return {
    op: 'patch',
    kind: 'port',
    id,
    value: { portGroups: portGroups.length > 0 ? portGroups : null },
  }
}

const addressGroup = stored({
  name: 'ip-address-group',
  alias: 'ipg',
  kind: 'addressGroup',
  defaults: () => ({ addresses: [] }),
  fields: [name],
})

/** The addresses of a group are a list within it; `ipv4` and `ipv6` are those of either family. */
const groupAddresses: readonly Collection[] = ['ip', 'ipv4', 'ipv6'].map((name) => ({
  name,
  alias: undefined,
  parent: 'ip-address-group',
  attributes: [{ name: 'address' }],
  list: async (client, group) => {
    const standing = group && (await client.find('addressGroup', group.id))
    return addressesOf(standing)
      .filter((address) => name === 'ip' || address.includes(':') === (name === 'ipv6'))
      .map((address) => ({ id: address, group: group?.id }))
  },
  read: (item) => item.id,
  async create(client, group, values) {
    const address = values.get('address')?.text ?? missing('address ADDRESS')
    await changeAddresses(client, group, (all) => [...all.filter((a) => a !== address), address])
    return { id: address, group: group?.id }
  },
  async remove(client, item, group) {
    await changeAddresses(client, group, (all) => all.filter((address) => address !== item.id))
  },
}))

async function changeAddresses(
  client: Client,
  group: Item | undefined,
  change: (all: readonly string[]) => readonly string[],
): Promise<void> {
  const standing = group && (await client.find('addressGroup', group.id))
  if (standing === undefined) throw new CliError('NOT_FOUND', 'the group is gone')
  const value = { addresses: change(addressesOf(standing)) }
  await client.transact([{ op: 'patch', kind: 'addressGroup', id: standing.id, value }])
}

function addressesOf(group: Item | undefined): readonly string[] {
  return Array.isArray(group?.addresses) ? group.addresses.map(String) : []
}

export const policy: readonly Collection[] = [
  chain,
  rule,
  portGroup,
  member,
  addressGroup,
  ...groupAddresses,
]
