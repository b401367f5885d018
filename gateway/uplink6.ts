/**
 * IPv6 on an uplink's link: addresses that follow from those of IPv4, and NAT66. It is there when a
 * network of the router has IPv6 (of a tenant behind a provider: not yet).
 */
import { formatIpv6, parseIp } from '../packet/address.ts'
import type { Condition, RouterPort, Rule, Uplink } from '../topology/model.ts'
import type { Draft, Reader } from '../topology/store.ts'
import { uplinkChains, uplinkRoute } from '../topology/uplink.ts'
import { defaultWeight } from './addressing.ts'
import { hostIp, routerAddressOf, servedNetworks } from './link.ts'
import type { LinkPublication } from './publication.ts'
import { dnatTo, portCondition, portPosition, ruler, snatTo, translated } from './uplink-rule.ts'

/** A unique local prefix (RFC 4193) that Docker's own choice of pools does not use. */
const prefix = 0xfd6d_6964_6fffn << 80n
const prefixLength = 126
const anywhere6 = '::/0'

/** Addresses of both ends. */
export interface Link6 {
  readonly inside: string
  readonly outside: string
}

/** The link's addresses; undefined when nothing behind the uplink has IPv6. */
export function link6Of(reader: Reader, uplink: Uplink): Link6 | undefined {
  const networks = servedNetworks(reader, uplink.router)
  const speaks = networks.some(
    ({ router, subnets6 }) =>
      router === uplink.router && subnets6.some(({ gateway }) => gateway !== undefined),
  )
  if (!speaks) return undefined
  return { inside: embed(routerAddressOf(uplink)), outside: embed(hostIp(uplink)) }
}

/** An address of the host with the link's prefix length. */
export function cidr6Of(address: string): string {
  return `${address}/${prefixLength}`
}

function embed(address: string): string {
  return formatIpv6(prefix | BigInt(parseIp(address) ?? 0))
}

/** The router's end as it should be. */
export function withLink6(port: RouterPort, uplink: Uplink, link: Link6 | undefined): RouterPort {
  const { addresses6: _, neighbors6: __, ...rest } = port
  if (link === undefined) return rest
  return {
    ...rest,
    addresses6: [cidr6Of(link.inside)],
    neighbors6: [{ address: link.outside, mac: uplink.hostMac }],
  }
}

/** What the chains have besides for IPv6; the rules that give addresses back serve both families. */
export function uplinkRules6(
  id: string,
  link: Link6 | undefined,
  publications: readonly LinkPublication[],
): readonly Rule[] {
  if (link === undefined) return []
  const chains = uplinkChains(id)
  const toLink = { dst: { is: `${link.inside}/128` } }
  const fromLink = { src: { is: `${link.inside}/128` } }
  const inbound = ruler(chains.inbound)
  const outbound = ruler(chains.outbound)
  return [
    inbound('hairpin6', translated + 11, fromLink, snatTo(link.outside, 'continue')),
    inbound(
      'fragments6',
      translated + 12,
      { ...toLink, fragments: 'nonHeader' },
      dnatTo(link.inside, undefined),
    ),
    inbound('published6', translated + 13, toLink, { kind: 'jump', chain: chains.published }),
    ...publications.flatMap((one) => publishedRule6(chains.published, toLink, one)),
    outbound('hairpin6', translated + 10, fromLink, { kind: 'reverseSnat', verdict: 'accept' }),
    outbound('own6', translated + 11, fromLink, { kind: 'accept' }),
    outbound('link6', translated + 12, { src: { is: 'fe80::/10' } }, { kind: 'accept' }),
    outbound('way-out6', translated + 13, undefined, snatTo(link.inside, 'accept')),
  ]
}

function publishedRule6(
  chain: string,
  toLink: Condition,
  { protocol, linkPort, address6, port }: LinkPublication,
): readonly Rule[] {
  if (protocol === 'sctp' || address6 === undefined) return []
  const condition = { ...toLink, ...portCondition(protocol, linkPort) }
  const position = behindIpv4 + portPosition(protocol, linkPort)
  const rule = ruler(chain)
  return [rule(`${protocol}-${linkPort}-6`, position, condition, dnatTo(address6, port))]
}

const behindIpv4 = 0x2_0000

/** Whether the default route of IPv6 is as it should be. */
export function hasItsRoute6(reader: Reader, uplink: Uplink, link: Link6 | undefined): boolean {
  const ours = reader.get('route', routeId(uplink)) !== undefined
  return ours === (link !== undefined && !hasOtherDefault6(reader, uplink))
}

/** Writes or removes the default route of IPv6. */
export function completeRoute6(draft: Draft, uplink: Uplink, link: Link6 | undefined): void {
  if (hasItsRoute6(draft, uplink, link)) return
  if (link === undefined || hasOtherDefault6(draft, uplink)) {
    draft.delete('route', routeId(uplink))
    return
  }
  draft.put('route', {
    ...{ id: routeId(uplink), router: uplink.router, src: anywhere6, dst: anywhere6 },
    ...{ action: 'port', port: uplink.id, gateway: link.outside, weight: defaultWeight },
  })
}

function routeId({ id }: { readonly id: string }): string {
  return `${uplinkRoute(id)}6`
}

/** Other hosts' uplinks are not somebody else. */
function hasOtherDefault6(reader: Reader, { router }: Uplink): boolean {
  return reader
    .list('route')
    .some(
      (route) =>
        route.router === router &&
        route.dst === anywhere6 &&
        route.src === anywhere6 &&
        (route.port === undefined || route.id !== routeId({ id: route.port })),
    )
}
