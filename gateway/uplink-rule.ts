/**
 * The NAT of an uplink, as the two chains of its port. Outside it, everything behind the router is
 * one address, the router's on the link; so it does not matter who else uses the same subnets.
 *
 *   in:  echoes of subnets that the host reaches ▸ answers ▸
 *        the link's own address comes from itself (hairpin) ▸ published ports ▸ the host
 *   out: those echoes ▸ answers of published ports ▸ answers to the host ▸ all else gets the link's address
 */
import type { Condition, Rule, RuleAction } from '../topology/model.ts'
import { uplinkChains } from '../topology/uplink.ts'
import type { LinkPublication } from './publication.ts'

export interface LinkEnds {
  readonly id: string
  /** The router's address on the link, and the address at its other end. */
  readonly inside: string
  readonly outside: string
}

/** Below them are the ports of services, which published ports often have. */
const ports = { first: 1024, last: 65_535 } as const
const protocols = { icmp: 1, tcp: 6, udp: 17 } as const
/** Positions of echoes are below it; of all else, of either family, above. */
export const translated = 100_000
/** ICMP types, RFC 792. */
const echoTypes = { echo: 8, 'echo-reply': 0 } as const

/** All rules of an uplink's chains. */
export function uplinkRules(
  ends: LinkEnds,
  publications: readonly LinkPublication[],
): readonly Rule[] {
  return [...inboundRules(ends), ...publishedRules(ends, publications), ...outboundRules(ends)]
}

/**
 * Lets pings pass as they are, in and out, for subnets that mean the same to the host, whose NAT they
 * get beyond. Ours tells echoes apart by id, which no flow can: they would stop while no agent runs.
 */
export function echoRules(id: string, subnets: readonly string[]): readonly Rule[] {
  const chains = uplinkChains(id)
  return subnets.flatMap((subnet, at) =>
    Object.entries(echoTypes).flatMap(([name, type], which) => {
      const echo = {
        protocol: { is: protocols.icmp },
        srcPorts: { is: { first: type, last: type } },
      }
      const place = [`${name}-${subnet.replace('/', '-')}`, at * 2 + which] as const
      return [
        ruler(chains.inbound)(...place, { ...echo, dst: { is: subnet } }, { kind: 'accept' }),
        ruler(chains.outbound)(...place, { ...echo, src: { is: subnet } }, { kind: 'accept' }),
      ]
    }),
  )
}

function inboundRules({ id, inside, outside }: LinkEnds): readonly Rule[] {
  const chains = uplinkChains(id)
  const rule = ruler(chains.inbound)
  const toLink = { dst: { is: `${inside}/32` } }
  return [
    rule('answers', translated + 1, undefined, { kind: 'reverseSnat', verdict: 'accept' }),
    // A container asks for what its own router publishes: the answer must come by the link.
    rule('hairpin', translated + 2, { src: { is: `${inside}/32` } }, snatTo(outside, 'continue')),
    // Without ports they meet none of the rules behind.
    rule(
      'fragments',
      translated + 3,
      { ...toLink, fragments: 'nonHeader' },
      dnatTo(inside, undefined),
    ),
    // A chain of its own, so that flows of the way out do not rest on what is published.
    rule('published', translated + 4, toLink, { kind: 'jump', chain: chains.published }),
    // Remembered, so that the answers are known for what they are.
    rule(
      'host',
      translated + 5,
      { src: { is: `${outside}/32` }, dst: { is: `${inside}/32`, not: true }, flow: forward },
      { kind: 'accept' },
    ),
  ]
}

function publishedRules(
  { id, inside }: LinkEnds,
  publications: readonly LinkPublication[],
): readonly Rule[] {
  const rule = ruler(uplinkChains(id).published)
  return publications.flatMap(({ protocol, linkPort, address, port }) => {
    if (protocol === 'sctp') return []
    const condition = { dst: { is: `${inside}/32` }, ...portCondition(protocol, linkPort) }
    const position = portPosition(protocol, linkPort)
    return rule(`${protocol}-${linkPort}`, position, condition, dnatTo(address, port))
  })
}

function outboundRules({ id, inside, outside }: LinkEnds): readonly Rule[] {
  const rule = ruler(uplinkChains(id).outbound)
  const fromLink = { src: { is: `${inside}/32` } }
  const toHost = { dst: { is: `${outside}/32` } }
  return [
    rule('answers', translated + 1, undefined, { kind: 'reverseDnat', verdict: 'continue' }),
    rule('hairpin', translated + 2, fromLink, { kind: 'reverseSnat', verdict: 'accept' }),
    rule('own', translated + 3, fromLink, { kind: 'accept' }),
    rule(
      'host-fragments',
      translated + 4,
      { ...toHost, fragments: 'nonHeader' },
      { kind: 'accept' },
    ),
    rule('host', translated + 5, { ...toHost, flow: { is: 'return' } }, { kind: 'accept' }),
    rule('way-out', translated + 6, undefined, snatTo(inside, 'accept')),
  ]
}

const forward = { is: 'forward' } as const

type Verdict = 'accept' | 'continue'

/** What packets to a published port are. */
export function portCondition(protocol: 'tcp' | 'udp', port: number): Condition {
  return { protocol: { is: protocols[protocol] }, dstPorts: { is: { first: port, last: port } } }
}

/** Where the rule of a published port stands. */
export function portPosition(protocol: 'tcp' | 'udp', port: number): number {
  return (protocol === 'udp' ? 0x1_0000 : 0) + port
}

/** Gives connections an address and a port of it. */
export function snatTo(address: string, verdict: Verdict): RuleAction {
  return { kind: 'snat', targets: [{ first: address, last: address, ports }], verdict }
}

/** Leads connections to an address, at a port. */
export function dnatTo(address: string, port: number | undefined): RuleAction {
  const target = { first: address, last: address }
  const targets =
    port === undefined ? [target] : [{ ...target, ports: { first: port, last: port } }]
  return { kind: 'dnat', targets, verdict: 'accept' }
}

/** Makes rules of a chain. */
export function ruler(chain: string) {
  return (
    name: string,
    position: number,
    condition: Condition | undefined,
    action: RuleAction,
  ): Rule => ({
    id: `${chain}-${name}`,
    chain,
    position,
    ...(condition !== undefined && { condition }),
    action,
  })
}
