/**
 * The model: every kind of object the store holds, one schema each.
 *
 *   host ── binding ── port ──── bridge
 *                       │peer
 *                      port ──── router ── route
 *
 * A port belongs to one bridge or router. It is interior (linked to a peer), exterior (bound to an
 * interface of a host by a binding with the port's own id) or unplugged.
 * `pool`, `address`, `network` and `endpoint` are what Docker's side must remember.
 *
 *   port, bridge, router ── inboundChain, outboundChain ── chain ── rule ── addressGroup, portGroup
 *
 * A chain's rules are objects of their own, in the order of their positions.
 */
import { z } from 'zod'
import { isGroupMac, parseCidr, parseIp, parseIpv6, parseMac } from '../packet/address.ts'
import { parseCidr6 } from './address6.ts'

/** Object ids: UUIDs of ours, Docker's ids, or derived ones such as `<pool>_<address>`. */
export const idSchema = z
  .string()
  .regex(/^[0-9A-Za-z][0-9A-Za-z._:-]{0,191}$/, 'must be 1 to 192 letters, digits or . _ : -')
export const nameSchema = z
  .string()
  .regex(
    /^[0-9A-Za-z][0-9A-Za-z_. -]{0,62}$/,
    'must be 1 to 63 letters, digits, spaces or _ . - and start with a letter or digit',
  )
/** Lower case, colons; of one station, not of a group. */
export const macSchema = z.string().refine(isStationMac, {
  message: 'must be the MAC address of one station, in lower case, such as 02:00:00:00:00:0a',
})
export const ipSchema = z.string().refine((text) => parseIp(text) !== undefined, {
  message: 'must be an IPv4 address such as 10.1.0.5',
})
/** IPv6 is carried by bridges; routers learn it later. Text as Docker gave it. */
export const ip6Schema = z.string().refine((text) => parseIpv6(text) !== undefined, {
  message: 'must be an IPv6 address such as fd00::5',
})
/** An address with its prefix length; host bits may be set. */
export const cidrSchema = z.string().refine((text) => parseCidr(text) !== undefined, {
  message: 'must be an IPv4 network such as 10.1.0.0/24',
})
export const cidr6Schema = z.string().refine((text) => parseCidr6(text) !== undefined, {
  message: 'must be an IPv6 network such as fd00::/64',
})
/** A Linux interface name, IFNAMSIZ less the end of string. */
export const interfaceSchema = z
  .string()
  .regex(/^[^\s/:]{1,15}$/, 'must be an interface name of 1 to 15 characters')

export const hostSchema = z.strictObject({ id: idSchema, name: z.string().min(1).max(253) })

export const bridgeSchema = z.strictObject({
  id: idSchema,
  name: nameSchema.optional(),
  adminUp: z.boolean(),
  /** What packets must pass on their way in and out. */
  inboundChain: idSchema.optional(),
  outboundChain: idSchema.optional(),
})

export const routerSchema = z.strictObject({
  id: idSchema,
  name: nameSchema.optional(),
  adminUp: z.boolean(),
  /** What packets must pass on their way in and out. */
  inboundChain: idSchema.optional(),
  outboundChain: idSchema.optional(),
})

export const bridgePortSchema = z.strictObject({
  id: idSchema,
  kind: z.literal('bridge'),
  bridge: idSchema,
  adminUp: z.boolean(),
  /** The other port of the link; both name each other. */
  peer: idSchema.optional(),
  /** What packets must pass on their way in and out. */
  inboundChain: idSchema.optional(),
  outboundChain: idSchema.optional(),
  portGroups: z.array(idSchema).max(64).optional(),
  /** Who is known to be behind this port: nothing is flooded or asked for to find them. */
  stations: z
    .array(
      z.strictObject({
        mac: macSchema,
        addresses: z.array(ipSchema).max(64),
        addresses6: z.array(ip6Schema).max(64).optional(),
      }),
    )
    .max(64)
    .optional(),
})

