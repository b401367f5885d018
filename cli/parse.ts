/**
 * From words to a command. Verb first or object first, as people type:
 *
 *   line  := [VERB] path [attributes] | path VERB [path] [attributes]
 *   path  := COLLECTION [OBJECT] ( COLLECTION [OBJECT] )*
 *
 * The walk also says what could come next, which is what the tabulator offers.
 */
import { childrenOf, findCollection } from './catalog.ts'
import type { Attribute, Collection } from './collection.ts'
import { syntaxError } from './error.ts'

export type Verb = 'show' | 'list' | 'create' | 'delete' | 'set' | 'clear' | 'describe'

/** Every word for a verb; `add` is another one for create. */
const verbs: Readonly<Record<string, Verb>> = {
  show: 'show',
  list: 'list',
  create: 'create',
  add: 'create',
  delete: 'delete',
  set: 'set',
  clear: 'clear',
  describe: 'describe',
}
export const verbWords = Object.keys(verbs)

export interface Step {
  readonly collection: Collection
  /** An alias, an id or a name. */
  readonly object: string | undefined
}

export interface TypedValue {
  readonly name: string
  readonly text: string
  readonly not: boolean
}

export interface ParsedCommand {
  readonly verb: Verb
  readonly path: readonly Step[]
  readonly values: readonly TypedValue[]
  /** Of show and clear. */
  readonly names: readonly string[]
}

/** What may stand next. */
export type Expected =
  | { readonly kind: 'verb' }
  | { readonly kind: 'collection'; readonly of: string | undefined }
  | { readonly kind: 'object'; readonly path: readonly Step[] }
  | {
      readonly kind: 'attribute'
      readonly collection: Collection
      readonly used: readonly string[]
    }
  | { readonly kind: 'value'; readonly attribute: Attribute; readonly path: readonly Step[] }

interface Walk {
  verb: Verb | undefined
  readonly path: { collection: Collection; object: string | undefined }[]
  readonly values: TypedValue[]
  readonly names: string[]
  /** An attribute whose value is to come. */
  pending: Attribute | undefined
}

/** @throws CliError code `SYNTAX` */
export function parseCommand(words: readonly string[]): ParsedCommand {
  const walk = walkWords(words)
  const { verb, path, values, names, pending } = walk
  if (pending !== undefined || path.length === 0) throw syntaxError([])
  const last = path.at(-1)
  if (verb === undefined) {
    if (last?.object === undefined) throw syntaxError([], `${verbWords.join(', ')}?`)
    return { verb: 'show', path, values, names }
  }
  const wantsObject = verb === 'show' || verb === 'set' || verb === 'clear' || verb === 'delete'
  const isMember = last?.collection.alias === undefined
  if (wantsObject && last?.object === undefined && !(isMember && values.length > 0))
    throw syntaxError([], 'which object?')
  if (verb === 'set' && values.length === 0) throw syntaxError([], 'ATTRIBUTE VALUE')
  if (verb === 'clear' && names.length === 0) throw syntaxError([], 'ATTRIBUTE')
  return { verb, path, values, names }
}

/** What could follow the words; empty when they are wrong already. */
export function expectedAfter(words: readonly string[]): readonly Expected[] {
  try {
    return expectationsOf(walkWords(words))
  } catch {
    return []
  }
}

function walkWords(words: readonly string[]): Walk {
  const walk: Walk = { verb: undefined, path: [], values: [], names: [], pending: undefined }
  for (let index = 0; index < words.length; index++) {
    if (!step(walk, words[index] ?? '', words[index + 1])) throw syntaxError(words.slice(index))
  }
  return walk
}

