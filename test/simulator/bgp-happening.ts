/** Random BGP: AS numbers and peers of routers with exterior ports, routes that daemons learn. */
import fc from 'fast-check'
import { formatIp } from '../../packet/address.ts'
import { writeField } from '../../packet/flow-key.ts'
import { address, packetKey } from './arbitrary.ts'
import { frameOf } from './frame.ts'
import { aim, type Happening, happening } from './happening.ts'
import { host, put, type World } from './world.ts'

const autonomy = happening(
  'asn',
  fc.record({ at: fc.nat({ max: 1 }), asn: fc.constantFrom(100, 100, undefined) }),
  (world, { at, asn }) => {
    const found = world.topology.get('router', `r${at}`)
    if (found === undefined) return
    const { asn: _, ...rest } = found
    world.put(put('router', asn === undefined ? rest : { ...rest, asn }))
  },
)

/** At hosts 2 and 3 of the networks of the exterior ports q0 and q1. */
const peer = happening(
  'peer',
  fc.record({
    n: fc.nat({ max: 2 }),
    at: fc.nat({ max: 1 }),
    on: fc.constantFrom(4, 5),
    who: fc.constantFrom(2, 3),
    isThere: fc.constantFrom(true, true, false),
  }),
  (world, { n, at, on, who, isThere }) => {
    const id = `peer${n}`
    if (!isThere) world.remove('bgpPeer', id)
    else
      world.put(
        put('bgpPeer', { id, router: `r${at}`, asn: 3, address: formatIp(address(on, who)) }),
      )
  },
)

const learned = happening(
  'learned',
  fc.record({
    n: fc.nat({ max: 3 }),
    dst: fc.constantFrom('0.0.0.0/0', '20.0.0.0/8', '20.128.0.0/9', '10.2.0.0/25'),
    on: fc.constantFrom(0, 1),
    who: fc.constantFrom(2, 3),
    weight: fc.constantFrom(20, 20, 200),
    isThere: fc.constantFrom(true, true, true, false),
  }),
  (world, { n, dst, on, who, weight, isThere }) => {
    const id = `learned${n}`
    const port = world.topology.get('port', `q${on}`)
    if (!isThere || port?.kind !== 'router') {
      world.remove('learnedRoute', id)
      return
    }
    const gateway = formatIp(address(4 + on, who))
    const { router } = port
    world.put(put('learnedRoute', { id, router, dst, port: port.id, gateway, weight, host }))
  },
)

/** What looks like a peer's word to the daemon of an exterior router port. */
export const speech = fc
  .record({
    key: packetKey,
    n: fc.constantFrom(0, 1),
    who: fc.constantFrom(2, 2, 2, 3),
    protocol: fc.constantFrom(6, 17),
    ports: fc.constantFrom(0x00b3_4000, 0x4000_00b3, 0x0ec8_4000, 0x0050_2000),
  })
  .map(({ key, n, who, protocol, ports }) => {
    writeField(key, 'vlan', 0)
    if (key[8] === 0x0800) {
      writeField(key, 'ipProto', protocol)
      writeField(key, 'ipDst', address(4 + n, 1))
      key[18] = key[9] !== undefined && key[9] >>> 24 === 2 ? 0 : ports
    }
    if (key[8] !== 0x86dd) writeField(key, 'ipSrc', address(4 + n, who))
    return { key, on: `qf${n}`, pick: 0 }
  })

const spoken = happening(
  'spoken',
  speech.map(({ key, ...rest }) => ({ key: [...key], ...rest })),
  (world, { key: words, on, pick }) => {
    const key = Uint32Array.from(words)
    aim(world, key, on, pick)
    if (world.datapath.ports().some(({ name }) => name === on)) world.send(on, frameOf(key))
  },
)

/** Speakers and what they learn come and go. */
export const bgpChange: fc.Arbitrary<Happening> = fc.oneof(
  { weight: 2, arbitrary: autonomy },
  { weight: 3, arbitrary: peer },
  { weight: 3, arbitrary: learned },
  { weight: 3, arbitrary: spoken },
)

/** Both routers speak, should they have a port for it. */
export function furnishBgp(world: World): void {
  for (const at of [0, 1]) {
    const router = `r${at}`
    world.put(put('router', { id: router, adminUp: true, asn: 100 }))
    for (const on of [4, 5]) {
      const id = `peer-${at}-${on}`
      world.put(put('bgpPeer', { id, router, asn: 3, address: formatIp(address(on, 2)) }))
    }
  }
}
