/**
 * The scripts' language for chains, groups and filters:
 *
 *   chain NAME                                 addresses GROUP IP,IP,…
 *   portgroup NAME                             filter KIND ID [in=CHAIN] [out=CHAIN] [groups=A,B]
 *   rule ID in CHAIN at POSITION ACTION [FIELD=VALUE…] [invert=yes] [then=accept|continue|return]
 *
 * ACTION is accept drop reject return continue, jump:CHAIN, staticSnat:IP, staticDnat:IP,
 * snat:FIRST[-LAST]:PORT-PORT, dnat:FIRST[-LAST][:PORT[-PORT]], masquerade:PORT-PORT, reverseSnat,
 * reverseDnat, prefixSnat:CIDR>CIDR, prefixDnat:CIDR>CIDR, redirect:PORT:out|in[:open][:pop]
 * [:push/VLAN[/PRIORITY]]; an IP of IPv6 stands in brackets. FIELD is a condition's name, VALUE with `!` before it is inverted.
 */
import type { Condition, Rule, RuleAction } from '../../topology/model.ts'
import { schemas } from '../../topology/model.ts'
import { put, type World } from './world.ts'

export interface Words {
  readonly plain: readonly string[]
  readonly options: ReadonlyMap<string, string>
}

type Command = (world: World, words: Words) => void

export const policyChanges: Readonly<Record<string, Command>> = {
  chain: (world, { plain: [id = ''] }) => world.put(put('chain', { id })),

  portgroup: (world, { plain: [id = ''] }) => world.put(put('portGroup', { id })),

  addresses: (world, { plain: [id = '', list = ''] }) =>
    world.put(put('addressGroup', { id, addresses: list === '' ? [] : list.split(',') })),

  rule: (world, words) => world.put(put('rule', readRule(words))),

  filter(world, { plain: [kind, id = ''], options }) {
    const chains = {
      ...(options.has('in') ? { inboundChain: options.get('in') } : {}),
      ...(options.has('out') ? { outboundChain: options.get('out') } : {}),
    }
    const groups = options.has('groups') ? { portGroups: options.get('groups')?.split(',') } : {}
    const port = world.topology.get('port', id)
    const bridge = world.topology.get('bridge', id)
    const router = world.topology.get('router', id)
    if (kind === 'port' && port !== undefined)
      world.put(put('port', schemas.port.parse({ ...port, ...chains, ...groups })))
    if (kind === 'bridge' && bridge !== undefined)
      world.put(put('bridge', { ...bridge, ...chains }))
    if (kind === 'router' && router !== undefined)
      world.put(put('router', { ...router, ...chains }))
  },
}

function readRule({ plain, options }: Words): Rule {
  const [id, , chain, , position, action = ''] = plain
  const condition = readCondition(options)
  const verdict = options.get('then') ?? 'accept'
  const value = { id, chain, position: Number(position), condition, action: readAction(action) }
  const isNat = /^(static|snat|dnat|masq|reverse|prefix)/.test(action)
  return schemas.rule.parse({
    ...value,
    action: isNat ? { ...value.action, verdict } : value.action,
  })
}

/** The condition that fields of a line say. */
export function readCondition(options: Words['options']): Record<string, unknown> {
  return Object.fromEntries(
    [...options].filter(([name]) => name !== 'then').map(([name, text]) => readField(name, text)),
  )
}

function readField(name: string, given: string): [name: string, value: unknown] {
  if (name === 'invert' || name === 'dstRewritten') return [name, given === 'yes']
  if (name === 'fragments') return [name, given]
  const not = given.startsWith('!')
  const text = not ? given.slice(1) : given
  return [name, { is: readValue(name as keyof Condition, text), ...(not ? { not } : {}) }]
}

function readValue(name: keyof Condition, text: string): unknown {
  switch (name) {
    case 'inPorts':
    case 'outPorts':
      return text.split(',')
    case 'traversed': {
      const [kind, id] = text.split('/')
      return { kind, id }
    }
    case 'ethSrc':
    case 'ethDst': {
      const [address, mask] = text.split('/')
      return { address, ...(mask === undefined ? {} : { mask }) }
    }
    case 'vlan':
      return text === 'none' ? text : Number(text)
    case 'ethType':
    case 'tos':
    case 'protocol':
      return Number(text)
    case 'srcPorts':
    case 'dstPorts':
      return readRange(text)
    default:
      return text
  }
}

function readRange(text: string) {
  const [first, last = first] = text.split('-').map(Number)
  return { first, last }
}

function readAction(text: string): Record<string, unknown> & { kind: RuleAction['kind'] | string } {
  const [kind = ''] = text.split(':')
  const rest = text.slice(kind.length + 1)
  if (kind === 'jump') return { kind, chain: rest }
  if (kind === 'masquerade') return { kind, ports: readRange(rest) }
  if (kind.startsWith('static')) return { kind, address: rest.replace(/^\[(.*)\]$/, '$1') }
  if (kind.startsWith('prefix')) {
    const [from, to] = rest.split('>')
    return { kind, from, to }
  }
  if (kind === 'redirect') return readRedirect(rest)
  if (kind !== 'snat' && kind !== 'dnat') return { kind }
  // An address of IPv6 stands in brackets.
  const six = /^\[([^\]]+)\](?:-\[([^\]]+)\])?(?::(.+))?$/.exec(rest)
  const [address = '', tail] = rest.split(':')
  const [first, last = first] = six === null ? address.split('-') : six.slice(1, 3)
  const ports = six === null ? tail : six[3]
  const range = ports === undefined ? {} : { ports: readRange(ports) }
  return { kind, targets: [{ first, last, ...range }] }
}

function readRedirect(text: string) {
  const [port, direction, ...rest] = text.split(':')
  const [vlan, priority] =
    rest
      .find((word) => word.startsWith('push/'))
      ?.split('/')
      .slice(1) ?? []
  return {
    kind: 'redirect',
    port,
    direction,
    ...(rest.includes('open') && { failOpen: true }),
    ...(rest.includes('pop') && { popVlan: true }),
    ...(vlan !== undefined && { pushVlan: Number(vlan) }),
    ...(priority !== undefined && { pushPriority: Number(priority) }),
  }
}
