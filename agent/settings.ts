/** The agent's settings: each from the environment, else /etc/midonet/midonet.json, else its default. */
import { readFileSync } from 'node:fs'
import { z } from 'zod'
import { isUnderlay } from './underlay.ts'

const path = z.string().regex(/^\//, 'must be an absolute path')

const schema = z.strictObject({
  store: z
    .string()
    .min(1)
    .default('leveldb:/var/lib/midonet/store')
    .describe(
      'MIDONET_STORE: where the topology is: leveldb:<dir>, one host; etcd://h1:2379,h2:2379 many',
    ),
  storeCa: path
    .optional()
    .describe('MIDONET_STORE_CA: PEM file of the authority that etcd is trusted by; makes it TLS'),
  storeCert: path.optional().describe('MIDONET_STORE_CERT: PEM file of our certificate for etcd'),
  storeKey: path.optional().describe('MIDONET_STORE_KEY: PEM file of its key'),
  storeUser: z.string().optional().describe('MIDONET_STORE_USER: user name at etcd'),
  storePassword: z.string().optional().describe('MIDONET_STORE_PASSWORD: its password'),
  stateDir: path
    .default('/var/lib/midonet')
    .describe('MIDONET_STATE_DIR: what must outlive the agent: host id and embedded store'),
  runDir: path
    .default('/run/midonet')
    .describe('MIDONET_RUN_DIR: agent.pid and agent.sock, the API of `midonet status`'),
  pluginSocket: path
    .default('/run/docker/plugins/midonet.sock')
    .describe(
      'MIDONET_PLUGIN_SOCKET: where Docker looks for the driver; the file names the driver',
    ),
  managedSocket: path
    .optional()
    .describe(
      "MIDONET_MANAGED_SOCKET: the managed plugin's own socket, open besides the other; only in a managed plugin",
    ),
  scope: z
    .enum(['global', 'local'])
    .default('global')
    .describe(
      "MIDONET_SCOPE: whose networks the managed socket makes: global, Swarm's; local, of one host without Swarm",
    ),
  dockerSocket: path
    .default('/var/run/docker.sock')
    .describe('MIDONET_DOCKER_SOCKET: Docker Engine API, read to reconcile'),
  datapath: z
    .enum(['auto', 'ovs', 'ebpf'])
    .default('ebpf')
    .describe(
      'MIDONET_DATAPATH: what forwards packets: ebpf, embedded; ovs, the kernel module; auto, ovs where it loads',
    ),
  underlay: z
    .string()
    .refine(isUnderlay, 'must be an address, or a network such as 192.0.2.0/24')
    .optional()
    .describe(
      'MIDONET_UNDERLAY: the network between hosts, or this host’s address there; joins zone `default`',
    ),
  apiListen: z
    .string()
    .optional()
    .describe('MIDONET_API_LISTEN: host:port for the API over TLS with tokens; off when empty'),
  apiCertificate: path
    .default('/etc/midonet/api.crt')
    .describe('MIDONET_API_CERTIFICATE: its certificate chain, PEM'),
  apiKey: path.default('/etc/midonet/api.key').describe('MIDONET_API_KEY: its private key, PEM'),
  apiTokens: path
    .default('/etc/midonet/tokens')
    .describe(
      'MIDONET_API_TOKENS: lines `read TOKEN` or `write TOKEN`, readable for root only; SIGHUP reads them again',
    ),
  bgpRoutes: z.coerce
    .number()
    .int()
    .min(1)
    .max(100_000)
    .default(20_000)
    .describe(
      'MIDONET_BGP_ROUTES: destinations that each router may learn on this host; more are left out',
    ),
  flowLimit: z.coerce
    .number()
    .int()
    .min(1000)
    .max(65_000)
    .default(65_000)
    .describe('MIDONET_FLOW_LIMIT: flows kept in the kernel; beyond it the longest idle go'),
})

export type Settings = z.infer<typeof schema>

/** A setting is wrong; the message names the variable and what it must be. */
export class SettingsError extends Error {
  override readonly name = 'SettingsError'
  readonly code = 'INVALID_SETTING'
}

/** Reads all settings. @throws SettingsError */
export function readSettings(
  env: Readonly<Record<string, string | undefined>>,
  file = '/etc/midonet/midonet.json',
): Settings {
  const values = readFile(file)
  for (const key of Object.keys(schema.shape)) {
    const value = env[variableOf(key)]
    if (value !== undefined && value !== '') values[key] = value
  }
  // A state directory of its own takes the store along.
  if (values.store === undefined && typeof values.stateDir === 'string')
    values.store = `leveldb:${values.stateDir}/store`
  const result = schema.safeParse(values)
  if (result.success) return result.data
  const issue = result.error.issues[0]
  const key = String(issue?.path[0] ?? issue?.message)
  throw new SettingsError(`setting ${key} (${variableOf(key)}): ${issue?.message}`)
}

/** Every setting as `[variable, meaning, default]`, for help texts. */
export function describeSettings(): readonly (readonly [string, string, string])[] {
  const defaults: Record<string, unknown> = schema.parse({})
  return Object.entries(schema.shape).map(([key, field]) => [
    variableOf(key),
    (field.description ?? '').replace(/^\w+: /, ''),
    String(defaults[key] ?? 'empty'),
  ])
}

function variableOf(key: string): string {
  return `MIDONET_${key.replace(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase()}`
}

function readFile(file: string): Record<string, unknown> {
  let text: string
  try {
    text = readFileSync(file, 'utf8')
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return {}
    throw new SettingsError(`${file} cannot be read; make it readable for root or remove it`, {
      cause: error,
    })
  }
  try {
    return z.record(z.string(), z.unknown()).parse(JSON.parse(text))
  } catch (error) {
    throw new SettingsError(`${file} is not a JSON object of settings`, { cause: error })
  }
}
