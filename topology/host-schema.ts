/**
 * Hosts, tunnel zones, and the facts that live only while a host does.
 *
 *   host ── zoneMember ── tunnelZone         binding.tunnelKey: the key that names the egress port
 *   hostAlive, portActive, learnedMac, learnedNeighbor, learnedRoute: ephemeral
 *
 * Ephemeral facts are tied to the lease of the host that wrote them: they are gone when the host
 * is, without anybody deleting them. They may name an object that is gone already; no object is
 * kept from being deleted by them.
 */
import { z } from 'zod'
import {
  cidr6Schema,
  cidrSchema,
  idSchema,
  interfaceSchema,
  ip6Schema,
  ipSchema,
  macSchema,
  nameSchema,
} from './field-schema.ts'

/** An address of the underlay. */
const underlayAddressSchema = z.union([ipSchema, ip6Schema])

/** What a host says of itself when its agent starts, and whenever that changes. */
export const hostSchema = z.strictObject({
  /** Kept in the agent's state directory. */
  id: idSchema,
  name: z.string().min(1).max(253),
  /** The host's own interfaces; those that the agent made are not among them. */
  interfaces: z
    .array(
      z.strictObject({
        name: interfaceSchema,
        mac: macSchema.optional(),
        mtu: z.int().min(68).max(0x7fff_ffff),
        up: z.boolean(),
        addresses: z.array(z.union([cidrSchema, cidr6Schema])).max(64),
      }),
    )
    .max(256)
    .optional(),
})

/** How the hosts of a zone reach each other. */
export const tunnelZoneSchema = z.strictObject({
  id: idSchema,
  name: nameSchema.optional(),
  encapsulation: z.enum(['vxlan', 'gre', 'geneve']),
  /** Of VXLAN (4789 without) or Geneve (6081 without). */
  udpPort: z.int().min(1).max(65535).optional(),
})

/** A host in a zone. A host may be in several zones, once in each. */
export const zoneMemberSchema = z.strictObject({
  /** `<zone>_<host>`. */
  id: idSchema,
  zone: idSchema,
  host: idSchema,
  /** Source of what the host sends, destination of what is sent to it: one host's in a zone. */
  address: underlayAddressSchema,
})

/**
 * Bits 0 to 22 of the 24 on the wire; bit 23 says that the packet is for all ports of the named
 * port's bridge that the host has. 0 and the flow-state key, all ones, name no port.
 */
export const tunnelKeyMax = 0x7f_fffe
/** Earlier versions gave out larger ones, too: the port's host replaces them. */
export const tunnelKeySchema = z.int().min(1).max(0xff_fffe)

/** The host's agent runs and reaches the store. */
export const hostAliveSchema = z.strictObject({
  /** The host's id. */
  id: idSchema,
  /** When the agent came up; ISO 8601, UTC. */
  since: z.iso.datetime(),
})

/** The port's interface is in the host's datapath. */
export const portActiveSchema = z.strictObject({
  /** The port's id. */
  id: idSchema,
  host: idSchema,
})

/** A station seen behind a bridge's port. */
export const learnedMacSchema = z.strictObject({
  /** `<bridge>_<vlan>_<mac>`, see `learnedMacId`. */
  id: idSchema,
  bridge: idSchema,
  /** 0 for untagged frames. */
  vlan: z.int().min(0).max(4095),
  mac: macSchema,
  port: idSchema,
  host: idSchema,
})

/** Who answered a router's ARP request or neighbour solicitation. */
export const learnedNeighborSchema = z.strictObject({
  /** `<router>_<address>`. */
  id: idSchema,
  router: idSchema,
  port: idSchema,
  address: underlayAddressSchema,
  mac: macSchema,
  host: idSchema,
})

/** A route that a routing protocol of the host brought. */
export const learnedRouteSchema = z.strictObject({
  /** `<router>_<host>_<anything>`. */
  id: idSchema,
  router: idSchema,
  dst: z.union([cidrSchema, cidr6Schema]),
  port: idSchema,
  gateway: underlayAddressSchema,
  weight: z.int().min(0).max(0xffff_ffff),
  host: idSchema,
})

/** The kinds whose objects live only while the host that wrote them does. */
export const ephemeralKinds = [
  'hostAlive',
  'portActive',
  'learnedMac',
  'learnedNeighbor',
  'learnedRoute',
] as const

/** Whether objects of this kind are tied to the writing host's lease. */
export function isEphemeral(kind: string): boolean {
  return ephemeralKinds.some((one) => one === kind)
}

/** The id of a host's membership in a zone. */
export function zoneMemberId(zone: string, host: string): string {
  return `${zone}_${host}`
}

/** The id of what is known of a MAC on a bridge. */
export function learnedMacId(bridge: string, vlan: number, mac: string): string {
  return `${bridge}_${vlan}_${mac}`
}

/** The id of what is known of an address next to a router. */
export function learnedNeighborId(router: string, address: string): string {
  return `${router}_${address}`
}
