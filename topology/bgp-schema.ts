/**
 * BGP of a router: whom it speaks to, and what it tells them.
 *
 *   bgpPeer, bgpNetwork ── router (asn)
 *
 * Each host that has a port of the router bound, on whose network a peer is, speaks to that peer.
 */
import { z } from 'zod'
import { cidrSchema, idSchema, ipSchema } from './field-schema.ts'

/** RFC 6793; 0 and the last one are reserved (RFC 7607, RFC 7300), 23456 stands for "too long". */
export const asnSchema = z
  .int()
  .min(1)
  .max(0xffff_fffe)
  .refine((asn) => asn !== 23_456, { message: 'must not be 23456 (AS_TRANS)' })

export const bgpPeerSchema = z.strictObject({
  id: idSchema,
  router: idSchema,
  /** Of the peer; the router's own makes it an internal one. */
  asn: asnSchema,
  address: ipSchema,
  /** Seconds without a word after which the session is over; 180 without, 0 is never (RFC 4271). */
  holdTime: z
    .int()
    .max(65_535)
    .refine((seconds) => seconds === 0 || seconds >= 3, { message: 'must be 0, or 3 and more' })
    .optional(),
  /** Seconds between words to the peer; 60 without. */
  keepAlive: z.int().min(0).max(65_535).optional(),
  /** Seconds between tries to connect; 10 without. */
  connectRetry: z.int().min(1).max(65_535).optional(),
  /**
   * Of TCP's MD5 signatures (RFC 2385). A secret: the API takes it and never tells it. No spaces
   * and nothing that ends a line of the daemon's configuration.
   */
  password: z
    .string()
    .regex(/^[!-~]{1,80}$/, 'must be 1 to 80 printable characters without spaces')
    .optional(),
  /** Whether BFD watches over the link (RFC 5882): 200 ms, three times. */
  bfd: z.boolean().optional(),
})

/** A network that the router says it reaches. */
export const bgpNetworkSchema = z.strictObject({
  id: idSchema,
  router: idSchema,
  prefix: cidrSchema,
})