export const routerPortSchema = z.strictObject({
  id: idSchema,
  kind: z.literal('router'),
  router: idSchema,
  adminUp: z.boolean(),
  peer: idSchema.optional(),
  /** What packets must pass on their way in and out. */
  inboundChain: idSchema.optional(),
  outboundChain: idSchema.optional(),
  portGroups: z.array(idSchema).max(64).optional(),
  mac: macSchema,
  /** The router's own on this link. Each gives a LOCAL /32 route and a connected route. */
  addresses: z.array(cidrSchema).max(64),
  addresses6: z.array(cidr6Schema).max(64).optional(),
  /** Static neighbours on this link: never asked for by ARP. */
  neighbors: z
    .array(z.strictObject({ address: ipSchema, mac: macSchema }))
    .max(64)
    .optional(),
})

export const portSchema = z.discriminatedUnion('kind', [bridgePortSchema, routerPortSchema])

/**
 * What a router does with a packet whose longest matching prefix this is; lower weight wins, equals
 * share (ECMP).
 */
export const routeSchema = z.strictObject({
  id: idSchema,
  router: idSchema,
  src: cidrSchema,
  dst: cidrSchema,
  action: z.enum(['port', 'blackhole', 'reject', 'local']),
  /** With action `port`: the port the packet leaves by. */
  port: idSchema.optional(),
  /** With action `port`: the next hop; without it the destination itself is on the link. */
  gateway: ipSchema.optional(),
  weight: z.int().min(0).max(0xffff_ffff),
})

/** Exterior port `id` is interface `interface` of host `host`: one binding a port. */
export const bindingSchema = z.strictObject({
  id: idSchema,
  host: idSchema,
  interface: interfaceSchema,
})

/** An IPAM pool. Its addresses are objects of their own, so that one is taken once. */
export const poolSchema = z.strictObject({
  id: idSchema,
  space: z
    .string()
    .regex(/^[0-9A-Za-z][0-9A-Za-z._-]{0,63}$/, 'must be 1 to 64 letters, digits or . _ -'),
  subnet: z.union([cidrSchema, cidr6Schema]),
  /** Addresses are handed out from here only; within the subnet. */
  range: z.union([cidrSchema, cidr6Schema]).optional(),
  /** Docker asks for a pool once per network; it is gone when as many releases came. */
  references: z.int().min(1),
  /** Where the search for a free address goes on: a released one is not given again at once. */
  next: z.string().optional(),
})

export const addressSchema = z.strictObject({
  /** `<pool>_<address>`. */
  id: idSchema,
  pool: idSchema,
  address: z.union([ipSchema, ip6Schema]),
  gateway: z.boolean(),
})

/** A published port of a container: host side to container side. */
export const publicationSchema = z.strictObject({
  protocol: z.enum(['tcp', 'udp', 'sctp']),
  hostAddress: z.string().max(45),
  hostPort: z.int().min(1).max(65535),
  port: z.int().min(1).max(65535),
})

/** A Docker network, and what stands for it in the topology. */
export const networkSchema = z.strictObject({
  id: idSchema,
  bridge: idSchema,
  /** Whether the bridge was made for Docker's networks and goes with the last of them. */
  ownsBridge: z.boolean(),
  /** Absent for an internal network that named no router. */
  router: idSchema.optional(),
  /** Whether the router was made for Docker's networks and goes with the last of them. */
  ownsRouter: z.boolean().optional(),
  /** The router's port that is the network's gateway. */
  routerPort: idSchema.optional(),
  subnets: z.array(z.strictObject({ subnet: cidrSchema, gateway: cidrSchema.optional() })).max(16),
  subnets6: z
    .array(z.strictObject({ subnet: cidr6Schema, gateway: cidr6Schema.optional() }))
    .max(16),
  internal: z.boolean(),
  /** Who provides way out and published ports: our router, or Docker's gateway bridge. */
  gatewayMode: z.enum(['virtual', 'docker']),
  mtu: z.int().min(576).max(65535),
  options: z.record(z.string().max(256), z.string().max(4096)),
})

