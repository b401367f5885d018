/** Addresses that a bridge gives to its stations by DHCP. */
import { z } from 'zod'
import { cidrSchema, idSchema, ipSchema, macSchema } from './field-schema.ts'

const domainSchema = z
  .string()
  .regex(
    /^(?=.{1,253}$)[0-9A-Za-z]([0-9A-Za-z-]{0,62})(\.[0-9A-Za-z]([0-9A-Za-z-]{0,62}))*$/,
    'must be a domain such as shop.example',
  )
const hostNameSchema = z
  .string()
  .regex(/^[0-9A-Za-z][0-9A-Za-z-]{0,62}$/, 'must be a host name such as web-1')

/** What stations of one subnet of a bridge are told. */
export const dhcpSubnetSchema = z.strictObject({
  id: idSchema,
  bridge: idSchema,
  /** A disabled subnet answers nobody. */
  enabled: z.boolean(),
  subnet: cidrSchema,
  gateway: ipSchema.optional(),
  /** Whom clients know as the server; the gateway by default. */
  server: ipSchema.optional(),
  dnsServers: z.array(ipSchema).max(16).optional(),
  /** The lesser of this and the bridge's is told. */
  mtu: z.int().min(576).max(65_535).optional(),
  /** Option 121; the way by the gateway is added to it. A gateway of 0.0.0.0 is the link itself. */
  routes: z
    .array(z.strictObject({ dst: cidrSchema, gateway: ipSchema }))
    .max(32)
    .optional(),
  /** A day by default. */
  leaseSeconds: z.int().min(60).max(0xffff_ffff).optional(),
  domain: domainSchema.optional(),
})

/** A station that a subnet knows. */
export const dhcpHostSchema = z.strictObject({
  id: idSchema,
  subnet: idSchema,
  mac: macSchema,
  address: ipSchema,
  name: hostNameSchema.optional(),
  /** Told besides, and instead of what the subnet says: by number, or by name. */
  options: z
    .array(
      z.strictObject({
        option: z.union([z.int().min(1).max(254), z.string().min(1).max(64)]),
        value: z.string().max(1024),
      }),
    )
    .max(32)
    .optional(),
})
