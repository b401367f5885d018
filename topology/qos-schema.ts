/** How traffic that enters by a port is marked and limited, and which is told step by step. */
import { z } from 'zod'
import { idSchema, nameSchema } from './field-schema.ts'
import { conditionSchema } from './policy-schema.ts'

/** Of ports, and of bridges for those of their ports that name none. */
export const qosPolicySchema = z.strictObject({
  id: idSchema,
  name: nameSchema.optional(),
  /** Written into IPv4 packets that enter; their ECN bits stay. */
  dscp: z.int().min(0).max(63).optional(),
  /** What may enter by each port; the rest is dropped. */
  bandwidth: z
    .strictObject({
      kbps: z.int().min(1).max(400_000_000),
      /** What may come at once. Default: 100 ms of the rate, 128 at least. */
      burstKb: z.int().min(1).max(32_000_000).optional(),
    })
    .optional(),
})

/** The walks of packets that meet the condition at a device or port are kept, up to the limit. */
export const traceRequestSchema = z.strictObject({
  id: idSchema,
  name: nameSchema.optional(),
  device: z.strictObject({ kind: z.enum(['bridge', 'router', 'port']), id: idSchema }),
  condition: conditionSchema.optional(),
  /** Packets; it counts anew when the request is enabled again. */
  limit: z.int().min(1).max(1000),
  enabled: z.boolean(),
})
