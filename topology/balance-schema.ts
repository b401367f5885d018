/**
 * Load balancing on a router:
 *
 *   router ── loadBalancer ── vip ──▶ balancerPool ── poolMember
 *                                          └──▶ healthMonitor
 */
import { z } from 'zod'
import { idSchema, ipSchema, nameSchema } from './field-schema.ts'

/** 0: every port. */
const tpPortSchema = z.int().min(0).max(65_535)

const portSchema = z.int().min(1).max(65_535)

/** A router has one at most; down is as if it were not there. */
export const loadBalancerSchema = z.strictObject({
  id: idSchema,
  name: nameSchema.optional(),
  /** Without one it does nothing. */
  router: idSchema.optional(),
  adminUp: z.boolean(),
})

/** Servers that stand for each other. (`pool` is Docker's word for a pool of addresses.) */
export const balancerPoolSchema = z.strictObject({
  id: idSchema,
  name: nameSchema.optional(),
  loadBalancer: idSchema,
  /** Down: no new connections, as with each member down. */
  adminUp: z.boolean(),
  healthMonitor: idSchema.optional(),
})

/** A server: address and port; with port 0 the one that was asked for. */
export const poolMemberSchema = z.strictObject({
  id: idSchema,
  pool: idSchema,
  address: ipSchema,
  port: tpPortSchema,
  /** Its part of new connections among the weights of all; none with 0. */
  weight: z.int().min(0).max(65_535),
  /** Down: no new connections; those that stand go on unless their VIP is sticky. */
  adminUp: z.boolean(),
  /** What is known of its health, by whoever looks; without it it is taken to be well. */
  status: z.enum(['active', 'inactive']).optional(),
})

/** An address and port (0: all that no other VIP has) whose connections go to a pool's members. */
export const vipSchema = z.strictObject({
  id: idSchema,
  name: nameSchema.optional(),
  loadBalancer: idSchema,
  pool: idSchema,
  address: ipSchema,
  protocol: z.enum(['tcp', 'udp']),
  port: tpPortSchema,
  /** `sourceIp`: a client's connections all go to one member. */
  persistence: z.enum(['none', 'sourceIp']),
  /** Ports of each host with an uplink of the router that lead to it: to which of its ports. */
  published: z
    .array(z.strictObject({ hostPort: portSchema, port: portSchema }))
    .max(256)
    .optional(),
  /** Down is as if it were not there. */
  adminUp: z.boolean(),
})

/** How members of pools are looked after: a TCP connection each `delaySeconds`. */
export const healthMonitorSchema = z.strictObject({
  id: idSchema,
  name: nameSchema.optional(),
  kind: z.literal('tcp'),
  delaySeconds: z.int().min(1).max(3600),
  timeoutSeconds: z.int().min(1).max(600),
  /** Failures in a row that make a member inactive; one success makes it active again. */
  maxRetries: z.int().min(1).max(100),
  adminUp: z.boolean(),
})
