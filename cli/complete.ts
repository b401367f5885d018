/** What the tabulator offers. */
import { childrenOf } from './catalog.ts'
import type { Client } from './client.ts'
import { CliError } from './error.ts'
import { type Expected, expectedAfter, verbWords } from './parse.ts'
import type { Session } from './session.ts'
import { splitWords } from './words.ts'

/** The words that could stand where the line ends, and the part of it they complete. */
export async function complete(
  session: Session,
  client: Client,
  line: string,
): Promise<readonly [candidates: readonly string[], part: string]> {
  const part = /\S*$/.exec(line)?.[0] ?? ''
  const words = splitWords(line.slice(0, line.length - part.length))
  const candidates = new Set<string>()
  for (const expected of expectedAfter(words))
    for (const word of await offers(session, client, expected)) candidates.add(word)
  const fitting = [...candidates].filter((word) => word.startsWith(part)).sort()
  return [fitting.map((word) => `${word} `), part]
}

async function offers(
  session: Session,
  client: Client,
  expected: Expected,
): Promise<readonly string[]> {
  try {
    switch (expected.kind) {
      case 'verb':
        return verbWords
      case 'collection':
        return childrenOf(expected.of).map(({ name }) => name)
      case 'attribute':
        return expected.collection.attributes
          .filter(
            ({ name, readOnly, synonym }) => !readOnly && !synonym && !expected.used.includes(name),
          )
          .map(({ name }) => name)
      case 'value': {
        const { values, refers } = expected.attribute
        if (values !== undefined) return values
        return refers === undefined ? [] : await objectsOf(session, client, refers)
      }
      case 'object': {
        const above = expected.path.slice(0, -1)
        const collection = expected.path.at(-1)?.collection
        if (collection === undefined) return []
        const parent = above.length === 0 ? undefined : (await session.target(above)).item
        const items = await collection.list(client, parent)
        session.aliases.note(collection, parent?.id, items)
        return items.flatMap(({ id }) => session.aliases.known(id)?.split(':').at(-1) ?? [])
      }
    }
  } catch (error) {
    if (error instanceof CliError) return []
    throw error
  }
}

/** Aliases of all objects of a collection at the top; ports with their devices. */
async function objectsOf(
  session: Session,
  client: Client,
  name: string,
): Promise<readonly string[]> {
  const collection = childrenOf(undefined).find((one) => one.name === name)
  const items = (await collection?.list(client, undefined)) ?? []
  return Promise.all(items.slice(0, 200).map(({ id }) => session.aliases.of(name, id)))
}
