/**
 * Requests made from the API's own description of itself, right and nearly right: none is answered
 * with a fault of ours, and one that is refused has changed nothing.
 */
import test from 'ava'
import fc from 'fast-check'
import { kinds } from '../../topology/model.ts'
import type { Store } from '../../topology/store.ts'
import { startAgent } from './agent.ts'
import { rest } from './rest-client.ts'

type Json = Readonly<Record<string, unknown>>

const seed = Number(process.env.SEED ?? Date.now() % 1_000_000)
const numRuns = process.env.MIDONET_LONG === undefined ? 300 : 10_000

/** Few ids, so that objects find each other. */
const ids = fc.constantFrom('a', 'b', 'c', 'a', 'b', 'nobody', '../x', '', '__proto__')
const texts = fc.oneof(
  { weight: 8, arbitrary: ids },
  fc.constantFrom('10.1.0.1', '10.1.0.1/24', '10.1.0.0/16', '0.0.0.0/0', '02:00:00:00:00:0a'),
  fc.constantFrom('fd00::1', 'fd00::/64', 'ff:ff:ff:00:00:00', 'none', 'x'.repeat(300)),
  fc.string({ maxLength: 8 }),
)

/** Values of a schema; now and then something else altogether. */
function valueFor(schema: Json, depth = 0): fc.Arbitrary<unknown> {
  const odd = fc.constantFrom<unknown>(null, -1, 1e300, '', [], {}, true, [[]])
  if (depth > 6) return odd
  return fc.oneof({ weight: 30, arbitrary: fitting(schema, depth) }, { weight: 1, arbitrary: odd })
}

function fitting(schema: Json, depth: number): fc.Arbitrary<unknown> {
  const choices = schema.anyOf ?? schema.oneOf ?? schema.allOf
  if (Array.isArray(choices)) return fc.oneof(...choices.map((one) => valueFor(one, depth + 1)))
  if ('const' in schema) return fc.constant(schema.const)
  if (Array.isArray(schema.enum)) return fc.constantFrom(...schema.enum)
  switch (schema.type) {
    case 'string':
      return texts
    case 'boolean':
      return fc.boolean()
    case 'integer':
    case 'number':
      return fc.oneof(fc.integer({ min: 0, max: 70_000 }), fc.integer())
    case 'array': {
      const items = valueFor((schema.items ?? {}) as Json, depth + 1)
      return fc.array(items, { maxLength: 3 })
    }
    default:
      return objectOf(schema, depth)
  }
}

function objectOf(schema: Json, depth: number): fc.Arbitrary<unknown> {
  const properties = Object.entries((schema.properties ?? {}) as Record<string, Json>)
  const required = new Set(Array.isArray(schema.required) ? schema.required : [])
  const entries = properties.map(([name, property]) => {
    const isThere = fc
      .integer({ min: 0, max: 40 })
      .map((n) => (required.has(name) ? n > 0 : n > 20))
    return fc
      .tuple(isThere, valueFor(property, depth + 1))
      .map(([there, value]): [string, unknown][] => (there ? [[name, value]] : []))
  })
  return fc.tuple(...entries).map((all) => Object.fromEntries(all.flat()))
}

interface Call {
  readonly method: string
  readonly path: string
  readonly body: unknown
}

/** Every operation of the document, with its parameters filled in. */
function callsOf(document: Json): fc.Arbitrary<Call> {
  const schemas = (document.components as { schemas: Record<string, Json> }).schemas
  const resolve = (schema: Json): Json =>
    typeof schema.$ref === 'string' ? (schemas[schema.$ref.split('/').at(-1) ?? ''] ?? {}) : schema
  const calls = Object.entries(document.paths as Record<string, Json>)
    .filter(([path]) => path !== '/v1/watch')
    .flatMap(([path, item]) =>
      Object.entries(item)
        .filter(([method]) => method !== 'parameters')
        .map(([method, operation]) => callOf(path, method, operation as Json, resolve)),
    )
  return fc.oneof(...calls)
}

function callOf(
  path: string,
  method: string,
  operation: Json,
  resolve: (schema: Json) => Json,
): fc.Arbitrary<Call> {
  const content = (operation.requestBody as { content?: Record<string, { schema: Json }> })?.content
  const schema = content?.['application/json']?.schema
  const body = schema === undefined ? fc.constant(undefined) : valueFor(resolve(schema))
  const queries = fc.constantFrom(
    '',
    '',
    '?limit=1',
    '?after=a',
    '?limit=x',
    '?cascade=true',
    '?id=a',
  )
  return fc
    .record({ id: ids, part: fc.constantFrom(...kinds), query: queries, body })
    .map(({ id, part, query, body }) => ({
      method: method.toUpperCase(),
      path: `${path.replace('{id}', encodeURIComponent(id)).replace('{part}', part)}${query}`,
      body,
    }))
}

function everything(store: Store): string {
  return JSON.stringify(kinds.map((kind) => store.list(kind)))
}

test(`no request is a fault of ours, and none half done (seed ${seed})`, async (t) => {
  t.timeout(600_000)
  const { apiSocketPath: path, store } = await startAgent(t)
  const document = (await rest(path, 'GET', '/v1/openapi.json')).body as Json
  const counts = new Map<number, number>()
  const property = fc.asyncProperty(
    fc.array(callsOf(document), { minLength: 5, maxLength: 20 }),
    async (calls) => {
      for (const { method, path: target, body } of calls) {
        const before = everything(store)
        const { status, text } = await rest(path, method, target, { body })
        counts.set(status, (counts.get(status) ?? 0) + 1)
        t.true(status < 500, `${method} ${target} ${JSON.stringify(body)}: ${status} ${text}`)
        if (status >= 400) t.is(everything(store), before)
        if (status >= 400 && status !== 404) t.regex(text, /"code":.*"message":/)
      }
    },
  )
  await fc.assert(property, { seed, numRuns })
  t.log(Object.fromEntries(counts))
  for (const status of [200, 201, 204, 400, 404, 409]) t.true((counts.get(status) ?? 0) > 4)
})

test('the description names every kind, and its schemas stand', async (t) => {
  const { apiSocketPath: path } = await startAgent(t)
  const { body, status } = await rest(path, 'GET', '/v1/openapi.json')
  t.is(status, 200)
  const { paths, components } = body as {
    paths: Record<string, Json>
    components: { schemas: Record<string, Json> }
  }
  for (const kind of kinds) {
    t.true(`/v1/${kind}` in paths && `/v1/${kind}/{id}` in paths, kind)
    t.true(kind in components.schemas)
  }
  const references = [...JSON.stringify(body).matchAll(/"#\/components\/schemas\/(\w+)"/g)]
  for (const [, name] of references) t.true((name ?? '') in components.schemas)
})
