import {
  bridgePort,
  network,
  putSecondRouter,
  route,
  routerPort,
  station,
  uplink,
} from './fixture.ts'
import { type Refusal, testRefusals } from './refusal.ts'

const invalid: readonly Refusal[] = [
  [
    'a port is not its own peer',
    (draft) => draft.put('port', bridgePort('p', { peer: 'p' })),
    'INVALID',
    /cannot be linked to itself/,
  ],
  [
    'a peer must name the port back',
    (draft) => draft.put('port', bridgePort('p', { peer: 'web' })),
    'INVALID',
    /port web does not name it; link both at once/,
  ],
  [
    'a peer is not taken over from another port',
    (draft) => {
      draft.put('port', bridgePort('p', { peer: 'gw' }))
      draft.put('port', routerPort('gw', { peer: 'p' }))
    },
    'INVALID',
    /port up: peer: port gw does not name it/,
  ],
  [
    'a bridge is not linked to itself',
    (draft) => {
      draft.put('port', bridgePort('a', { peer: 'b' }))
      draft.put('port', bridgePort('b', { peer: 'a' }))
    },
    'INVALID',
    /of the same bridge/,
  ],
  [
    'a linked port is not bound',
    (draft) => draft.put('binding', { id: 'up', host: 'h1', interface: 'eth9' }),
    'INVALID',
    /^binding up: the port is linked to port gw/,
  ],
  [
    'a bound port is not linked',
    (draft) => {
      draft.put('port', bridgePort('web', { peer: 'p' }))
      draft.put('bridge', { id: 'b2', adminUp: true })
      draft.put('port', bridgePort('p', { bridge: 'b2', peer: 'web' }))
    },
    'INVALID',
    /port web: .*(bound|linked)/,
  ],
  [
    'the stations of a port differ',
    (draft) => draft.put('port', bridgePort('p', { stations: [station(11), station(11)] })),
    'INVALID',
    /stands twice/,
  ],
  [
    'a router’s address is not the network itself',
    (draft) => draft.put('port', routerPort('p', { addresses: ['10.2.0.0/24'] })),
    'INVALID',
    /addresses\.0: that is the network itself; .* such as 10\.2\.0\.1\/24/,
  ],
  [
    'a router’s address is not the broadcast address',
    (draft) => draft.put('port', routerPort('p', { addresses: ['10.2.0.1/24', '10.2.0.255/24'] })),
    'INVALID',
    /addresses\.1: that is its broadcast address/,
  ],
  [
    'a route has no host bits in dst',
    (draft) => draft.put('route', route('r', { dst: '10.9.1.0/16' })),
    'INVALID',
    /dst: 10\.9\.1\.0\/16 has host bits; use 10\.9\.0\.0\/16/,
  ],
  [
    'a route has no host bits in src',
    (draft) => draft.put('route', route('r', { src: '1.0.0.0/0' })),
    'INVALID',
    /src: .* use 0\.0\.0\.0\/0/,
  ],
  [
    'a route by a port has one',
    (draft) => {
      const { port: _, ...rest } = route('r')
      draft.put('route', rest)
    },
    'INVALID',
    /needs a port/,
  ],
  [
    'a route leaves by a port of its router',
    (draft) => draft.put('route', route('r', { port: 'web' })),
    'INVALID',
    /port web is not of router ro/,
  ],
  [
    'a route that drops has no port',
    (draft) => draft.put('route', route('r', { action: 'blackhole' })),
    'INVALID',
    /blackhole takes no port/,
  ],
  [
    'a gateway is on the link of its port',
    (draft) => draft.put('route', route('r', { gateway: '10.2.0.9' })),
    'INVALID',
    /gateway 10\.2\.0\.9 is not on port gw \(10\.1\.0\.1\/24\)/,
  ],
  [
    'a gateway is not the router itself',
    (draft) => draft.put('route', route('r', { gateway: '10.1.0.1' })),
    'INVALID',
    /name a neighbour/,
  ],
  [
    'a port keeps the network that the gateway of a route is in',
    (draft) => {
      draft.put('route', route('r', { gateway: '10.1.0.9' }))
      draft.put('port', routerPort('gw', { peer: 'up', addresses: ['10.3.0.1/24'] }))
    },
    'INVALID',
    /^route r: gateway/,
  ],
  [
    'a port does not leave the router of its routes',
    (draft) => {
      putSecondRouter(draft)
      draft.put('route', route('r'))
      draft.put('port', routerPort('gw', { peer: 'up', router: 'r2' }))
    },
    'INVALID',
    /is not of (router ro|its router)/,
  ],
  [
    'a network’s port is of the network’s router',
    (draft) => {
      putSecondRouter(draft)
      draft.put('network', network('net', { router: 'r2' }))
    },
    'INVALID',
    /network net: routerPort gw is not of its router/,
  ],
  [
    'an uplink’s port is of the uplink’s router',
    (draft) => {
      putSecondRouter(draft)
      draft.put('uplink', { ...uplink, router: 'r2' })
    },
    'INVALID',
    /uplink gw: port gw is not of router r2/,
  ],
]

const pool = { id: 'po', space: 's', subnet: '10.5.0.0/24', references: 1 }
const address = { id: 'po_10.5.0.9', pool: 'po', address: '10.5.0.9', gateway: false }

const pools: readonly Refusal[] = [
  [
    'a pool’s subnet has no host bits',
    (draft) => draft.put('pool', { ...pool, subnet: '10.5.0.1/24' }),
    'INVALID',
    /write 10\.5\.0\.1\/24 as 10\.5\.0\.0\/24/,
  ],
  [
    'a pool’s range is within its subnet',
    (draft) => draft.put('pool', { ...pool, range: '10.5.1.0/25' }),
    'INVALID',
    /range: 10\.5\.1\.0\/25 is not within 10\.5\.0\.0\/24/,
  ],
  [
    'pools of one space do not overlap',
    (draft) => {
      draft.put('pool', pool)
      draft.put('pool', { ...pool, id: 'p2', subnet: '10.5.0.0/16' })
    },
    'CONFLICT',
    /overlaps with/,
  ],
  [
    'an address is in its pool',
    (draft) => {
      draft.put('pool', pool)
      draft.put('address', { ...address, id: 'po_10.6.0.9', address: '10.6.0.9' })
    },
    'INVALID',
    /10\.6\.0\.9 is not in 10\.5\.0\.0\/24/,
  ],
  [
    'an address has the id that makes it taken once',
    (draft) => {
      draft.put('pool', pool)
      draft.put('address', { ...address, id: 'other' })
    },
    'INVALID',
    /write 10\.5\.0\.9, id po_10\.5\.0\.9/,
  ],
  [
    'a pool with addresses keeps its subnet',
    (draft) => {
      draft.put('pool', pool)
      draft.put('address', address)
      draft.put('pool', { ...pool, subnet: '10.6.0.0/24' })
    },
    'INVALID',
    /is not in 10\.6\.0\.0\/24/,
  ],
]

testRefusals([...invalid, ...pools])
