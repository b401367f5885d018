/** The model's schemas as JSON Schema (draft 2020-12), for the API's description of itself. */
import { z } from 'zod'
import { type Kind, schemas } from './model.ts'

/** What an object of `kind` looks like. Rules beyond shape (a valid MAC address, say) are in texts. */
export function jsonSchemaOf(kind: Kind): Readonly<Record<string, unknown>> {
  const { $schema, ...schema } = z.toJSONSchema(schemas[kind], { io: 'input' })
  return schema
}
