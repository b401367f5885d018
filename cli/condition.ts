/** What a rule asks of a packet, as attributes; `!` before a value turns one over. */
import type { Item } from './client.ts'
import { isObject, type Value } from './collection.ts'
import { CliError } from './error.ts'
import { at, type Field, nest, readChoice, readNumber } from './field.ts'

type Codec = {
  readonly decode: (value: unknown) => string
  readonly encode: (text: string, name: string) => unknown
}

const plain: Codec = { decode: String, encode: (text) => text }

const numeric: Codec = {
  decode: String,
  encode: (text, name) => readNumber(name, text),
}

const protocols: Readonly<Record<string, unknown>> = {
  icmp: 1,
  tcp: 6,
  udp: 17,
  icmpv6: 58,
  sctp: 132,
}
const protocol: Codec = {
  decode: String,
  encode: (text, name) =>
    Object.hasOwn(protocols, text) ? protocols[text] : readNumber(name, text),
}

const ports: Codec = {
  decode: (value) => {
    const { first, last } = Object(value)
    return first === last ? `${first}` : `${first}-${last}`
  },
  encode: (text, name) => {
    const [first = '', last = first, ...rest] = text.split('-')
    if (rest.length > 0) throw new CliError('SYNTAX', `Syntax error at: ${name} ${text}`)
    return { first: readNumber(name, first), last: readNumber(name, last) }
  },
}

/** A host's address stands for the network of it alone. */
const network: Codec = {
  decode: String,
  encode: (text) => (text.includes('/') ? text : `${text}/${text.includes(':') ? 128 : 32}`),
}

const list: Codec = {
  decode: (value) => (Array.isArray(value) ? value.join(',') : String(value)),
  encode: (text) => text.split(','),
}

const flows: Readonly<Record<string, unknown>> = { 'fwd-flow': 'forward', 'return-flow': 'return' }
const flow: Codec = {
  decode: (value) => Object.keys(flows).find((word) => flows[word] === value) ?? String(value),
  encode: (text, name) => readChoice(name, text, flows),
}

const vlan: Codec = {
  decode: String,
  encode: (text, name) => (text === 'none' ? text : readNumber(name, text)),
}

/** An attribute that is one `{ is, not }` of the condition at `path`. */
function match(
  name: string,
  path: string,
  codec: Codec = plain,
  extra: Partial<Field> = {},
): Field {
  return {
    name,
    invertible: true,
    ...extra,
    read: (item) => {
      const value = at(item, path)
      if (!isObject(value)) return undefined
      return `${value.not === true ? '!' : ''}${codec.decode(value.is)}`
    },
    write: ({ text, not }: Value) =>
      nest(
        path,
        text === undefined ? null : { is: codec.encode(text, name), not: not ? true : null },
      ),
  }
}

/** `hw-src` and its mask are one field of the condition. */
function macs(name: string, path: string): readonly Field[] {
  return [
    {
      ...match(name, path),
      read: (item) => {
        const value = at(item, path)
        if (!isObject(value)) return undefined
        return `${value.not === true ? '!' : ''}${at(value, 'is.address')}`
      },
      write: ({ text, not }) =>
        nest(path, text === undefined ? null : { is: { address: text }, not: not ? true : null }),
    },
    {
      name: `${name}-mask`,
      read: (item: Item) => {
        const mask = at(item, `${path}.is.mask`)
        return typeof mask === 'string' ? mask : undefined
      },
      write: ({ text }) => nest(`${path}.is.mask`, text === undefined ? null : spellMask(text)),
    },
  ]
}

/** `ffff.ff00.0000`, as the original has it, is `ff:ff:ff:00:00:00`. */
function spellMask(text: string): string {
  if (!/^[0-9a-f]{4}(\.[0-9a-f]{4}){2}$/i.test(text)) return text
  return text.replaceAll('.', '').match(/../g)?.join(':') ?? text
}

const traversed: Codec = {
  decode: (value) => `${at(value, 'kind')}:${at(value, 'id')}`,
  encode: (text, name) => {
    const [, kind, id] = /^(bridge|router|port):(.+)$/.exec(text) ?? []
    if (kind === undefined)
      throw new CliError(
        'SYNTAX',
        `Syntax error at: ${name} ${text} (bridge:ID, router:ID or port:ID)`,
      )
    return { kind, id }
  },
}

/** The attributes of a condition that stands in field `within` of an object. */
export function conditionFields(within: string): readonly Field[] {
  const path = (name: string) => `${within}.${name}`
  const group = { refers: 'ip-address-group' }
  return [
    {
      name: 'inverted',
      values: ['true', 'false'],
      read: (item) => (at(item, path('invert')) === true ? 'true' : undefined),
      write: ({ text }) => nest(path('invert'), text === 'true' ? true : null),
    },
    ...macs('hw-src', path('ethSrc')),
    ...macs('hw-dst', path('ethDst')),
    match('ethertype', path('ethType'), numeric),
    match('src', path('src'), network),
    match('dst', path('dst'), network),
    match('proto', path('protocol'), protocol),
    match('tos', path('tos'), numeric),
    match('src-port', path('srcPorts'), ports),
    match('dst-port', path('dstPorts'), ports),
    match('flow', path('flow'), flow, { values: Object.keys(flows) }),
    match('port-group', path('portGroup'), plain, { refers: 'port-group' }),
    match('in-port-group', path('inPortGroup'), plain, { refers: 'port-group' }),
    match('out-port-group', path('outPortGroup'), plain, { refers: 'port-group' }),
    match('ip-address-group-src', path('srcGroup'), plain, group),
    match('ip-address-group-dst', path('dstGroup'), plain, group),
    match('in-ports', path('inPorts'), list, { refers: 'port' }),
    match('out-ports', path('outPorts'), list, { refers: 'port' }),
    {
      name: 'fragment-policy',
      values: Object.keys(fragments),
      read: (item) =>
        Object.keys(fragments).find((word) => fragments[word] === at(item, path('fragments'))),
      write: ({ text }) =>
        nest(
          path('fragments'),
          text === undefined ? null : readChoice('fragment-policy', text, fragments),
        ),
    },
    match('vlan', path('vlan'), vlan),
    {
      name: 'no-vlan',
      values: ['true', 'false'],
      synonym: true,
      read: () => undefined,
      write: ({ text }) => nest(path('vlan'), text === 'true' ? { is: 'none', not: null } : null),
    },
    match('traversed-device', path('traversed'), traversed, {
      refersToOneOf: ['bridge', 'router', 'port'],
    }),
    match('icmp-data-src', path('icmpDataSrc'), network),
    match('icmp-data-dst', path('icmpDataDst'), network),
    {
      name: 'match-nw-dst-rewritten',
      values: ['true', 'false'],
      read: (item) => {
        const value = at(item, path('dstRewritten'))
        return typeof value === 'boolean' ? String(value) : undefined
      },
      write: ({ text }) => nest(path('dstRewritten'), text === undefined ? null : text === 'true'),
    },
  ]
}

const fragments: Readonly<Record<string, unknown>> = {
  any: 'any',
  header: 'header',
  nonheader: 'nonHeader',
  unfragmented: 'unfragmented',
}
