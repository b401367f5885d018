/**
 * Results of CNI in the forms of its versions. Inside there is one form, that of 1.1; it is read
 * from any version and written in any.
 *
 *   0.1, 0.2   ip4 and ip6, one address each, with the routes of the family
 *   0.3, 0.4   interfaces, ips with "version", routes
 *   1.0        no "version"
 *   1.1        interfaces have an mtu; routes have mtu, advmss, priority, table, scope
 */
export const versions = ['0.1.0', '0.2.0', '0.3.0', '0.3.1', '0.4.0', '1.0.0', '1.1.0'] as const
export type Version = (typeof versions)[number]
export const newest: Version = '1.1.0'

export interface Ip {
  readonly interface?: number
  readonly address: string
  readonly gateway?: string
}

export interface Route {
  readonly dst: string
  readonly gw?: string
  readonly [metric: string]: string | number | undefined
}

export interface Result {
  readonly interfaces: readonly Readonly<Record<string, unknown>>[]
  readonly ips: readonly Ip[]
  readonly routes: readonly Route[]
  readonly dns?: Readonly<Record<string, unknown>> | undefined
}

/** Whether `version` is `than` or newer. */
export function isAtLeast(version: string, than: Version): boolean {
  const order: readonly string[] = versions
  return order.indexOf(version) >= order.indexOf(than)
}

/** Whether it is a version of the specification that results can be written in. */
export function isVersion(text: unknown): text is Version {
  return versions.some((version) => version === text)
}

/** A result as that version of the specification has it. */
export function writeResult(result: Result, version: Version): object {
  const { interfaces, ips, routes, dns = {} } = result
  if (!isAtLeast(version, '0.3.0')) {
    const four = family(result, (address) => !address.includes(':'))
    const six = family(result, (address) => address.includes(':'))
    return { cniVersion: version, ...(four && { ip4: four }), ...(six && { ip6: six }), dns }
  }
  const isNew = isAtLeast(version, '1.1.0')
  return {
    cniVersion: version,
    interfaces: interfaces.map(({ mtu, ...rest }) => (isNew ? { ...rest, mtu } : rest)),
    ips: ips.map((ip) =>
      isAtLeast(version, '1.0.0') ? ip : { version: ip.address.includes(':') ? '6' : '4', ...ip },
    ),
    routes: isNew ? routes : routes.map(bare),
    dns,
  }
}

function bare({ dst, gw }: Route): object {
  return { dst, ...(gw !== undefined && { gw }) }
}

function family({ ips, routes }: Result, isOf: (address: string) => boolean): object | undefined {
  const ip = ips.find(({ address }) => isOf(address))
  if (ip === undefined) return undefined
  return {
    ip: ip.address,
    ...(ip.gateway !== undefined && { gateway: ip.gateway }),
    routes: routes.filter(({ dst }) => isOf(dst)).map(bare),
  }
}

/** Takes what looks right of a result of any version; undefined when it is no result. */
export function readResult(value: unknown): Result | undefined {
  if (!isRecord(value)) return undefined
  const dns = isRecord(value.dns) ? { dns: value.dns } : {}
  if ('ip4' in value || 'ip6' in value) {
    const parts = [value.ip4, value.ip6].filter(isRecord)
    return {
      interfaces: [],
      ips: parts.flatMap(({ ip, gateway }) => readIp({ address: ip, gateway })),
      routes: parts.flatMap(({ routes }) => listOf(routes).flatMap(readRoute)),
      ...dns,
    }
  }
  return {
    interfaces: listOf(value.interfaces).filter(isRecord),
    ips: listOf(value.ips).flatMap(readIp),
    routes: listOf(value.routes).flatMap(readRoute),
    ...dns,
  }
}

function readIp(value: unknown): readonly Ip[] {
  if (!isRecord(value) || typeof value.address !== 'string') return []
  const { address, gateway, interface: at } = value
  return [
    {
      address,
      ...(typeof at === 'number' && { interface: at }),
      ...(typeof gateway === 'string' && gateway !== '' && { gateway }),
    },
  ]
}

function readRoute(value: unknown): readonly Route[] {
  if (!isRecord(value) || typeof value.dst !== 'string') return []
  const { dst, gw } = value
  const metrics = ['mtu', 'advmss', 'priority', 'table', 'scope'].flatMap((key) => {
    const metric = value[key]
    return typeof metric === 'number' ? [[key, metric] as const] : []
  })
  const isGiven = typeof gw === 'string' && gw !== ''
  return [{ dst, ...(isGiven && { gw }), ...Object.fromEntries(metrics) }]
}

function listOf(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : []
}

/** Whether it is an object of JSON, and no list. */
export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
