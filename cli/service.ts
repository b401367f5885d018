/** What a bridge and its ports offer besides forwarding: DHCP, marks and limits, traces. */
import type { Item } from './client.ts'
import { type Collection, isObject, stored, textOf, type Values } from './collection.ts'
import { conditionFields } from './condition.ts'
import { CliError, missing } from './error.ts'
import { at, type Field, field, flag, number, readNumber } from './field.ts'

const name = field('name', 'name')

const dhcp = stored({
  name: 'dhcp',
  alias: 'dhcp',
  kind: 'dhcpSubnet',
  parent: { collection: 'bridge', field: 'bridge' },
  defaults: () => ({ enabled: true }),
  fields: [
    field('subnet', 'subnet'),
    field('gw', 'gateway'),
    field('server', 'server'),
    list('dns-servers', 'dnsServers', String, (text) => text),
    number('interface-mtu', 'mtu'),
    list(
      'opt121-routes',
      'routes',
      (route) => `${at(route, 'dst')}:${at(route, 'gateway')}`,
      (text) => pair('opt121-routes', text, ':', 'dst', 'gateway'),
    ),
    flag('enabled', 'enabled'),
    number('lease', 'leaseSeconds'),
    field('domain', 'domain'),
  ],
})

const dhcpHost = stored({
  name: 'host',
  alias: 'dhcp-host',
  kind: 'dhcpHost',
  parent: { collection: 'dhcp', field: 'subnet' },
  fields: [
    name,
    field('address', 'address'),
    field('mac', 'mac'),
    list(
      'options',
      'options',
      (one) => `${at(one, 'option')}=${at(one, 'value')}`,
      (text) => {
        const { option, value } = pair('options', text, '=', 'option', 'value')
        return { option: /^\d+$/.test(String(option)) ? Number(option) : option, value }
      },
    ),
  ],
})

/** Several values with commas between. */
function list(
  attribute: string,
  path: string,
  decode: (value: unknown) => string,
  encode: (text: string) => unknown,
): Field {
  return field(attribute, path, {
    decode: (value) =>
      Array.isArray(value) && value.length > 0 ? value.map(decode).join(',') : undefined,
    encode: (text) => text.split(',').map(encode),
  })
}

/** `A:B` as the two fields of an object. @throws CliError code `SYNTAX` */
function pair(
  attribute: string,
  text: string,
  between: string,
  first: string,
  second: string,
): Readonly<Record<string, unknown>> {
  const cut = text.indexOf(between)
  if (cut > 0) return { [first]: text.slice(0, cut), [second]: text.slice(cut + 1) }
  const form = `${first}${between}${second}`
  throw new CliError('SYNTAX', `Syntax error at: ${attribute} ${text} (${form}, commas between)`)
}

const qosPolicy = stored({
  name: 'qos-policy',
  alias: 'qos-policy',
  kind: 'qosPolicy',
  fields: [name],
})

/** A policy has one mark at most, and one limit: each is a field of it. */
function policyPart(
  part: string,
  path: string,
  attributes: Readonly<Record<string, string>>,
): Collection {
  const patchOf = (values: Values): unknown => {
    const typed = Object.entries(attributes).flatMap(([attribute, inside]) => {
      const text = values.get(attribute)?.text
      return text === undefined ? [] : [[inside, readNumber(attribute, text)] as const]
    })
    if (typed.length === 0) missing(Object.keys(attributes).join(' '))
    return attributes[Object.keys(attributes)[0] ?? ''] === ''
      ? typed[0]?.[1]
      : Object.fromEntries(typed)
  }
  return {
    name: part,
    alias: undefined,
    parent: 'qos-policy',
    attributes: Object.keys(attributes).map((attribute) => ({ name: attribute })),
    async list(client, policy) {
      const standing = policy && (await client.find('qosPolicy', policy.id))
      return standing === undefined || standing[path] === undefined ? [] : [standing]
    },
    read: (item, attribute) => {
      const inside = attributes[attribute]
      return textOf(inside === '' ? item[path] : at(item[path], inside ?? ''))
    },
    async create(client, policy, values) {
      const id = policyId(policy)
      const value = { [path]: patchOf(values) }
      const [changed] = await client.transact([{ op: 'patch', kind: 'qosPolicy', id, value }])
      return changed ?? { id }
    },
    async remove(client, item) {
      const value = { [path]: null }
      await client.transact([{ op: 'patch', kind: 'qosPolicy', id: item.id, value }])
    },
  }
}

function policyId(policy: Item | undefined): string {
  return policy?.id ?? missing('a qos-policy')
}

const dscpRule = policyPart('dscp-rule', 'dscp', { 'dscp-mark': '' })
const limitRule = policyPart('bw-limit-rule', 'bandwidth', {
  'max-kbps': 'kbps',
  'max-burst-kb': 'burstKb',
})

/** `port`, `router` or `bridge`: where packets are looked at. */
export const watched: readonly Field[] = (['port', 'router', 'bridge'] as const).map((kind) => ({
  name: kind,
  refers: kind,
  read: (item) => {
    const device = item.device
    return isObject(device) && device.kind === kind ? textOf(device.id) : undefined
  },
  write: ({ text }) => (text === undefined ? {} : { device: { kind, id: text } }),
}))

const traceRequest = stored({
  name: 'tracerequest',
  alias: 'tr',
  kind: 'traceRequest',
  defaults: () => ({ limit: 20, enabled: true }),
  fields: [
    name,
    ...watched,
    number('limit', 'limit'),
    flag('enabled', 'enabled'),
    ...conditionFields('condition'),
  ],
})

export const services: readonly Collection[] = [
  dhcp,
  dhcpHost,
  qosPolicy,
  dscpRule,
  limitRule,
  traceRequest,
]
