/** Copies of what passes a device, for somebody who listens. */
import { z } from 'zod'
import { idSchema, nameSchema } from './field-schema.ts'
import { conditionSchema } from './policy-schema.ts'

export const mirrorSchema = z.strictObject({
  id: idSchema,
  name: nameSchema.optional(),
  /** Without one it copies nothing. */
  device: z.strictObject({ kind: z.enum(['bridge', 'router', 'port']), id: idSchema }).optional(),
  /** Before or after the device's inbound chain, before or after its outbound one. */
  point: z.enum(['preIn', 'postIn', 'preOut', 'postOut']),
  /** A packet that meets one of them is copied; without any, every packet. */
  conditions: z.array(conditionSchema).max(16).optional(),
  /** Where copies leave. They pass no chains, are never answered or mirrored, and end at routers. */
  toPort: idSchema,
})
