/** Mirrors, and the conditions of each. */
import type { Client, Item } from './client.ts'
import { type Collection, isObject, merge, stored, textOf, type Values } from './collection.ts'
import { conditionFields } from './condition.ts'
import { CliError, missing } from './error.ts'
import { choice, field, reference } from './field.ts'
import { mirrorPoints } from './mirrored.ts'
import { watched } from './service.ts'

const mirror = stored({
  name: 'mirror',
  alias: 'mirror',
  kind: 'mirror',
  // Where it copies may be said later, on the device: `set in-mirrors`.
  defaults: () => ({ point: 'preIn' }),
  fields: [
    field('name', 'name'),
    ...watched,
    // In the original's words for its lists of mirrors.
    choice('point', 'point', mirrorPoints),
    reference('to-port', 'toPort', 'port'),
  ],
})

const matchFields = conditionFields('condition')

/** A condition is kept in a list of the mirror's; its place there is its id. */
const match: Collection = {
  name: 'match',
  alias: undefined,
  parent: 'mirror',
  attributes: matchFields,
  list: async (client, above) =>
    (await conditionsOf(client, above)).map((condition, at) => ({ id: String(at), condition })),
  read: (item, attribute) => matchFields.find(({ name }) => name === attribute)?.read(item),
  async create(client, above, values) {
    const conditions = await conditionsOf(client, above)
    await change(client, above, [...conditions, conditionOf(values)])
    return { id: String(conditions.length), condition: conditionOf(values) }
  },
  async remove(client, item, above) {
    const conditions = await conditionsOf(client, above)
    await change(
      client,
      above,
      conditions.filter((_, at) => String(at) !== item.id),
    )
  },
}

async function conditionsOf(client: Client, above: Item | undefined): Promise<readonly unknown[]> {
  const standing = above && (await client.find('mirror', above.id))
  return Array.isArray(standing?.conditions) ? standing.conditions : []
}

async function change(
  client: Client,
  above: Item | undefined,
  conditions: readonly unknown[],
): Promise<void> {
  const id = above?.id ?? missing('a mirror')
  const value = { conditions: conditions.length > 0 ? conditions : null }
  await client.transact([{ op: 'patch', kind: 'mirror', id, value }])
}

function conditionOf(values: Values): unknown {
  let item: Record<string, unknown> = {}
  for (const [attribute, value] of values) {
    const one = matchFields.find(({ name }) => name === attribute)
    item = merge(item, one?.write?.(value, undefined) ?? {})
  }
  if (item.condition === undefined) throw new CliError('SYNTAX', 'Missing arguments: a condition')
  return cleared(item.condition)
}

/** Without the nulls of merge patches, which lists are not merged by. */
function cleared(value: unknown): unknown {
  if (!isObject(value)) return value
  return Object.fromEntries(
    Object.entries(value)
      .filter(([, part]) => textOf(part) !== undefined)
      .map(([name, part]) => [name, cleared(part)]),
  )
}

/** The original's word for the same. */
const matches: Collection = { ...match, name: 'matches' }

export const mirrors: readonly Collection[] = [mirror, match, matches]
