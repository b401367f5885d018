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
import { advertisementSchema } from './advertisement-schema.ts'
import {
  balancerPoolSchema,
  healthMonitorSchema,
  loadBalancerSchema,
  poolMemberSchema,
  vipSchema,
} from './balance-schema.ts'
import { asnSchema, bgpNetworkSchema, bgpPeerSchema } from './bgp-schema.ts'
import { dhcpHostSchema, dhcpSubnetSchema } from './dhcp-schema.ts'
import {
  addressSchema,
  endpointSchema,
  networkSchema,
  poolSchema,
  type publicationSchema,
  uplinkSchema,
} from './docker-schema.ts'
import {
  cidr6Schema,
  cidrSchema,
  eitherCidrSchema,
  eitherIpSchema,
  idSchema,
  interfaceSchema,
  ip6Schema,
  ipSchema,
  macSchema,
  mtuSchema,
  nameSchema,
  vlanSchema,
} from './field-schema.ts'
import {
  hostAliveSchema,
  hostSchema,
  learnedMacSchema,
  learnedNeighborSchema,
  learnedRouteSchema,
  portActiveSchema,
  tunnelKeySchema,
  tunnelZoneSchema,
  zoneMemberSchema,
} from './host-schema.ts'
import { mirrorSchema } from './mirror-schema.ts'
import {
  addressGroupSchema,
  chainSchema,
  type conditionSchema,
  portGroupSchema,
  type ruleActionSchema,
  ruleSchema,
} from './policy-schema.ts'
import { qosPolicySchema, traceRequestSchema } from './qos-schema.ts'

export const bridgeSchema = z.strictObject({
  id: idSchema,
  name: nameSchema.optional(),
  adminUp: z.boolean(),
  /** What packets must pass on their way in and out. */
  inboundChain: idSchema.optional(),
  outboundChain: idSchema.optional(),
  /** Of ports that name no other. */
  qosPolicy: idSchema.optional(),
  /** The largest IP packet that its links carry. */
  mtu: mtuSchema.optional(),
})

export const routerSchema = z.strictObject({
  id: idSchema,
  name: nameSchema.optional(),
  adminUp: z.boolean(),
  /** What packets must pass on their way in and out. */
  inboundChain: idSchema.optional(),
  outboundChain: idSchema.optional(),
  /** Its autonomous system: with one it speaks BGP to its `bgpPeer`s. */
  asn: asnSchema.optional(),
})

export const bridgePortSchema = z.strictObject({
  id: idSchema,
  kind: z.literal('bridge'),
  bridge: idSchema,
  adminUp: z.boolean(),
  /**
   * Makes this an access port, and its bridge VLAN-aware: frames are tagged with this VLAN inside.
   * Ports without are trunks then.
   */
  vlan: vlanSchema.optional(),
  /** The other port of the link; both name each other. */
  peer: idSchema.optional(),
  /** What packets must pass on their way in and out. */
  inboundChain: idSchema.optional(),
  outboundChain: idSchema.optional(),
  portGroups: z.array(idSchema).max(64).optional(),
  qosPolicy: idSchema.optional(),
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
  qosPolicy: idSchema.optional(),
  /** The largest IP packet that may leave by it; else the MTU of the bridge that it is linked to. */
  mtu: mtuSchema.optional(),
  mac: macSchema,
  /** The router's own on this link. Each gives a LOCAL /32 route and a connected route. */
  addresses: z.array(cidrSchema).max(64),
  /**
   * Likewise. With such, be it an empty list, the port speaks IPv6 and has besides a link-local
   * address made of its MAC address.
   */
  addresses6: z.array(cidr6Schema).max(64).optional(),
  /** Static neighbours on this link: never asked for by ARP or neighbour discovery. */
  neighbors: z
    .array(z.strictObject({ address: ipSchema, mac: macSchema }))
    .max(64)
    .optional(),
  neighbors6: z
    .array(z.strictObject({ address: ip6Schema, mac: macSchema }))
    .max(64)
    .optional(),
  /** None by default. */
  advertisement: advertisementSchema.optional(),
})

export const portSchema = z.discriminatedUnion('kind', [bridgePortSchema, routerPortSchema])

/**
 * What a router does with a packet whose longest matching prefix this is; lower weight wins, equals
 * share (ECMP).
 */
export const routeSchema = z.strictObject({
  id: idSchema,
  router: idSchema,
  /** Networks and gateway are of one family. */
  src: eitherCidrSchema,
  dst: eitherCidrSchema,
  action: z.enum(['port', 'blackhole', 'reject', 'local']),
  /** With action `port`: the port the packet leaves by. */
  port: idSchema.optional(),
  /** With action `port`: the next hop; without it the destination itself is on the link. */
  gateway: eitherIpSchema.optional(),
  weight: z.int().min(0).max(0xffff_ffff),
})

/** Exterior port `id` is interface `interface` of host `host`: one binding a port. */
export const bindingSchema = z.strictObject({
  id: idSchema,
  host: idSchema,
  interface: interfaceSchema,
  /** Names the port as egress in tunnels between hosts; no other port of the cluster has it. */
  tunnelKey: tunnelKeySchema.optional(),
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
  tunnelZone: tunnelZoneSchema,
  zoneMember: zoneMemberSchema,
  hostAlive: hostAliveSchema,
  portActive: portActiveSchema,
  learnedMac: learnedMacSchema,
  learnedNeighbor: learnedNeighborSchema,
  learnedRoute: learnedRouteSchema,
  dhcpSubnet: dhcpSubnetSchema,
  dhcpHost: dhcpHostSchema,
  qosPolicy: qosPolicySchema,
  traceRequest: traceRequestSchema,
  loadBalancer: loadBalancerSchema,
  balancerPool: balancerPoolSchema,
  poolMember: poolMemberSchema,
  vip: vipSchema,
  healthMonitor: healthMonitorSchema,
  mirror: mirrorSchema,
  bgpPeer: bgpPeerSchema,
  bgpNetwork: bgpNetworkSchema,
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
export type DhcpSubnet = ObjectOf<'dhcpSubnet'>
export type DhcpHost = ObjectOf<'dhcpHost'>
export type QosPolicy = ObjectOf<'qosPolicy'>
export type TraceRequest = ObjectOf<'traceRequest'>
export type LoadBalancer = ObjectOf<'loadBalancer'>
export type BalancerPool = ObjectOf<'balancerPool'>
export type PoolMember = ObjectOf<'poolMember'>
export type Vip = ObjectOf<'vip'>
export type HealthMonitor = ObjectOf<'healthMonitor'>
export type Mirror = ObjectOf<'mirror'>
export type BgpPeer = ObjectOf<'bgpPeer'>
export type BgpNetwork = ObjectOf<'bgpNetwork'>
export type LearnedRoute = ObjectOf<'learnedRoute'>

export type TunnelZone = ObjectOf<'tunnelZone'>
export type ZoneMember = ObjectOf<'zoneMember'>

export const kinds = Object.keys(schemas) as readonly Kind[]
