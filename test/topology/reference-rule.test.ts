import { bridgePort, endpoint, network, route, routerPort, station, uplink } from './fixture.ts'
import { type Refusal, testRefusals } from './refusal.ts'

const missing: readonly Refusal[] = [
  [
    'a port needs its bridge',
    (draft) => draft.put('port', bridgePort('p', { bridge: 'none' })),
    'MISSING_REFERENCE',
    /^port p: bridge: there is no bridge none; create it first/,
  ],
  [
    'a port needs its router',
    (draft) => draft.put('port', routerPort('p', { router: 'none' })),
    'MISSING_REFERENCE',
    /there is no router none/,
  ],
  [
    'a port needs its peer',
    (draft) => draft.put('port', bridgePort('p', { peer: 'none' })),
    'MISSING_REFERENCE',
    /peer: there is no port none/,
  ],
  [
    'a route needs its router',
    (draft) => draft.put('route', route('r', { router: 'none' })),
    'MISSING_REFERENCE',
    /there is no router none/,
  ],
  [
    'a route needs its port',
    (draft) => draft.put('route', route('r', { port: 'none' })),
    'MISSING_REFERENCE',
    /there is no port none/,
  ],
  [
    'a binding needs its port',
    (draft) => draft.put('binding', { id: 'none', host: 'h1', interface: 'eth9' }),
    'MISSING_REFERENCE',
    /there is no port none/,
  ],
  [
    'a binding needs its host',
    (draft) => draft.put('binding', { id: 'web', host: 'none', interface: 'eth9' }),
    'MISSING_REFERENCE',
    /there is no host none/,
  ],
  [
    'an address needs its pool',
    (draft) =>
      draft.put('address', { id: 'p_10.1.0.5', pool: 'p', address: '10.1.0.5', gateway: false }),
    'MISSING_REFERENCE',
    /there is no pool p/,
  ],
  [
    'a network needs its bridge',
    (draft) => draft.put('network', network('n', { bridge: 'none' })),
    'MISSING_REFERENCE',
    /there is no bridge none/,
  ],
  [
    'a network needs its port of the router',
    (draft) => draft.put('network', network('n', { routerPort: 'none' })),
    'MISSING_REFERENCE',
    /routerPort: there is no port none/,
  ],
  [
    'an endpoint needs its network',
    (draft) => draft.put('endpoint', endpoint('e', { network: 'none' })),
    'MISSING_REFERENCE',
    /there is no network none/,
  ],
  [
    'an uplink needs its port',
    (draft) => draft.put('uplink', { ...uplink, id: 'none' }),
    'MISSING_REFERENCE',
    /there is no port none/,
  ],
]

const inUse: readonly Refusal[] = [
  [
    'a bridge with ports stays',
    (draft) => draft.delete('bridge', 'br'),
    'IN_USE',
    /^bridge br is in use by (port|network) \w+; delete or change that first/,
  ],
  [
    'a router with ports stays',
    (draft) => draft.delete('router', 'ro'),
    'IN_USE',
    /router ro is in use/,
  ],
  [
    'a port that is linked stays',
    (draft) => {
      draft.delete('network', 'net')
      draft.delete('endpoint', 'web')
      draft.delete('port', 'gw')
    },
    'IN_USE',
    /port gw is in use by port up/,
  ],
  [
    'a port that is bound stays',
    (draft) => draft.delete('port', 'web'),
    'IN_USE',
    /port web is in use by binding web/,
  ],
  [
    'a host with bindings stays',
    (draft) => draft.delete('host', 'h1'),
    'IN_USE',
    /host h1 is in use/,
  ],
  [
    'a network with endpoints stays',
    (draft) => draft.delete('network', 'net'),
    'IN_USE',
    /network net is in use by endpoint web/,
  ],
]

const taken: readonly Refusal[] = [
  [
    'a name is one router’s',
    (draft) => draft.put('router', { id: 'r2', name: 'main', adminUp: true }),
    'CONFLICT',
    /name main is taken; choose another name \(router ro has it\)/,
  ],
  [
    'a name is one bridge’s',
    (draft) => draft.put('bridge', { id: 'b2', name: 'red', adminUp: true }),
    'CONFLICT',
    /name red is taken/,
  ],
  [
    'an interface of a host is bound once',
    (draft) => {
      draft.put('port', bridgePort('p'))
      draft.put('binding', { id: 'p', host: 'h1', interface: 'mn00000000001' })
    },
    'CONFLICT',
    /interface mn00000000001 of host h1 is taken; .* \(binding web has it\)/,
  ],
  [
    'a MAC address is on one port of a bridge',
    (draft) =>
      draft.put('port', bridgePort('p', { stations: [{ ...station(11), mac: station(10).mac }] })),
    'CONFLICT',
    /02:00:00:00:00:0a is taken on bridge br; .* \(port web has it\)/,
  ],
  [
    'an address is one station’s on a bridge',
    (draft) =>
      draft.put(
        'port',
        bridgePort('p', { stations: [{ ...station(11), addresses: ['10.1.0.10'] }] }),
      ),
    'CONFLICT',
    /10\.1\.0\.10 is taken on bridge br/,
  ],
  [
    'an IPv6 address is the same however it is written',
    (draft) => {
      const mac = (number: number) => station(number).mac
      const one = { mac: mac(20), addresses: [], addresses6: ['fd00::5'] }
      const two = { mac: mac(21), addresses: [], addresses6: ['FD00:0:0::0005'] }
      draft.put('port', bridgePort('p1', { stations: [one] }))
      draft.put('port', bridgePort('p2', { stations: [two] }))
    },
    'CONFLICT',
    /fd00::5 is taken on bridge br/,
  ],
  [
    'a station does not take the address of the router on its bridge',
    (draft) =>
      draft.put(
        'port',
        bridgePort('p', { stations: [{ ...station(11), addresses: ['10.1.0.1'] }] }),
      ),
    'CONFLICT',
    /10\.1\.0\.1 is router port gw's/,
  ],
  [
    'a router does not take the MAC address of a station on its bridge',
    (draft) => draft.put('port', routerPort('gw', { peer: 'up', mac: station(10).mac })),
    'CONFLICT',
    /port web of bridge br has 02:00:00:00:00:0a/,
  ],
  [
    'two ports of a router are on networks of their own',
    (draft) => draft.put('port', routerPort('p', { addresses: ['10.1.0.129/25'] })),
    'CONFLICT',
    /10\.1\.0\.129\/25 overlaps with 10\.1\.0\.1\/24 of port gw on router ro/,
  ],
]

testRefusals([...missing, ...inUse, ...taken])
