/** Chains, their rules, and the groups that rules name. */
import { z } from 'zod'
import { parseMac } from '../packet/address.ts'
import {
  cidr6Schema,
  eitherCidrSchema,
  eitherIpSchema,
  idSchema,
  nameSchema,
} from './field-schema.ts'
import { redirectSchema } from './redirect-schema.ts'

/** A list of rules; its end lets pass. */
export const chainSchema = z.strictObject({ id: idSchema, name: nameSchema.optional() })

/** A set of addresses that rules name. */
export const addressGroupSchema = z.strictObject({
  id: idSchema,
  name: nameSchema.optional(),
  addresses: z.array(eitherIpSchema).max(65_536),
})

/** A set of ports that rules name; each port says which groups it is in. */
export const portGroupSchema = z.strictObject({
  id: idSchema,
  name: nameSchema.optional(),
  /** Answers to what went out by one of the ports may come back by another. */
  stateful: z.boolean().optional(),
})

/** What a field must be, or with `not` must not be. */
function match<T extends z.ZodType>(schema: T) {
  return z.strictObject({ is: schema, not: z.boolean().optional() }).optional()
}

const tpPortsSchema = z.strictObject({
  first: z.int().min(0).max(65535),
  last: z.int().min(0).max(65535),
})
const maskedMacSchema = z.strictObject({
  address: z.string().refine((text) => parseMac(text) !== undefined, {
    message: 'must be a MAC address such as 02:00:00:00:00:0a',
  }),
  /** Bits that count; all of them by default. */
  mask: z
    .string()
    .refine((text) => parseMac(text) !== undefined, {
      message: 'must be a mask such as ff:ff:ff:00:00:00',
    })
    .optional(),
})
const portIdsSchema = z.array(idSchema).min(1).max(256)

/** All that is given must hold; `invert` turns the whole over. Nothing given holds always. */
export const conditionSchema = z.strictObject({
  invert: z.boolean().optional(),
  /** Ports of the device the packet is in: where it came in, where it leaves. */
  inPorts: match(portIdsSchema),
  outPorts: match(portIdsSchema),
  inPortGroup: match(idSchema),
  outPortGroup: match(idSchema),
  /** Either of both ports is in the group. */
  portGroup: match(idSchema),
  /** Devices and ports the packet has come through. */
  traversed: match(z.strictObject({ kind: z.enum(['bridge', 'router', 'port']), id: idSchema })),
  ethType: match(z.int().min(0).max(0xffff)),
  ethSrc: match(maskedMacSchema),
  ethDst: match(maskedMacSchema),
  /** VLAN of the tag, or `none` for a frame without. */
  vlan: match(z.union([z.int().min(0).max(4095), z.literal('none')])),
  tos: match(z.int().min(0).max(255)),
  protocol: match(z.int().min(0).max(255)),
  src: match(eitherCidrSchema),
  dst: match(eitherCidrSchema),
  srcGroup: match(idSchema),
  dstGroup: match(idSchema),
  /** Of ICMP: type, and code. */
  srcPorts: match(tpPortsSchema),
  dstPorts: match(tpPortsSchema),
  /** Never inverted. Without it `header` when ports are asked for, else `any`. */
  fragments: z.enum(['any', 'header', 'nonHeader', 'unfragmented']).optional(),
  /** Whether the packet opens or continues a connection's way there, or its way back. */
  flow: match(z.enum(['forward', 'return'])),
  /** Whether this device has given the packet another destination. */
  dstRewritten: z.boolean().optional(),
  /** Addresses of the packet that an ICMP error is about. */
  icmpDataSrc: match(eitherCidrSchema),
  icmpDataDst: match(eitherCidrSchema),
})

const natTargetSchema = z.strictObject({
  first: eitherIpSchema,
  last: eitherIpSchema,
  /** A destination keeps its port without; a source needs them. */
  ports: tpPortsSchema.optional(),
})
const natVerdictSchema = z.enum(['accept', 'continue', 'return'])

/** What a rule does with what meets its condition. */
export const ruleActionSchema = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('accept') }),
  z.strictObject({ kind: z.literal('drop') }),
  /** Drops and tells the sender. */
  z.strictObject({ kind: z.literal('reject') }),
  z.strictObject({ kind: z.literal('return') }),
  z.strictObject({ kind: z.literal('continue') }),
  z.strictObject({ kind: z.literal('jump'), chain: idSchema }),
  /** One address for another, without any state. */
  z.strictObject({
    kind: z.enum(['staticSnat', 'staticDnat']),
    address: eitherIpSchema,
    verdict: natVerdictSchema,
  }),
  /**
   * One IPv6 prefix for another of its length, without any state and so that no checksum changes
   * (RFC 6296). What is not in `from` does not meet the rule.
   */
  z.strictObject({
    kind: z.enum(['prefixSnat', 'prefixDnat']),
    from: cidr6Schema,
    to: cidr6Schema,
    verdict: natVerdictSchema,
  }),
  /** An address and port for each connection. */
  z.strictObject({
    kind: z.enum(['snat', 'dnat']),
    targets: z.array(natTargetSchema).min(1).max(64),
    verdict: natVerdictSchema,
  }),
  /** A source address of the port the packet leaves by. */
  z.strictObject({
    kind: z.literal('masquerade'),
    ports: tpPortsSchema,
    verdict: natVerdictSchema,
  }),
  /** What belongs to a connection that such a rule changed is changed back; else no match. */
  z.strictObject({ kind: z.enum(['reverseSnat', 'reverseDnat']), verdict: natVerdictSchema }),
  redirectSchema,
])

export const ruleSchema = z.strictObject({
  id: idSchema,
  chain: idSchema,
  /** Lower comes first; one rule a position. */
  position: z.int().min(0).max(0x7fff_ffff),
  condition: conditionSchema.optional(),
  action: ruleActionSchema,
})
