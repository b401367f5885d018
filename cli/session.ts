/** Runs lines: parses, resolves names to objects, asks the agent, and says what came of it. */
import { Aliases } from './alias.ts'
import { childrenOf, findCollection } from './catalog.ts'
import type { Client, Item } from './client.ts'
import type { Collection, Value, Values } from './collection.ts'
import { CliError } from './error.ts'
import { helpText } from './help.ts'
import { type ParsedCommand, parseCommand, type Step, type TypedValue } from './parse.ts'
import { quoteWord, splitWords } from './words.ts'

export interface SessionSettings {
  readonly client: Client
  /** Aliases in what is printed; else ids. Typed ones are understood always. */
  readonly aliases: boolean
  readonly json: boolean
}

/** What a line printed; `ended` when it asked to leave. */
export interface LineResult {
  readonly lines: readonly string[]
  readonly ended: boolean
}

interface Target {
  readonly collection: Collection
  readonly parent: Item | undefined
  readonly item: Item | undefined
}

export class Session {
  readonly #client: Client
  readonly #settings: SessionSettings
  readonly aliases: Aliases

  constructor(settings: SessionSettings) {
    this.#client = settings.client
    this.#settings = settings
    this.aliases = new Aliases(settings.client)
  }

  /** @throws CliError */
  async run(line: string): Promise<LineResult> {
    const words = splitWords(line)
    const [first] = words
    if (first === undefined) return { lines: [], ended: false }
    if (first === 'exit' || first === 'quit') return { lines: [], ended: true }
    if (first === 'help' || first === '?') return { lines: helpText(words.slice(1)), ended: false }
    try {
      return { lines: await this.#execute(parseCommand(words)), ended: false }
    } catch (error) {
      throw this.#settings.aliases ? this.#renamed(error) : error
    }
  }

  /** A refusal that speaks of objects as they are typed. */
  #renamed(error: unknown): unknown {
    if (!(error instanceof CliError) || error.code !== 'REFUSED') return error
    const message = error.message.replaceAll(
      /[0-9a-f]{8}-[0-9a-f-]{27}/g,
      (id) => this.aliases.known(id) ?? id,
    )
    return new CliError('REFUSED', message, { cause: error })
  }

  /** The objects above and at the end of a path. @throws CliError code `NOT_FOUND` */
  async target(path: readonly Step[]): Promise<Target> {
    let parent: Item | undefined
    let item: Item | undefined
    let collection: Collection | undefined
    for (const [at, step] of path.entries()) {
      collection = step.collection
      parent = item
      item = undefined
      if (step.object !== undefined) {
        item = await this.aliases.resolve(collection, parent, step.object)
        if (this.#settings.aliases) await this.aliases.of(collection.name, item.id)
      } else if (at < path.length - 1) throw new CliError('SYNTAX', `which ${collection.name}?`)
    }
    if (collection === undefined)
      throw new CliError('SYNTAX', 'Missing arguments, incomplete command')
    return { collection, parent, item }
  }

  async #execute(command: ParsedCommand): Promise<readonly string[]> {
    if (command.verb === 'describe') return describe(command.path.at(-1)?.collection)
    const target = await this.target(command.path)
    const values = await this.#values(target.collection, command.values)
    switch (command.verb) {
      case 'list':
        return this.#list(target, values)
      case 'show':
        return this.#show(target, command.names[0])
      case 'create':
        return this.#create(target, values)
      case 'set':
        return this.#set(target, values)
      case 'clear':
        return this.#set(target, cleared(command.names))
      case 'delete':
        return this.#delete(target, values)
    }
  }

