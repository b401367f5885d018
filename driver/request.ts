/** Docker's requests: one schema a call. Unknown fields are ignored: newer engines send more. */
import { z } from 'zod'
import { parseIp } from '../packet/address.ts'
import { DriverError } from './error.ts'

/** Docker's ids: 64 hexadecimal digits, or 25 letters and digits for Swarm's networks. */
const id = z
  .string()
  .regex(/^[0-9A-Za-z][0-9A-Za-z._-]{0,127}$/, 'must be 1 to 128 letters, digits or . _ -')
const text = z.string().max(4096)
/** Go sends null for a map without entries. */
const options = z
  .record(z.string().max(256), z.unknown())
  .nullish()
  .transform((value) => value ?? {})

/** What `midonet dpctl` does. */
export const dpctlCommands = [
  'show',
  'dump-flows',
  'dump-ports',
  'dump-meters',
  'add-flow',
  'del-flow',
  'add-meter',
  'del-meter',
  'add-if',
  'del-if',
] as const
export type DpctlCommand = (typeof dpctlCommands)[number]

const ipamData = z.object({
  Pool: text,
  Gateway: text.nullish(),
})
const ipamList = z
  .array(ipamData)
  .max(16)
  .nullish()
  .transform((value) => value ?? [])

const networkRef = z.object({ NetworkID: id })
const endpointRef = z.object({ NetworkID: id, EndpointID: id })

/** Schemas of the calls that need a body. */
export const requests = {
  createNetwork: networkRef.extend({ Options: options, IPv4Data: ipamList, IPv6Data: ipamList }),
  networkRef,
  createEndpoint: endpointRef.extend({
    Interface: z
      .object({
        Address: text.nullish(),
        AddressIPv6: text.nullish(),
        MacAddress: text.nullish(),
      })
      .nullish(),
    Options: options,
  }),
  endpointRef,
  join: endpointRef.extend({ SandboxKey: text.nullish() }),
  external: endpointRef.extend({ Options: options }),
  requestPool: z.object({
    AddressSpace: z.string().min(1).max(64),
    Pool: text.nullish(),
    SubPool: text.nullish(),
    V6: z.boolean().nullish(),
    Options: options,
  }),
  poolRef: z.object({ PoolID: z.string().min(1).max(192) }),
  requestAddress: z.object({
    PoolID: z.string().min(1).max(192),
    Address: text.nullish(),
    Options: options,
  }),
  trace: z.object({ port: z.string().min(1).max(192), packet: z.string().min(1) }),
  dpctl: z.object({
    command: z.enum(dpctlCommands),
    words: z.array(z.string().max(8192)).max(2),
  }),
  releaseAddress: z.object({ PoolID: z.string().min(1).max(192), Address: text }),
} as const

/** CreateNetwork's body. */
export type NetworkRequest = z.infer<typeof requests.createNetwork>

const portMapSchema = z
  .array(
    z.object({
      Proto: z.union([z.literal(6), z.literal(17), z.literal(132)], 'must be 6, 17 or 132'),
      Port: z.int().min(1).max(65535),
      HostIP: z.string().max(45).nullish(),
      HostPort: z.int().min(0).max(65535),
      HostPortEnd: z.int().min(0).max(65535).nullish(),
    }),
  )
  .max(4096)

/** One published port as Docker asks for it; `hostPort` 0 leaves the choice to us. */
export interface PortRequest {
  readonly protocol: 'tcp' | 'udp' | 'sctp'
  readonly hostAddress: string
  readonly hostPort: number
  readonly hostPortEnd: number
  readonly port: number
}

const protocols = { 6: 'tcp', 17: 'udp', 132: 'sctp' } as const

/** Checks a body. @throws DriverError code `INVALID_REQUEST` naming call and field */
export function readRequest<T>(call: string, schema: z.ZodType<T>, body: unknown): T {
  const result = schema.safeParse(body)
  if (result.success) return result.data
  const issue = result.error.issues[0]
  const field = issue?.path.map(String).join('.') || 'body'
  throw new DriverError('INVALID_REQUEST', `${call}: ${field}: ${issue?.message ?? 'not valid'}`)
}

/** The published ports among the options of ProgramExternalConnectivity. */
export function readPortMap(values: Readonly<Record<string, unknown>>): readonly PortRequest[] {
  const list = values['com.docker.network.portmap'] ?? []
  return readRequest('com.docker.network.portmap', portMapSchema, list).map((entry) => ({
    protocol: protocols[entry.Proto],
    hostAddress: readHostAddress(entry.HostIP || '0.0.0.0'),
    hostPort: entry.HostPort,
    hostPortEnd: Math.max(entry.HostPort, entry.HostPortEnd ?? 0),
    port: entry.Port,
  }))
}

function readHostAddress(text: string): string {
  if (parseIp(text) !== undefined) return text
  const what = `midonet: a port cannot be published on ${text}`
  throw new DriverError('INVALID_OPTION', `${what}; give an IPv4 address of this host, or none`)
}