/** A Docker endpoint on host `host`; its port and binding have the same id. */
export const endpointSchema = z.strictObject({
  id: idSchema,
  network: idSchema,
  host: idSchema,
  mac: macSchema,
  address: cidrSchema.optional(),
  address6: cidr6Schema.optional(),
  /** The host end of the veth pair; the other end is given to Docker at Join. */
  interface: interfaceSchema.optional(),
  sandbox: z.string().max(4096).optional(),
  publications: z.array(publicationSchema).max(4096),
})

/** The way out of a router on one host: a router port on a veth, whose other end is the host's. */
export const uplinkSchema = z.strictObject({
  /** The router port's id. */
  id: idSchema,
  router: idSchema,
  host: idSchema,
  /** The host's end, with the host's address on the link. */
  interface: interfaceSchema,
  hostAddress: cidrSchema,
  hostMac: macSchema,
})

/** A list of rules; its end lets pass. */
export const chainSchema = z.strictObject({ id: idSchema, name: nameSchema.optional() })

/** A set of addresses that rules name. */
export const addressGroupSchema = z.strictObject({
  id: idSchema,
  name: nameSchema.optional(),
  addresses: z.array(ipSchema).max(65_536),
})

/** A set of ports that rules name; each port says which groups it is in. */
export const portGroupSchema = z.strictObject({ id: idSchema, name: nameSchema.optional() })

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
  src: match(cidrSchema),
  dst: match(cidrSchema),
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
  icmpDataSrc: match(cidrSchema),
  icmpDataDst: match(cidrSchema),
})

const natTargetSchema = z.strictObject({
  first: ipSchema,
  last: ipSchema,
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
    address: ipSchema,
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
])

export const ruleSchema = z.strictObject({
  id: idSchema,
  chain: idSchema,
  /** Lower comes first; one rule a position. */
  position: z.int().min(0).max(0x7fff_ffff),
  condition: conditionSchema.optional(),
  action: ruleActionSchema,
})

/** Schemas by kind. A kind's name is its folder in the store: `/midonet/v1/<kind>/<id>`. */
export const schemas = {
  host: hostSchema,
  bridge: bridgeSchema,
  router: routerSchema,
  port: portSchema,
  route: routeSchema,
  binding: bindingSchema,
  pool: poolSchema,
  address: addressSchema,
  network: networkSchema,
  endpoint: endpointSchema,
  uplink: uplinkSchema,
  chain: chainSchema,
  rule: ruleSchema,
  portGroup: portGroupSchema,
  addressGroup: addressGroupSchema,
} as const

export type Kind = keyof typeof schemas
/** What each kind's objects are. */
export type Objects = { readonly [K in Kind]: z.infer<(typeof schemas)[K]> }
export type ObjectOf<K extends Kind> = Objects[K]

export type Host = ObjectOf<'host'>
export type Bridge = ObjectOf<'bridge'>
export type Router = ObjectOf<'router'>
export type Port = ObjectOf<'port'>
export type BridgePort = z.infer<typeof bridgePortSchema>
export type RouterPort = z.infer<typeof routerPortSchema>
export type Route = ObjectOf<'route'>
export type Binding = ObjectOf<'binding'>
export type Pool = ObjectOf<'pool'>
export type Address = ObjectOf<'address'>
export type Publication = z.infer<typeof publicationSchema>
export type Network = ObjectOf<'network'>
export type Endpoint = ObjectOf<'endpoint'>
export type Uplink = ObjectOf<'uplink'>
export type Chain = ObjectOf<'chain'>
export type Rule = ObjectOf<'rule'>
export type Condition = z.infer<typeof conditionSchema>
export type RuleAction = z.infer<typeof ruleActionSchema>
export type PortGroup = ObjectOf<'portGroup'>
export type AddressGroup = ObjectOf<'addressGroup'>

export const kinds = Object.keys(schemas) as readonly Kind[]

function isStationMac(text: string): boolean {
  const mac = parseMac(text)
  return mac !== undefined && mac !== 0 && !isGroupMac(mac) && text === text.toLowerCase()
}
