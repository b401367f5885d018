/** What `midonet-cni` asks the agent for, and the keys of a network configuration of CNI. */
import { z } from 'zod'
import { parseMac } from '../packet/address.ts'
import {
  cidr6Schema,
  cidrSchema,
  eitherCidrSchema,
  eitherIpSchema,
  interfaceSchema,
  nameSchema,
} from '../topology/field-schema.ts'
import { CniError } from './cni-error.ts'

const text = z.string().max(4096)
const container = z.string().regex(/^[0-9A-Za-z][0-9A-Za-z_.-]{0,254}$/, 'must be a container id')
const routeSchema = z.object({
  dst: eitherCidrSchema,
  gw: eitherIpSchema.optional(),
  mtu: z.int().min(68).max(65_535).optional(),
  advmss: z.int().min(1).max(65_535).optional(),
  priority: z.int().min(0).max(4_294_967_295).optional(),
  table: z.int().min(1).max(4_294_967_295).optional(),
  scope: z.int().min(0).max(255).optional(),
})
const routes = z.array(routeSchema).max(256)
const ips = z.array(z.object({ address: eitherCidrSchema, gateway: eitherIpSchema.optional() }))
const attachment = z.object({ containerID: container, ifname: interfaceSchema })

const requestSchema = z.object({
  command: z.enum(['ADD', 'DEL', 'CHECK', 'GC', 'STATUS']),
  network: z.string().regex(/^[0-9A-Za-z][0-9A-Za-z_.-]{0,254}$/, 'must be a network name'),
  container: container.optional(),
  ifname: interfaceSchema.optional(),
  netns: z
    .object({
      path: text,
      pid: z.int().min(0),
      fd: z.int().min(0),
      device: z.number(),
      inode: z.number(),
    })
    .optional(),
  /** CNI_ARGS: `KEY=VALUE;…`. */
  args: text.default(''),
  config: z.record(z.string().max(256), z.unknown()),
  /** What another IPAM plugin has given. */
  ipam: z.object({ ips: ips.max(16), routes: routes.default([]) }).optional(),
  /** The result of ADD, for CHECK. */
  previous: z
    .object({
      interfaces: z
        .array(z.object({ name: text, mac: text.optional(), sandbox: text.optional() }))
        .max(256)
        .default([]),
      ips: z.array(z.object({ address: eitherCidrSchema, interface: z.int().optional() })).max(256),
      routes: z.array(z.object({ dst: eitherCidrSchema })).max(256),
    })
    .optional(),
  /** Of GC: who is still there. */
  attachments: z.array(attachment).max(100_000).optional(),
})

export type CniRequest = z.infer<typeof requestSchema>
export type CniRoute = z.infer<typeof routeSchema>

/** @throws CniError code `invalidConfig` that names the field */
export function readCniRequest(body: unknown): CniRequest {
  return read(requestSchema, body, '')
}

const mac = z.string().refine((value) => parseMac(value) !== undefined, 'must be a MAC address')
const groups = z.union([z.array(nameSchema).max(16), z.string().transform(namesIn)])
const portMapping = z.object({
  hostPort: z.int().min(0).max(65_535),
  containerPort: z.int().min(1).max(65_535),
  protocol: z
    .string()
    .transform((value) => value.toLowerCase())
    .pipe(z.enum(['tcp', 'udp', 'sctp']))
    .default('tcp'),
  hostIP: z.string().max(45).optional(),
})

/** Keys that are ours; of `ipam`, when that is ours as well, they may stand there. */
const addressKeys = {
  subnet: cidrSchema.optional(),
  gateway: cidrSchema.or(eitherIpSchema).optional(),
  range: cidrSchema.optional(),
  subnet6: cidr6Schema.optional(),
  gateway6: eitherIpSchema.optional(),
  space: z
    .string()
    .regex(/^[0-9A-Za-z][0-9A-Za-z._-]{0,62}$/, 'must be a name of letters and digits')
    .optional(),
  routes: routes.default([]),
}
const configSchema = z.object({
  ...addressKeys,
  bridge: z.string().max(192).optional(),
  router: nameSchema.optional(),
  provider: nameSchema.optional(),
  mtu: z.int().min(576).max(65_535).optional(),
  internal: z.boolean().default(false),
  isDefaultGateway: z.boolean().default(true),
  securityGroups: groups.default([]),
  /** Only what we do anyhow: packets leave by NAT, unless the network is internal. */
  ipMasq: z.literal(true).optional(),
  runtimeConfig: z
    .object({
      portMappings: z.array(portMapping).max(4096).nullish(),
      mac: mac.optional(),
      ips: z.array(z.string().max(64)).max(16).nullish(),
    })
    .default({}),
  args: z.record(z.string(), z.unknown()).nullish(),
})

export type CniConfig = z.infer<typeof configSchema>

