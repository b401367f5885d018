/** From any value to an object of the model: checked by its schema, copied and frozen. */
import type { z } from 'zod'
import { InvalidObjectError } from './error.ts'
import { type Kind, type ObjectOf, schemas } from './model.ts'

type Parsers = { readonly [K in Kind]: (value: unknown) => ObjectOf<K> }

const parsers: Parsers = {
  host: parser('host', schemas.host),
  bridge: parser('bridge', schemas.bridge),
  router: parser('router', schemas.router),
  port: parser('port', schemas.port),
  route: parser('route', schemas.route),
  binding: parser('binding', schemas.binding),
  pool: parser('pool', schemas.pool),
  address: parser('address', schemas.address),
  network: parser('network', schemas.network),
  endpoint: parser('endpoint', schemas.endpoint),
  uplink: parser('uplink', schemas.uplink),
  chain: parser('chain', schemas.chain),
  rule: parser('rule', schemas.rule),
  portGroup: parser('portGroup', schemas.portGroup),
  addressGroup: parser('addressGroup', schemas.addressGroup),
  tunnelZone: parser('tunnelZone', schemas.tunnelZone),
  zoneMember: parser('zoneMember', schemas.zoneMember),
  hostAlive: parser('hostAlive', schemas.hostAlive),
  portActive: parser('portActive', schemas.portActive),
  learnedMac: parser('learnedMac', schemas.learnedMac),
  learnedNeighbor: parser('learnedNeighbor', schemas.learnedNeighbor),
  learnedRoute: parser('learnedRoute', schemas.learnedRoute),
  dhcpSubnet: parser('dhcpSubnet', schemas.dhcpSubnet),
  dhcpHost: parser('dhcpHost', schemas.dhcpHost),
  qosPolicy: parser('qosPolicy', schemas.qosPolicy),
  traceRequest: parser('traceRequest', schemas.traceRequest),
  loadBalancer: parser('loadBalancer', schemas.loadBalancer),
  balancerPool: parser('balancerPool', schemas.balancerPool),
  poolMember: parser('poolMember', schemas.poolMember),
  vip: parser('vip', schemas.vip),
  healthMonitor: parser('healthMonitor', schemas.healthMonitor),
  mirror: parser('mirror', schemas.mirror),
  bgpPeer: parser('bgpPeer', schemas.bgpPeer),
  bgpNetwork: parser('bgpNetwork', schemas.bgpNetwork),
}

/**
 * A frozen copy of `value` as an object of `kind`.
 * @throws InvalidObjectError that names the first field that does not fit.
 */
export function parseObject<K extends Kind>(kind: K, value: unknown): ObjectOf<K> {
  return parsers[kind](value)
}

function parser<T>(kind: Kind, schema: z.ZodType<T>): (value: unknown) => T {
  return (value) => {
    const result = schema.safeParse(value)
    if (result.success) return freezeDeep(result.data)
    const [issue] = result.error.issues
    const field = issue?.path.join('.') || 'object'
    throw new InvalidObjectError(kind, field, issue?.message ?? 'does not fit', {
      cause: result.error,
    })
  }
}

function freezeDeep<T>(value: T): T {
  if (typeof value !== 'object' || value === null) return value
  for (const part of Object.values(value)) freezeDeep(part)
  return Object.freeze(value)
}
