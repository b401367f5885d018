/** What a router port tells the stations of its link: IPv6 router advertisements, RFC 4861. */
import { z } from 'zod'

export const advertisementSchema = z.strictObject({
  /** What is disabled says nothing, and answers no solicitation. */
  enabled: z.boolean(),
  /** 200 by default. */
  intervalSeconds: z.int().min(4).max(1800).optional(),
  /** How long the router serves as a default router; 0: not at all. Three intervals by default. */
  lifetimeSeconds: z.int().min(0).max(9000).optional(),
  /** Stations get addresses, or other things, from a DHCPv6 server. */
  managed: z.boolean().optional(),
  otherConfiguration: z.boolean().optional(),
  /** Stations make addresses of their own out of prefixes of 64 bits; true by default. */
  autonomous: z.boolean().optional(),
  /** Of these addresses: 30 days, and 7 days, by default. */
  validSeconds: z.int().min(0).max(0xffff_ffff).optional(),
  preferredSeconds: z.int().min(0).max(0xffff_ffff).optional(),
})