/** Takes one word in; false when it fits nowhere. */
function step(walk: Walk, word: string, next: string | undefined): boolean {
  if (walk.pending !== undefined) return takeValue(walk, walk.pending, word)
  const last = walk.path.at(-1)
  const attributed = walk.values.length > 0 || walk.names.length > 0
  if (!attributed) {
    const context =
      last === undefined || last.object !== undefined ? last?.collection.name : undefined
    if (last === undefined || last.object !== undefined) {
      const collection = findCollection(word, context)
      if (collection !== undefined) {
        walk.path.push({ collection, object: undefined })
        return true
      }
    }
    if (walk.verb === undefined) {
      const verb = verbOf(word)
      if (verb !== undefined && !isAlias(last, word)) {
        walk.verb = verb
        return true
      }
    }
    if (last !== undefined && last.object === undefined && isObject(walk, last, word, next)) {
      last.object = word
      return true
    }
  }
  return last !== undefined && takeAttribute(walk, last.collection, word)
}

/** Whether a word after a collection names an object of it. */
function isObject(
  walk: Walk,
  { collection }: Step,
  word: string,
  next: string | undefined,
): boolean {
  const isAttribute = findAttribute(collection, word) !== undefined
  if (walk.verb !== 'create' && walk.verb !== 'list') return !isAttribute
  // Only one that something is listed or made below.
  return next !== undefined && findCollection(next, collection.name) !== undefined
}

function isAlias(last: Step | undefined, word: string): boolean {
  return last?.object === undefined && last?.collection.alias !== undefined
    ? new RegExp(`^([a-z0-9-]+:)*${last.collection.alias}\\d+$`).test(word)
    : false
}

/** Whole words, or the beginning of one: the first that it could be. */
function verbOf(word: string): Verb | undefined {
  if (Object.hasOwn(verbs, word)) return verbs[word]
  const full = word === '' ? undefined : verbWords.find((one) => one.startsWith(word))
  return full === undefined ? undefined : verbs[full]
}

function findAttribute({ attributes }: Collection, name: string): Attribute | undefined {
  return attributes.find((attribute) => attribute.name === name)
}

function takeAttribute(walk: Walk, collection: Collection, word: string): boolean {
  const attribute = findAttribute(collection, word)
  if (attribute === undefined || walk.verb === undefined) return false
  switch (walk.verb) {
    case 'show':
      if (walk.names.length > 0) return false
      walk.names.push(word)
      return true
    case 'clear':
      if (attribute.readOnly === true) return false
      walk.names.push(word)
      return true
    case 'describe':
      return false
    case 'create':
    case 'set':
      if (attribute.readOnly === true) return false
      break
    case 'list':
    case 'delete':
      break
  }
  walk.pending = attribute
  return true
}

function takeValue(walk: Walk, attribute: Attribute, word: string): boolean {
  const not = word.startsWith('!')
  if (not && attribute.invertible !== true) return false
  walk.values.push({ name: attribute.name, text: not ? word.slice(1) : word, not })
  walk.pending = undefined
  return true
}

function expectationsOf(walk: Walk): readonly Expected[] {
  const { verb, path, values, names, pending } = walk
  if (pending !== undefined) return [{ kind: 'value', attribute: pending, path }]
  const last = path.at(-1)
  const expected: Expected[] = []
  const attributed = values.length > 0 || names.length > 0
  if (!attributed) {
    if (verb === undefined && (last === undefined || last.collection !== undefined))
      expected.push({ kind: 'verb' })
    if (last === undefined) expected.push({ kind: 'collection', of: undefined })
    else if (last.object === undefined && last.collection.alias !== undefined) {
      if (verb !== 'create' && verb !== 'describe') expected.push({ kind: 'object', path })
    } else if (childrenOf(last.collection.name).length > 0)
      expected.push({ kind: 'collection', of: last.collection.name })
  }
  if (last !== undefined && verb !== undefined && verb !== 'describe')
    expected.push({ kind: 'attribute', collection: last.collection, used: usedOf(walk) })
  return expected
}

function usedOf({ values, names }: Walk): readonly string[] {
  return [...values.map(({ name }) => name), ...names]
}
