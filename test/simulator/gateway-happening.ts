/**
 * Random ways out, as the gateway makes them: the chains of an uplink's port, and of a tenant's link
 * to its provider, with what is published and the subnets that the host reaches.
 */
import fc from 'fast-check'
import type { LinkPublication } from '../../gateway/publication.ts'
import { echoRules, uplinkRules } from '../../gateway/uplink-rule.ts'
import { uplinkRules6 } from '../../gateway/uplink6.ts'
import { formatIp, parseCidr } from '../../packet/address.ts'
import type { Rule } from '../../topology/model.ts'
import { uplinkChains } from '../../topology/uplink.ts'
import { address, address6, subnet } from './arbitrary.ts'
import { type Happening, happening } from './happening.ts'
import { put, type World } from './world.ts'

interface Publishing {
  readonly protocol: 'tcp' | 'udp'
  readonly linkPort: number
  readonly subnet: number
  readonly host: number
  readonly port: number
}

const publishing: fc.Arbitrary<Publishing> = fc.record({
  protocol: fc.constantFrom('tcp', 'udp'),
  linkPort: fc.constantFrom(0x50, 0x1000),
  subnet,
  host: fc.constantFrom(2, 3, 4),
  port: fc.constantFrom(0x50, 0x1000),
})

const wayOut = happening(
  'way out',
  fc.record({
    // An uplink's port, or the tenant's end of the link between the routers.
    on: fc.constantFrom('q0', 'q1', 'l2a', 'l2b'),
    publications: fc.uniqueArray(publishing, {
      maxLength: 2,
      selector: ({ protocol, linkPort }) => `${protocol} ${linkPort}`,
    }),
    reached: fc.subarray(['10.1.0.0/24', '10.2.0.0/24']),
    hasSix: fc.boolean(),
    isThere: fc.constantFrom(true, true, true, false),
  }),
  (world, { on, isThere, ...wanted }) => {
    if (isThere) open(world, on, wanted)
    else close(world, on)
  },
)

interface WayOut {
  readonly publications: readonly Publishing[]
  readonly reached: readonly string[]
  readonly hasSix: boolean
}

/** Gives a router's port the chains of a way out; its network's host 2 is the other end. */
function open(world: World, id: string, { publications, reached, hasSix }: WayOut): void {
  const port = world.topology.get('port', id)
  const own = port?.kind === 'router' ? parseCidr(port.addresses[0] ?? '') : undefined
  if (port === undefined || own === undefined) return
  const s = ((own.address >>> 16) & 0xff) - 1
  const other = (own.address & 0xff) === 1 ? 2 : 1
  const ends = { id, inside: formatIp(own.address), outside: formatIp(address(s, other)) }
  const six = { inside: address6(s, own.address & 0xff), outside: address6(s, other) }
  const published = publications.map(toPublication)
  const rules = [
    ...uplinkRules(ends, published),
    ...echoRules(id, reached),
    ...uplinkRules6(id, hasSix ? six : undefined, published),
  ]
  const chains = uplinkChains(id)
  drop(world, id, rules)
  world.put(
    ...Object.values(chains).map((chain) => put('chain', { id: chain })),
    ...rules.map((rule) => put('rule', rule)),
    put('port', { ...port, inboundChain: chains.inbound, outboundChain: chains.outbound }),
  )
}

function close(world: World, id: string): void {
  const port = world.topology.get('port', id)
  if (port === undefined) return
  const { inboundChain: _, outboundChain: __, ...rest } = port
  world.put(put('port', rest))
  drop(world, id, [])
}

/** Removes the rules of a way out that are not wanted any more. */
function drop(world: World, id: string, wanted: readonly Rule[]): void {
  const chains: readonly string[] = Object.values(uplinkChains(id))
  for (const rule of world.topology.list('rule'))
    if (chains.includes(rule.chain) && !wanted.some((one) => one.id === rule.id))
      world.remove('rule', rule.id)
}

function toPublication({ protocol, linkPort, subnet: s, host, port }: Publishing): LinkPublication {
  const place = { address: formatIp(address(s, host)), address6: address6(s, host), port }
  const own = { endpoint: 'e', hostAddress: undefined, hostPort: linkPort }
  return { ...own, protocol, linkPort, ...place }
}

export const gatewayChange: fc.Arbitrary<Happening> = wayOut

/** The provider's uplink, and a tenant's link to it: the routers' networks are behind both. */
export function furnishGateway(world: World): void {
  const web = { protocol: 'tcp', linkPort: 0x50, subnet: 0, host: 2, port: 0x50 } as const
  open(world, 'q1', { publications: [web], reached: ['10.1.0.0/24'], hasSix: true })
  open(world, 'l2a', { publications: [web], reached: [], hasSix: true })
}