  async #list(target: Target, values: Values): Promise<readonly string[]> {
    const { collection, item, parent } = target
    // `list router router0` is one object, as `show` says it.
    if (item !== undefined) return this.#show(target, undefined)
    const all = await collection.list(this.#client, parent)
    if (collection.isElsewhere !== true) this.aliases.note(collection, parent?.id, all)
    const items = all.filter((one) => fits(collection, one, values))
    const isNamedAbove = parent === undefined || collection.isElsewhere === true
    if (this.#settings.aliases && collection.parentOf !== undefined && isNamedAbove)
      for (const { id } of items) await this.aliases.of(collection.name, id)
    items.sort((a, b) => this.#order(collection, a, b))
    if (this.#settings.json) return [JSON.stringify(items.map((one) => plain(collection, one)))]
    const lines: string[] = []
    for (const one of items) lines.push(await this.#line(collection, one))
    return lines
  }

  async #show({ collection, item }: Target, name: string | undefined): Promise<readonly string[]> {
    if (item === undefined) throw new CliError('SYNTAX', 'which object?')
    if (name !== undefined) {
      const text = await this.#text(collection, item, name)
      return text === undefined ? [] : [text]
    }
    if (this.#settings.json) return [JSON.stringify(plain(collection, item))]
    return [await this.#line(collection, item)]
  }

  async #create({ collection, parent, item }: Target, values: Values): Promise<readonly string[]> {
    if (collection.create === undefined || item !== undefined)
      throw new CliError(
        'SYNTAX',
        `a ${collection.name} cannot be made here (${whereMade(collection)})`,
      )
    // Those that stand have the lower numbers.
    if (this.#settings.aliases) await this.aliases.noteAll(collection, parent)
    const made = await collection.create(this.#client, parent, values)
    if (this.#settings.json) return [JSON.stringify(plain(collection, made))]
    if (collection.alias === undefined) return [await this.#memberLine(collection, parent, made)]
    this.aliases.note(collection, parent?.id, [made])
    return [(this.#settings.aliases ? this.aliases.known(made.id) : undefined) ?? made.id]
  }

  async #set({ collection, item }: Target, values: Values): Promise<readonly string[]> {
    if (collection.set === undefined || item === undefined)
      throw new CliError('SYNTAX', `a ${collection.name} cannot be changed; delete and add it`)
    await collection.set(this.#client, item, values)
    return []
  }

  async #delete({ collection, item, parent }: Target, values: Values): Promise<readonly string[]> {
    if (collection.remove === undefined)
      throw new CliError('SYNTAX', `a ${collection.name} cannot be deleted; the agents keep it`)
    let gone = item
    if (gone === undefined) {
      const all = await collection.list(this.#client, parent)
      const chosen = all.filter((one) => fits(collection, one, values))
      if (chosen.length !== 1)
        throw new CliError(
          'NOT_FOUND',
          `${chosen.length} ${collection.name} objects are so; say one`,
        )
      gone = chosen[0]
    }
    if (gone !== undefined) await collection.remove(this.#client, gone, parent)
    return []
  }

  /** Rules by their positions; else in the order of aliases where there are any. */
  #order(collection: Collection, a: Item, b: Item): number {
    const [first, second] = [a, b].map((item) => Number(collection.read(item, 'pos') ?? 0))
    if (first !== second) return (first ?? 0) - (second ?? 0)
    if (!this.#settings.aliases) return 0
    const [left = '', right = ''] = [a, b].map(({ id }) => this.aliases.known(id) ?? id)
    return byNumbers.compare(left, right)
  }

  async #line(collection: Collection, item: Item): Promise<string> {
    // As the original: `peer peer0 asn 3`, `tzone tzone0 type vxlan`.
    const words = [collection.alias ?? collection.name]
    const alias = this.#settings.aliases ? this.aliases.known(item.id) : undefined
    if (collection.alias !== undefined) words.push(alias?.split(':').at(-1) ?? item.id)
    words.push(...(await this.#pairs(collection, item)))
    return words.join(' ')
  }

  /** `host host0 interface eth1 port router0:port2`. */
  async #memberLine(collection: Collection, parent: Item | undefined, item: Item): Promise<string> {
    const pairs = await this.#pairs(collection, item)
    const above = collection.parent
    if (parent === undefined || above === undefined || pairs.includes(above)) return pairs.join(' ')
    const id = this.#settings.aliases ? await this.aliases.of(above, parent.id) : parent.id
    return [above, id, ...pairs].join(' ')
  }

  async #pairs(collection: Collection, item: Item): Promise<readonly string[]> {
    const pairs: string[] = []
    for (const { name, hidden, synonym } of collection.attributes) {
      if (hidden === true || synonym === true) continue
      const text = await this.#text(collection, item, name)
      if (text !== undefined && text !== '') pairs.push(name, quoteWord(text))
    }
    return pairs
  }

  /** An attribute's text, with aliases for ids where they are wanted. */
  async #text(collection: Collection, item: Item, name: string): Promise<string | undefined> {
    const text = collection.read(item, name)
    const found = collection.attributes.find((attribute) => attribute.name === name)
    if (text === undefined || found === undefined || !this.#settings.aliases) return text
    const { refers, refersToOneOf } = found
    const not = text.startsWith('!') ? '!' : ''
    if (refersToOneOf !== undefined) {
      const [kind = '', id = ''] = text.slice(not.length).split(/:(.*)/)
      return `${not}${await this.aliases.of(kind, id)}`
    }
    if (refers === undefined) return text
    const ids = text.slice(not.length).split(',')
    const names = await Promise.all(ids.map((id) => this.aliases.of(refers, id)))
    return `${not}${names.join(',')}`
  }

  /** Typed values, references as ids. */
  async #values(collection: Collection, typed: readonly TypedValue[]): Promise<Values> {
    const values = new Map<string, Value>()
    for (const { name, text, not } of typed) {
      const found = collection.attributes.find((attribute) => attribute.name === name)
      const { refers, refersToOneOf = [] } = found ?? {}
      const resolved =
        refers !== undefined
          ? await this.#ids(refers, text)
          : refersToOneOf.length > 0
            ? await this.#oneOf(refersToOneOf, text)
            : text
      values.set(name, { text: resolved, not })
    }
    return values
  }

  /** `COLLECTION:ID` of an object of one of these collections. @throws CliError code `NOT_FOUND` */
  async #oneOf(names: readonly string[], text: string): Promise<string> {
    for (const name of names) {
      const collection = findCollection(name, undefined)
      const word = text.startsWith(`${name}:`) ? text.slice(name.length + 1) : text
      const item = await collection?.find?.(this.#client, word)
      if (item !== undefined) return `${name}:${item.id}`
      if (collection === undefined || !text.split(':').at(-1)?.startsWith(name)) continue
      return `${name}:${(await this.aliases.resolve(collection, undefined, text)).id}`
    }
    throw new CliError('NOT_FOUND', `there is no ${names.join(', ')} ${text}`)
  }

  async #ids(refers: string, text: string): Promise<string> {
    const collection = findCollection(refers, undefined)
    if (collection === undefined) return text
    const ids: string[] = []
    for (const word of text.split(','))
      ids.push((await this.aliases.resolve(collection, undefined, word)).id)
    return ids.join(',')
  }
}

const byNumbers = new Intl.Collator('en', { numeric: true })

function cleared(names: readonly string[]): Values {
  return new Map(names.map((name) => [name, { text: undefined, not: false }]))
}

function fits(collection: Collection, item: Item, values: Values): boolean {
  for (const [name, { text, not }] of values)
    if (collection.read(item, name) !== `${not ? '!' : ''}${text}`) return false
  return true
}

/** All attributes by name, with ids: for programs. */
function plain(collection: Collection, item: Item): Readonly<Record<string, unknown>> {
  const pairs = collection.attributes.flatMap(({ name, synonym }) => {
    const text = collection.read(item, name)
    return text === undefined || synonym === true ? [] : [[name, text]]
  })
  return { id: item.id, ...Object.fromEntries(pairs) }
}

function describe(collection: Collection | undefined): readonly string[] {
  if (collection === undefined) return childrenOf(undefined).map(({ name }) => name)
  return [
    ...collection.attributes.map(({ name, readOnly, values, refers }) =>
      [name, readOnly === true ? '(read only)' : '', values?.join('|') ?? refers ?? '']
        .filter((part) => part !== '')
        .join(' '),
    ),
    ...childrenOf(collection.name).map(({ name }) => `${name} …`),
  ]
}

function whereMade(collection: Collection): string {
  return collection.create === undefined && collection.name === 'port'
    ? 'router R add port, bridge B add port'
    : 'see help'
}
