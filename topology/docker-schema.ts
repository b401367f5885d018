/** What Docker's side must remember: pools and addresses, networks, endpoints, uplinks. */
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
  /** Whose Docker asked for it; that host alone gives it back. */
  host: idSchema.optional(),
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
  /** Whose Docker has it; engines that share no Swarm have each a network of their own. */
  host: idSchema.optional(),
  /** Made by Swarm: one for all hosts, which no host has alone. */
  swarm: z.boolean().optional(),
  /** Swarm has it no more; it goes with its last endpoint. */
  freed: z.boolean().optional(),
  bridge: idSchema,
  /** Whether the bridge was made for Docker's networks and goes with the last of them. */
  ownsBridge: z.boolean(),
  /** Absent for an internal network that named no router. */
  router: idSchema.optional(),
  /** Whether the router was made for Docker's networks and goes with the last of them. */
  ownsRouter: z.boolean().optional(),
  /** The router by which the network's own router reaches the outside; without it by itself. */
  provider: idSchema.optional(),
  /** Whether the provider was made for Docker's networks and goes with the last of them. */
  ownsProvider: z.boolean().optional(),
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
  /** Present when it stands for a network configuration of CNI: Docker knows nothing of it. */
  cni: z
    .strictObject({
      name: z.string().min(1).max(255),
      /** Pools it holds a reference of, and addresses it has taken for its gateways. */
      pools: z.array(idSchema).max(2),
      reserved: z.array(idSchema).max(2),
    })
    .optional(),
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
  /** Names of the groups that its port is in. */
  securityGroups: z.array(nameSchema).min(1).max(16).optional(),
  /** The container's label that says so, as it is given: not all it names need be there. */
  groupsLabel: z.string().max(4096).optional(),
  /** Present when it was made by CNI's ADD: whose it is, and the addresses it has from our pools. */
  cni: z
    .strictObject({
      container: z.string().min(1).max(255),
      interface: interfaceSchema,
      /** The network namespace's file as the runtime named it. */
      netns: z.string().max(4096),
      addresses: z.array(idSchema).max(16),
    })
    .optional(),
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
