/** BGP of routers: peers, and the networks told to them. */
import { type Collection, stored } from './collection.ts'
import { field, flag, number } from './field.ts'

const peer = stored({
  name: 'bgp-peer',
  alias: 'peer',
  kind: 'bgpPeer',
  parent: { collection: 'router', field: 'router' },
  fields: [
    number('asn', 'asn'),
    field('address', 'address'),
    number('keep-alive', 'keepAlive'),
    number('hold-time', 'holdTime'),
    number('connect-retry', 'connectRetry'),
    // The API takes it and tells only that there is one.
    field('password', 'password'),
    flag('bfd', 'bfd'),
  ],
})

const network = stored({
  name: 'bgp-network',
  alias: 'net',
  kind: 'bgpNetwork',
  parent: { collection: 'router', field: 'router' },
  fields: [field('net', 'prefix')],
})

export const bgp: readonly Collection[] = [peer, network]
