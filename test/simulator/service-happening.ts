/** Random DHCP subnets and hosts, policies, MTUs and trace requests. */
import fc from 'fast-check'
import { formatIp, formatMac } from '../../packet/address.ts'
import { schemas } from '../../topology/model.ts'
import { address, hostMacs } from './arbitrary.ts'
import { type Happening, happening } from './happening.ts'
import { condition } from './policy-happening.ts'
import { clientFrame } from './script-service.ts'
import { put, type World } from './world.ts'

const bridge = fc.constantFrom('b0', 'b1', 'b2')
const port = fc.constantFrom('p0', 'p1', 'p2', 'p5', 'l0a', 'l0b', 'l1b', 'l2a', 'q0')
/** Few, so that those that ask are those that are known. */
const clientMac = fc.constantFrom(...hostMacs.slice(1, 3))
const mtu = fc.constantFrom(undefined, 68, 576, 1400, 1500)

const subnet = happening(
  'dhcp subnet',
  fc.record({ n: fc.nat({ max: 2 }), bridge, of: fc.nat({ max: 2 }), enabled: fc.boolean() }),
  (world, { n, bridge: on, of, enabled }) => {
    const network = `${formatIp(address(of, 0))}/24`
    const gateway = formatIp(address(of, 1))
    world.put(put('dhcpSubnet', { id: `d${n}`, bridge: on, enabled, subnet: network, gateway }))
  },
)

const removeSubnet = happening('remove dhcp subnet', fc.nat({ max: 2 }), (world, n) => {
  for (const host of world.topology.list('dhcpHost'))
    if (host.subnet === `d${n}`) world.remove('dhcpHost', host.id)
  world.remove('dhcpSubnet', `d${n}`)
})

const dhcpHost = happening(
  'dhcp host',
  fc.record({ n: fc.nat({ max: 3 }), of: fc.constantFrom(0, 0, 1, 2), mac: clientMac }),
  (world, { n, of, mac }) => {
    const host = { id: `h${n}`, subnet: `d${of}`, mac: formatMac(mac) }
    world.put(put('dhcpHost', { ...host, address: formatIp(address(of, 10 + n)) }))
  },
)

const policy = happening(
  'policy',
  fc.record({
    n: fc.nat({ max: 1 }),
    dscp: fc.constantFrom(undefined, 0, 46),
    kbps: fc.constantFrom(undefined, 1_000_000, 2_000_000),
  }),
  (world, { n, dscp, kbps }) => {
    const bandwidth = kbps === undefined ? {} : { bandwidth: { kbps } }
    const value = { id: `qos${n}`, ...(dscp === undefined ? {} : { dscp }), ...bandwidth }
    world.put(put('qosPolicy', value))
  },
)

const named = fc.constantFrom(undefined, 'qos0', 'qos1')

const ofPort = happening(
  'policy of port',
  fc.record({ port, qosPolicy: named, mtu }),
  (world, { port: id, qosPolicy, mtu: size }) => {
    const value = world.topology.get('port', id)
    if (value === undefined) return
    const fields = value.kind === 'router' ? { qosPolicy, mtu: size } : { qosPolicy }
    world.put(put('port', schemas.port.parse({ ...value, ...fields })))
  },
)

const ofBridge = happening(
  'policy of bridge',
  fc.record({ bridge, qosPolicy: named, mtu }),
  (world, { bridge: id, ...fields }) => {
    const value = world.topology.get('bridge', id)
    if (value !== undefined) world.put(put('bridge', schemas.bridge.parse({ ...value, ...fields })))
  },
)

/** What a request can ask for where a packet enters. */
const askable = condition.map(
  ({ flow: _, dstRewritten: _dst, outPorts: _out, icmpDataSrc: _data, ...rest }) => rest,
)

const traceRequest = happening(
  'trace request',
  fc.record({
    n: fc.nat({ max: 1 }),
    device: fc.oneof(
      bridge.map((id) => ({ kind: 'bridge' as const, id })),
      port.map((id) => ({ kind: 'port' as const, id })),
      fc.constantFrom('r0', 'r1').map((id) => ({ kind: 'router' as const, id })),
    ),
    condition: askable,
    limit: fc.constantFrom(1, 5, 1000),
    enabled: fc.constantFrom(true, true, false),
  }),
  (world, { n, ...one }) => world.put(put('traceRequest', { id: `t${n}`, ...one })),
)

/** A client of DHCP asks; no change by itself. */
const client = happening(
  'dhcp client',
  fc.record({ on: fc.constantFrom('if0', 'if1', 'if2', 'if4'), mac: clientMac }),
  (world, { on, mac }) => {
    if (world.datapath.ports().some(({ name }) => name === on))
      world.send(on, clientFrame(mac, 'discover', new Map()))
  },
)

/** Changes of services alone. */
export const serviceChange: fc.Arbitrary<Happening> = fc.oneof(
  { weight: 3, arbitrary: subnet },
  { weight: 1, arbitrary: removeSubnet },
  { weight: 3, arbitrary: dhcpHost },
  { weight: 2, arbitrary: policy },
  { weight: 3, arbitrary: ofPort },
  { weight: 3, arbitrary: ofBridge },
  { weight: 3, arbitrary: traceRequest },
  { weight: 8, arbitrary: client },
)

/** Some of each, before anything random happens. */
export function furnishServices(world: World): void {
  const gateway = formatIp(address(0, 1))
  world.put(
    put('dhcpSubnet', { id: 'd0', bridge: 'b0', enabled: true, subnet: '10.1.0.0/24', gateway }),
    put('dhcpHost', { id: 'h0', subnet: 'd0', mac: '02:00:00:00:00:01', address: '10.1.0.10' }),
    put('qosPolicy', { id: 'qos0', dscp: 10 }),
    put('qosPolicy', { id: 'qos1', bandwidth: { kbps: 1_000_000 } }),
  )
}
