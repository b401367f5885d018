/** Attributes that are one field of an object: text both ways. */
import type { Item } from './client.ts'
import { type Attribute, isObject, textOf, type Value } from './collection.ts'
import { CliError } from './error.ts'

export interface Field extends Attribute {
  read(item: Item): string | undefined
  /** The merge patch that a typed value stands for. @throws CliError code `SYNTAX` */
  write?(value: Value, item: Item | undefined): Readonly<Record<string, unknown>>
}

type Extra = Omit<Attribute, 'name'>

/** A field with its own way from text to value and back. */
export function field(
  name: string,
  path: string,
  {
    decode = textOf,
    encode = (text) => text,
    ...extra
  }: Extra & {
    readonly decode?: (value: unknown) => string | undefined
    readonly encode?: (text: string) => unknown
  } = {},
): Field {
  return {
    name,
    ...extra,
    read: (item) => decode(at(item, path)),
    write: ({ text }) => nest(path, text === undefined ? null : encode(text)),
  }
}

/** A reference to an object of a collection, kept as its id. */
export function reference(
  name: string,
  path: string,
  collection: string,
  extra: Extra = {},
): Field {
  return field(name, path, { refers: collection, ...extra })
}

/** References with commas between. */
export function references(name: string, path: string, collection: string): Field {
  return field(name, path, {
    refers: collection,
    decode: (value) => (Array.isArray(value) && value.length > 0 ? value.join(',') : undefined),
    encode: (text) => text.split(','),
  })
}

export function number(name: string, path: string, extra: Extra = {}): Field {
  return field(name, path, { encode: (text) => readNumber(name, text), ...extra })
}

export function flag(name: string, path: string, extra: Extra = {}): Field {
  return field(name, path, {
    values: ['true', 'false'],
    encode: (text) => readChoice(name, text, { true: true, false: false }),
    ...extra,
  })
}

/** `state up` or `down`. */
export const state = field('state', 'adminUp', {
  values: ['up', 'down'],
  decode: (value) => (value === undefined ? undefined : value === true ? 'up' : 'down'),
  encode: (text) => readChoice('state', text, { up: true, down: false }),
})

/** Words for values, both ways. */
export function choice(
  name: string,
  path: string,
  words: Readonly<Record<string, unknown>>,
): Field {
  return field(name, path, {
    values: Object.keys(words),
    decode: (value) => Object.keys(words).find((word) => words[word] === value),
    encode: (text) => readChoice(name, text, words),
  })
}

export function readNumber(name: string, text: string): number {
  const value = Number(text)
  if (/^(0x[0-9a-f]+|\d+)$/i.test(text) && Number.isSafeInteger(value)) return value
  throw new CliError('SYNTAX', `Syntax error at: ${name} ${text} (a whole number is needed)`)
}

export function readChoice(
  name: string,
  text: string,
  words: Readonly<Record<string, unknown>>,
): unknown {
  if (Object.hasOwn(words, text)) return words[text]
  const list = Object.keys(words).join(', ')
  throw new CliError('SYNTAX', `Syntax error at: ${name} ${text} (one of ${list})`)
}

/** The value at a path of names with dots between. */
export function at(item: unknown, path: string): unknown {
  let value = item
  for (const name of path.split('.')) value = isObject(value) ? value[name] : undefined
  return value
}

/** An object with `value` at a path. */
export function nest(path: string, value: unknown): Readonly<Record<string, unknown>> {
  const [first = '', ...rest] = path.split('.')
  return { [first]: rest.length === 0 ? value : nest(rest.join('.'), value) }
}
