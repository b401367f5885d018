/** The API described for machines: OpenAPI 3.1, made from the same schemas that check requests. */
import { jsonSchemaOf } from '../../topology/json-schema.ts'
import { type Kind, kinds } from '../../topology/model.ts'
import { isWritable, limits as operationLimits } from './operation.ts'
import { limits as pageLimits } from './query.ts'

type Json = Readonly<Record<string, unknown>>

let description: Json | undefined

/** The document, made once. */
export function describeApi(): Json {
  description ??= {
    openapi: '3.1.0',
    info: { title: 'MidoNet for Docker', version: 'v1' },
    security: [{}, { token: [] }],
    paths: { ...commonPaths, ...Object.fromEntries(kinds.flatMap(pathsOf)) },
    components: {
      securitySchemes: { token: { type: 'http', scheme: 'bearer' } },
      schemas: {
        Error: errorSchema,
        ...Object.fromEntries(kinds.map((k) => [k, jsonSchemaOf(k)])),
      },
    },
  }
  return description
}

const errorSchema: Json = {
  type: 'object',
  required: ['code', 'message'],
  properties: {
    code: { type: 'string', description: 'for programs, such as IN_USE' },
    message: { type: 'string', description: 'for people: what is wrong and what to do' },
    field: { type: 'string', description: 'of an object that does not fit: where, addresses.0' },
  },
}

const string: Json = { type: 'string' }

function pathsOf(kind: Kind): (readonly [string, Json])[] {
  const writes = isWritable(kind)
  return [
    [`/v1/${kind}`, { get: listing(kind), ...(writes && { post: making(kind) }) }],
    [
      `/v1/${kind}/{id}`,
      {
        parameters: [{ name: 'id', in: 'path', required: true, schema: string }],
        get: { summary: `One ${kind}`, responses: answers(200, refer(kind)) },
        ...(writes && changing(kind)),
      },
    ],
    [
      `/v1/${kind}/{id}/{part}`,
      {
        parameters: [
          { name: 'id', in: 'path', required: true, schema: string },
          { name: 'part', in: 'path', required: true, schema: { enum: kinds } },
        ],
        get: {
          summary: `The objects of another kind that name this ${kind}`,
          parameters: pageParameters,
          responses: answers(200, { type: 'array', items: { type: 'object' } }),
        },
      },
    ],
  ]
}

const pageParameters: readonly Json[] = [
  {
    name: 'limit',
    in: 'query',
    schema: { type: 'integer', minimum: 1, maximum: pageLimits.pageMax },
  },
  { name: 'after', in: 'query', schema: string },
]

const ifMatch: Json = { name: 'If-Match', in: 'header', schema: string }

function listing(kind: Kind): Json {
  return {
    summary: `A page of ${kind} objects, ordered by id; any field is a filter`,
    parameters: pageParameters,
    responses: answers(200, { type: 'array', items: refer(kind) }),
  }
}

function making(kind: Kind): Json {
  return {
    summary: `Makes a ${kind}; without an id it gets one`,
    requestBody: body(withoutId(kind)),
    responses: answers(201, refer(kind)),
  }
}

function changing(kind: Kind): Json {
  return {
    put: {
      summary: `Replaces or makes the ${kind}`,
      parameters: [ifMatch, { name: 'If-None-Match', in: 'header', schema: string }],
      requestBody: body(withoutId(kind)),
      responses: { ...answers(200, refer(kind)), 201: success(refer(kind)) },
    },
    patch: {
      summary: `Changes fields of the ${kind} (RFC 7396)`,
      parameters: [ifMatch],
      requestBody: body({ type: 'object' }),
      responses: answers(200, refer(kind)),
    },
    delete: {
      summary: `Deletes the ${kind}; with cascade, its parts as well`,
      parameters: [ifMatch, { name: 'cascade', in: 'query', schema: { type: 'boolean' } }],
      responses: answers(204, undefined),
    },
  }
}

/** The path, or the agent, says the id: a body may leave it out. */
function withoutId(kind: Kind): Json {
  const lenient = (schema: Json): Json => ({
    ...schema,
    ...(Array.isArray(schema.required) && {
      required: schema.required.filter((name) => name !== 'id'),
    }),
    ...(Array.isArray(schema.oneOf) && { oneOf: schema.oneOf.map(lenient) }),
    ...(Array.isArray(schema.anyOf) && { anyOf: schema.anyOf.map(lenient) }),
  })
  return lenient(jsonSchemaOf(kind))
}

const commonPaths: Json = {
  '/v1/transaction': {
    post: {
      summary: `Up to ${operationLimits.operationsMax} changes, all or nothing`,
      requestBody: body({
        type: 'object',
        required: ['operations'],
        properties: {
          operations: {
            type: 'array',
            minItems: 1,
            maxItems: operationLimits.operationsMax,
            items: {
              type: 'object',
              required: ['op', 'kind'],
              properties: {
                op: { enum: ['create', 'put', 'patch', 'delete'] },
                kind: { enum: kinds.filter(isWritable) },
                id: string,
                value: { type: 'object' },
                ifMatch: string,
                cascade: { type: 'boolean' },
              },
            },
          },
        },
      }),
      responses: answers(200, { type: 'object' }),
    },
  },
  '/v1/watch': {
    get: {
      summary: 'Changes as they happen',
      parameters: [
        { name: 'kind', in: 'query', schema: string, description: 'kinds, with commas between' },
        { name: 'list', in: 'query', schema: { type: 'boolean' } },
        {
          name: 'applied',
          in: 'query',
          schema: { type: 'boolean' },
          description: 'told once the datapath of the host reflects a change',
        },
      ],
      responses: {
        200: { description: 'server-sent events', content: { 'text/event-stream': {} } },
      },
    },
  },
}

function refer(kind: Kind): Json {
  return { $ref: `#/components/schemas/${kind}` }
}

function body(schema: Json): Json {
  return { required: true, content: { 'application/json': { schema } } }
}

function success(schema: Json | undefined): Json {
  return {
    description: 'done',
    ...(schema && { content: { 'application/json': { schema } } }),
  }
}

function answers(status: number, schema: Json | undefined): Json {
  const error = {
    description: 'refused',
    content: { 'application/json': { schema: { $ref: '#/components/schemas/Error' } } },
  }
  return { [status]: success(schema), '4XX': error, 503: error }
}