/** Keys of every configuration, which are not ours to judge. */
const commonKeys = new Set([
  ...['cniVersion', 'cniVersions', 'name', 'type', 'ipam', 'dns', 'capabilities', 'prevResult'],
  ...['disableCheck', 'disableGC', 'loadOnlyInlinedPlugins', 'agentSocket'],
])

/**
 * Reads the configuration of a network. @throws CniError code `unsupportedField` for a key nobody
 * knows, `invalidConfig` for a value that is wrong
 */
export function readCniConfig(config: Readonly<Record<string, unknown>>): CniConfig {
  for (const [key, value] of Object.entries(config)) {
    if (key in configSchema.shape || commonKeys.has(key) || /[./]|^_/.test(key)) continue
    const what = `unsupported field ${key.slice(0, 80)}: ${JSON.stringify(value)?.slice(0, 200)}`
    throw new CniError('unsupportedField', what)
  }
  if (config.ipMasq === false)
    throw new CniError('unsupportedField', 'unsupported field ipMasq: false; give "internal": true')
  const { ipam } = config
  const isOurs = isRecord(ipam) && (ipam.type ?? 'midonet') === 'midonet'
  if (!isOurs) return read(configSchema, config, '')
  const { type: _, ...own } = ipam
  for (const key of Object.keys(own))
    if (!(key in addressKeys))
      throw new CniError(
        'unsupportedField',
        `unsupported field ipam.${key.slice(0, 80)}: ${JSON.stringify(own[key])?.slice(0, 200)}`,
      )
  return read(configSchema, { ...config, ...own }, '')
}

/** What Mesos tells of a task's network, and what others pass in `args.cni` and CNI_ARGS. */
const mesosSchema = z.object({
  network_info: z.object({
    ip_addresses: z.array(z.object({ ip_address: z.string().optional() })).default([]),
    // A list that is empty is left out, and the object around it stays.
    labels: z
      .object({
        labels: z.array(z.object({ key: z.string(), value: z.string().optional() })).default([]),
      })
      .optional(),
    port_mappings: z
      .array(
        z.object({
          host_port: z.int().min(0).max(65_535),
          container_port: z.int().min(1).max(65_535),
          protocol: z.string().default('tcp'),
        }),
      )
      .max(4096)
      .default([]),
  }),
})
const argsSchema = z.object({ ips: z.array(z.string()).max(16).optional(), mac: mac.optional() })

/** What is wished for one container, from wherever the runtime says it. */
export interface Wishes {
  /** With or without prefix length. */
  readonly ips: readonly string[]
  readonly mac: string | undefined
  readonly securityGroups: readonly string[]
  readonly portMappings: readonly z.infer<typeof portMapping>[]
}

/** What a runtime asks for besides, in whichever of three places. @throws CniError */
export function readWishes(config: CniConfig, args: string): Wishes {
  const variables = new Map(args.split(';').map((one) => split(one, '=')))
  const own = config.args?.cni === undefined ? {} : read(argsSchema, config.args.cni, 'args.cni.')
  const given = config.args?.['org.apache.mesos']
  const mesos =
    given === undefined
      ? undefined
      : read(mesosSchema, given, 'args.org.apache.mesos.').network_info
  const label = mesos?.labels?.labels.find(({ key }) => key === 'org.midonet.security-groups')
  const variable = variables.get('IP')
  const ipLists = [
    config.runtimeConfig.ips ?? [],
    own.ips ?? [],
    (mesos?.ip_addresses ?? []).flatMap((one) => one.ip_address ?? []),
    variable === undefined ? [] : variable.split(','),
  ]
  const ports = (mesos?.port_mappings ?? []).map(({ host_port, container_port, protocol }) => ({
    hostPort: host_port,
    containerPort: container_port,
    protocol,
  }))
  return {
    ips: ipLists.find((list) => list.length > 0) ?? [],
    mac: (config.runtimeConfig.mac ?? own.mac ?? variables.get('MAC'))?.toLowerCase(),
    securityGroups: label?.value === undefined ? config.securityGroups : namesIn(label.value),
    portMappings: [
      ...(config.runtimeConfig.portMappings ?? []),
      ...read(z.array(portMapping), ports, 'port_mappings.'),
    ],
  }
}

/** Names with commas between them, or `+`. */
function namesIn(text: string): readonly string[] {
  return text.split(/[,+]/).map((name) => name.trim())
}

function split(text: string, by: string): readonly [string, string] {
  const at = text.indexOf(by)
  return at < 0 ? [text, ''] : [text.slice(0, at), text.slice(at + 1)]
}

function read<T>(schema: z.ZodType<T>, value: unknown, prefix: string): T {
  const result = schema.safeParse(value)
  if (result.success) return result.data
  const issue = result.error.issues[0]
  const field = `${prefix}${issue?.path.map(String).join('.') || 'value'}`
  throw new CniError('invalidConfig', `${field}: ${issue?.message ?? 'not valid'}`)
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
