/** Who speaks BGP where: which ports of a host lead to which peers. */
import { createHash } from 'node:crypto'
import { contains, parseCidr, parseIp } from '../packet/address.ts'
import type { BgpPeer, RouterPort } from './model.ts'

/** The weights of learned routes: administrative distances, as routers give them by custom. */
export const learnedWeights = { external: 20, internal: 200 } as const

/** The datapath's end of the link between a router port and the daemon that speaks for it. */
export function speakerInterface(port: string): string {
  return `mb${shortHash(port)}`
}

/** A name of 11 hexadecimal digits for what belongs to an object. */
export function shortHash(id: string): string {
  return createHash('sha256').update(`bgp/${id}`).digest('hex').slice(0, 11)
}

/** Those of a router's peers that are on the network of its port. */
export function peersAt(port: RouterPort, peers: readonly BgpPeer[]): readonly BgpPeer[] {
  const cidrs = port.addresses.flatMap((text) => parseCidr(text) ?? [])
  return peers.filter(({ router, address }) => {
    const number = parseIp(address)
    return (
      router === port.router &&
      number !== undefined &&
      cidrs.some((cidr) => cidr.prefixLength < 32 && contains(cidr, number))
    )
  })
}
