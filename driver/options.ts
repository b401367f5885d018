/** The `-o` options of a network and the `--driver-opt` options of an endpoint. */
import { nameSchema } from '../topology/field-schema.ts'
import { DriverError } from './error.ts'

export interface NetworkOptions {
  /** A router's name; it is made when no router has it. */
  readonly router: string | undefined
  /** The name of the router by which the network's own reaches the outside; made if absent. */
  readonly provider: string | undefined
  /** A bridge's name or id; it is made when no bridge has it. */
  readonly bridge: string | undefined
  readonly mtu: number
  readonly gatewayMode: 'virtual' | 'docker'
  /** `--internal`: no way out. */
  readonly internal: boolean
  /** Our own options as given, to be kept with the network. */
  readonly given: Readonly<Record<string, string>>
}

const prefix = 'org.midonet.'
const dockerMtu = 'com.docker.network.driver.mtu'
const genericKey = 'com.docker.network.generic'
const internalKey = 'com.docker.network.internal'

const networkKeys = ['router', 'bridge', 'mtu', 'gateway', 'provider'].map((key) => prefix + key)
const groupsKey = `${prefix}security-groups`
const endpointKeys: readonly string[] = [groupsKey]
const poolKeys = [`${prefix}space`]

export const limits = { mtuMin: 576, mtuMax: 65_535, mtuDefault: 1500, groupsMax: 16 } as const

/** Reads CreateNetwork's options. @throws DriverError codes `UNKNOWN_OPTION`, `INVALID_OPTION` */
export function readNetworkOptions(options: Readonly<Record<string, unknown>>): NetworkOptions {
  const generic = options[genericKey]
  const values = { ...(isRecord(generic) ? generic : {}), ...options }
  refuseUnknown(values, networkKeys)
  const given: Record<string, string> = {}
  for (const key of [...networkKeys, dockerMtu]) {
    const value = values[key]
    if (value !== undefined) given[key] = readText(key, value)
  }
  const mtuKey = given[`${prefix}mtu`] === undefined ? dockerMtu : `${prefix}mtu`
  return {
    router: readName(given, `${prefix}router`),
    provider: readProvider(given),
    bridge: readBridge(given),
    mtu: readMtu(mtuKey, given[mtuKey]),
    gatewayMode: readGatewayMode(given[`${prefix}gateway`]),
    internal: options[internalKey] === true,
    given,
  }
}

export interface EndpointOptions {
  /** In the order given, each once. */
  readonly securityGroups: readonly string[]
}

/** Reads CreateEndpoint's options. @throws DriverError codes `UNKNOWN_OPTION`, `INVALID_OPTION` */
export function readEndpointOptions(options: Readonly<Record<string, unknown>>): EndpointOptions {
  refuseUnknown(options, endpointKeys)
  const value = options[groupsKey]
  return { securityGroups: value === undefined ? [] : readGroups(readText(groupsKey, value)) }
}

/** The label of a container that says the same. @throws DriverError code `INVALID_OPTION` */
export function readGroupsLabel(
  labels: Readonly<Record<string, string>>,
): { readonly text: string; readonly names: readonly string[] } | undefined {
  const text = labels[groupsKey]
  return text === undefined ? undefined : { text, names: readGroups(text) }
}

/** Names with commas between them, or with `+`, which needs no quotes in `--network name=…,…`. */
function readGroups(text: string): readonly string[] {
  const names = new Set(text.split(/[,+]/).map((name) => name.trim()))
  // A name ends in -out where the group has a chain for what its members send.
  const isName = (name: string) => nameSchema.safeParse(name).success && name.length <= 59
  if (names.size <= limits.groupsMax && [...names].every(isName)) return [...names]
  const want = `1 to ${limits.groupsMax} names of 1 to 59 letters, digits, spaces or _ . -`
  throw new DriverError('INVALID_OPTION', `midonet: ${groupsKey} must be ${want}: web,db or web+db`)
}

/**
 * The address space of a pool: Docker's, or with `--ipam-opt org.midonet.space=NAME` one of its own,
 * whose subnets may be others' too. @throws DriverError codes `UNKNOWN_OPTION`, `INVALID_OPTION`
 */
export function readSpace(space: string, options: Readonly<Record<string, unknown>>): string {
  refuseUnknown(options, poolKeys)
  const key = `${prefix}space`
  const value = options[key]
  if (value === undefined) return space
  const name = readText(key, value)
  if (/^[0-9A-Za-z][0-9A-Za-z._-]{0,30}$/.test(name)) return `${space}.${name}`
  throw new DriverError(
    'INVALID_OPTION',
    `midonet: ${key} must be 1 to 31 letters, digits or . _ -`,
  )
}

/** Other drivers' keys mean nothing to us; a key of ours that nobody knows is a mistake. */
function refuseUnknown(options: object, known: readonly string[]): void {
  for (const key of Object.keys(options)) {
    if (!key.startsWith(prefix) || known.includes(key)) continue
    const list = known.length === 0 ? 'there are none here' : `known are ${known.join(', ')}`
    throw new DriverError('UNKNOWN_OPTION', `midonet: unknown option ${key.slice(0, 80)}; ${list}`)
  }
}

function readText(key: string, value: unknown): string {
  if (typeof value === 'string' && value.length <= 4096) return value
  throw new DriverError('INVALID_OPTION', `midonet: option ${key} must be a text`)
}

function readName(given: Readonly<Record<string, string>>, key: string): string | undefined {
  const value = given[key]
  if (value === undefined) return undefined
  const result = nameSchema.safeParse(value)
  if (result.success) return value
  throw new DriverError('INVALID_OPTION', `midonet: ${key} ${result.error.issues[0]?.message}`)
}

function readProvider(given: Readonly<Record<string, string>>): string | undefined {
  const name = readName(given, `${prefix}provider`)
  if (name === undefined || name !== given[`${prefix}router`]) return name
  const what = `midonet: ${prefix}provider and ${prefix}router are both ${name}`
  throw new DriverError('INVALID_OPTION', `${what}; a provider is another router`)
}

/** A bridge may also be named by its id, which is longer than a name may be. */
function readBridge(given: Readonly<Record<string, string>>): string | undefined {
  const value = given[`${prefix}bridge`]
  if (value !== undefined && /^[0-9A-Za-z._:-]{64,192}$/.test(value)) return value
  return readName(given, `${prefix}bridge`)
}

function readMtu(key: string, value: string | undefined): number {
  if (value === undefined) return limits.mtuDefault
  const mtu = Number(value)
  if (/^\d{1,5}$/.test(value) && mtu >= limits.mtuMin && mtu <= limits.mtuMax) return mtu
  const range = `${limits.mtuMin} to ${limits.mtuMax}`
  throw new DriverError('INVALID_OPTION', `midonet: ${key} must be a number of bytes, ${range}`)
}

function readGatewayMode(value: string | undefined): 'virtual' | 'docker' {
  if (value === undefined || value === 'virtual' || value === 'docker') return value ?? 'virtual'
  throw new DriverError('INVALID_OPTION', `midonet: ${prefix}gateway must be virtual or docker`)
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
