/** What a rule says that sends packets by way of a service. */
import { z } from 'zod'
import { idSchema, vlanSchema } from './field-schema.ts'

/**
 * The packet goes on by another port, past the chains of that one: out of it, or in by it as if it
 * had come from there. A service on the way is two such rules: out of the service's port, and from
 * there in by the port where the packet was, or out of it.
 */
export const redirectSchema = z.strictObject({
  kind: z.literal('redirect'),
  port: idSchema,
  direction: z.enum(['out', 'in']),
  /** While the port leads nowhere: passes this rule over; else the packet is dropped. */
  failOpen: z.boolean().optional(),
  /** Takes a tag off first, then puts one on: by it a service tells what its packets are. */
  popVlan: z.boolean().optional(),
  pushVlan: vlanSchema.optional(),
  /** Of the tag put on. */
  pushPriority: z.int().min(0).max(7).optional(),
})
