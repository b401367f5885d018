/** Load balancers: what they listen on, and the servers behind. */
import { type Collection, readOnly, stored } from './collection.ts'
import { choice, type Field, field, number, readChoice, reference, state } from './field.ts'

const name = field('name', 'name')

const loadBalancer = stored({
  name: 'load-balancer',
  alias: 'lb',
  kind: 'loadBalancer',
  defaults: () => ({ adminUp: true }),
  fields: [name, reference('router', 'router', 'router'), state],
})

const pool = stored({
  name: 'pool',
  alias: 'pool',
  kind: 'balancerPool',
  parent: { collection: 'load-balancer', field: 'loadBalancer' },
  defaults: () => ({ adminUp: true }),
  fields: [
    name,
    reference('load-balancer', 'loadBalancer', 'load-balancer', { readOnly: true }),
    reference('health-monitor', 'healthMonitor', 'health-monitor'),
    // There is one method, and each VIP has its protocol: for those who type them.
    only('lb-method', 'ROUND_ROBIN'),
    only('protocol', 'TCP'),
    state,
  ],
})

/** An attribute with one value that is not kept. */
function only(attribute: string, value: string): Field {
  return {
    name: attribute,
    hidden: true,
    values: [value],
    read: () => value,
    write: ({ text }) => {
      if (text !== undefined) readChoice(attribute, text, { [value]: true })
      return {}
    },
  }
}

const member = stored({
  name: 'member',
  alias: 'pm',
  kind: 'poolMember',
  parent: { collection: 'pool', field: 'pool' },
  defaults: () => ({ weight: 1, adminUp: true }),
  fields: [
    field('address', 'address'),
    number('protocol-port', 'port'),
    number('weight', 'weight'),
    state,
    choice('status', 'status', { ACTIVE: 'active', INACTIVE: 'inactive' }),
  ],
})

const vip = stored({
  name: 'vip',
  alias: 'vip',
  kind: 'vip',
  parent: { collection: 'pool', field: 'pool' },
  defaults: (above) => ({
    loadBalancer: above?.loadBalancer,
    protocol: 'tcp',
    persistence: 'none',
    adminUp: true,
  }),
  fields: [
    name,
    field('address', 'address'),
    number('protocol-port', 'port'),
    choice('protocol', 'protocol', { TCP: 'tcp', UDP: 'udp' }),
    choice('persistence', 'persistence', { SOURCE_IP: 'sourceIp', NONE: 'none' }),
    state,
  ],
})

const healthMonitor = stored({
  name: 'health-monitor',
  alias: 'hm',
  kind: 'healthMonitor',
  defaults: () => ({
    kind: 'tcp',
    delaySeconds: 5,
    timeoutSeconds: 3,
    maxRetries: 3,
    adminUp: true,
  }),
  fields: [
    name,
    number('delay', 'delaySeconds'),
    number('timeout', 'timeoutSeconds'),
    number('max-retries', 'maxRetries'),
    choice('type', 'kind', { TCP: 'tcp' }),
    state,
  ],
})

/** What is found below something else as well. */
const vipOfBalancer: Collection = {
  ...readOnly(vip),
  parent: 'load-balancer',
  isElsewhere: true,
  list: (client, above) => client.list('vip', above && { loadBalancer: above.id }),
}
const poolOfMonitor: Collection = {
  ...readOnly(pool),
  parent: 'health-monitor',
  isElsewhere: true,
  list: (client, above) => client.list('balancerPool', above && { healthMonitor: above.id }),
}

export const balancing: readonly Collection[] = [
  loadBalancer,
  pool,
  member,
  vip,
  healthMonitor,
  vipOfBalancer,
  poolOfMonitor,
]
