/**
 * The nftables table `inet midonet`: this host's side of the uplinks. It is ours alone and is
 * replaced as a whole in one transaction, so there is never a moment without rules.
 */
import { createHash } from 'node:crypto'
import type { DesiredPublication, DesiredState, DesiredUplink } from './desired.ts'
import { GatewayError } from './error.ts'
import type { CommandResult, Run } from './host.ts'

/** Every uplink's host end, as nft matches it. */
const anyUplink = '"mu*"'

/** The table as text for `nft -f -`. `closed` are links of other container networks of this host. */
export function renderRuleset(state: DesiredState, closed: readonly string[]): string {
  const chains = [
    chain('guard', 'type filter hook prerouting priority raw', state.uplinks.flatMap(guardRules)),
    // Before Docker's, which would give published ports of Swarm's services to its own balancer.
    chain('prerouting', 'type nat hook prerouting priority dstnat - 10', [
      'fib daddr type local jump publish',
    ]),
    chain('output', 'type nat hook output priority -110', ['fib daddr type local jump publish']),
    chain('publish', undefined, state.publications.flatMap(publicationRules)),
    chain('forward', 'type filter hook forward priority filter', forwardRules(closed)),
    chain(
      'postrouting',
      'type nat hook postrouting priority srcnat',
      state.uplinks.flatMap(masqueradeRules),
    ),
  ].join('')
  const digest = createHash('sha256').update(chains).digest('hex').slice(0, 32)
  return `table inet midonet {\n\tcomment "${digest}"\n${chains}}\n`
}

function chain(name: string, hook: string | undefined, rules: readonly string[]): string {
  const lines = [...(hook === undefined ? [] : [`${hook}; policy accept;`]), ...rules]
  return `\tchain ${name} {\n${lines.map((line) => `\t\t${line}\n`).join('')}\t}\n`
}

/**
 * What may come from a router: its own packets, which are all that its NAT translates, what else
 * comes of networks that the host can tell apart, and never anything to the host's loopback.
 */
function guardRules({
  interface: name,
  router,
  subnets,
  routerAddress,
  link6,
}: DesiredUplink): readonly string[] {
  const from = `iifname "${name}"`
  const sources = [...subnets, routerAddress].join(', ')
  const foreign = `counter drop ${comment(`not a source of ${router}`)}`
  return [
    `${from} ip saddr != { ${sources} } ${foreign}`,
    `${from} ip daddr 127.0.0.0/8 counter drop ${comment('loopback is not for containers')}`,
    link6 === undefined
      ? `${from} meta nfproto ipv6 counter drop ${comment('no network has IPv6')}`
      : `${from} ip6 saddr != { ${link6.inside}, fe80::/10 } ${foreign}`,
  ]
}

function publicationRules(publication: DesiredPublication): readonly string[] {
  const { protocol, hostAddress, hostPort, address, address6, port, endpoint } = publication
  const where = hostAddress === undefined ? '' : `ip daddr ${hostAddress} `
  const name = comment(`endpoint ${endpoint.slice(0, 12)}`)
  // "Every address" is IPv4 here; without the match IPv6 would be refused as a wrong family.
  const family = hostAddress === undefined ? 'meta nfproto ipv4 ' : ''
  const to = `${protocol} dport ${hostPort} counter dnat`
  return [
    `${family}${where}${to} ip to ${address}:${port} ${name}`,
    ...(address6 === undefined
      ? []
      : [`meta nfproto ipv6 ${to} ip6 to [${address6}]:${port} ${name}`]),
  ]
}

function forwardRules(closed: readonly string[]): readonly string[] {
  const others = closed.map((name) => `"${name}"`).join(', ')
  return [
    `iifname ${anyUplink} ct state established,related accept`,
    `oifname ${anyUplink} ct state established,related accept`,
    `oifname ${anyUplink} ct status dnat counter accept ${comment('published ports')}`,
    `oifname ${anyUplink} counter drop ${comment('neither published nor asked for')}`,
    ...(closed.length === 0
      ? []
      : [
          `iifname ${anyUplink} oifname { ${others} } ct status dnat accept`,
          `iifname ${anyUplink} oifname { ${others} } counter drop ${comment('networks of Docker')}`,
        ]),
  ]
}

/**
 * A router is one address to its host, and gets that of the host beyond it: only the host knows
 * which of its addresses a packet leaves by. Containers' addresses and ports are the uplink's
 * NAT's; what protocols other than TCP, UDP and ICMP send it does not know, and comes as it is.
 */
function masqueradeRules(uplink: DesiredUplink): readonly string[] {
  const { interface: name, router, routerAddress } = uplink
  const subnets = `ip saddr { ${uplink.subnets.join(', ')} }`
  const out = comment(`out of ${router}`)
  const isOurs = 'fib saddr type local ct status & dnat != dnat'
  return [
    // Of the host's addresses the link's: the router knows the way to no other of the loopback's,
    // and what the host asks of containers by their addresses is answered to that one.
    `oifname "${name}" ip saddr 127.0.0.0/8 counter masquerade ${comment(`host to ${router}`)}`,
    `oifname "${name}" ${isOurs} counter masquerade ${comment(`host to ${router}`)}`,
    `oifname != ${anyUplink} ip saddr ${routerAddress} counter masquerade ${out}`,
    ...(uplink.link6 === undefined
      ? []
      : [`oifname != ${anyUplink} ip6 saddr ${uplink.link6.inside} counter masquerade ${out}`]),
    ...(uplink.subnets.length === 0
      ? []
      : [
          `oifname "${name}" ${subnets} counter masquerade ${comment(`${router} to itself`)}`,
          `oifname != ${anyUplink} ${subnets} counter masquerade ${comment(`other protocols of ${router}`)}`,
        ]),
  ]
}

/** Names hold no quotes; nft allows 128 characters. */
function comment(text: string): string {
  return `comment "${text.replace(/[^\w .:-]/g, '').slice(0, 120)}"`
}

/** Keeps the kernel's table equal to a text. */
export class Nftables {
  readonly #run: Run
  #applied: string | undefined
  /** What nft lists when our text is in force, without counters. */
  #listed: string | undefined

  constructor(run: Run) {
    this.#run = run
  }

  /** Puts `text` in force, or with undefined removes the table. Does nothing when it is in force. */
  async apply(text: string | undefined): Promise<void> {
    if (text === this.#applied && this.#listed !== undefined) return
    const found = await this.#list()
    if (this.#listed === undefined && text !== undefined && isEqual(text, found)) {
      // An agent before this one made it.
      this.#remember(text, found)
      return
    }
    if (text === undefined && found === '') this.#remember(undefined, '')
    else await this.#replace(text)
  }

  /** Removes the table. Also where there is none, and no nft. */
  async remove(): Promise<void> {
    if ((await this.#list()) !== '') await this.#replace(undefined)
  }

  /** Compares the kernel's table with what was applied and puts it right; says whether it had to. */
  async repair(): Promise<boolean> {
    // Where no table is wanted none is looked for: that would be a command each few seconds for nothing.
    if (this.#applied === undefined || this.#listed === undefined) return false
    if ((await this.#list()) === this.#listed) return false
    await this.#replace(this.#applied)
    return true
  }

  async #replace(text: string | undefined): Promise<void> {
    this.#listed = undefined
    const clear = 'add table inet midonet\ndelete table inet midonet\n'
    this.#nft(await this.#run('nft', ['-f', '-'], clear + (text ?? '')), 'replace')
    this.#remember(text, await this.#list())
  }

  #remember(text: string | undefined, listed: string): void {
    this.#applied = text
    this.#listed = listed
  }

  async #list(): Promise<string> {
    const result = await this.#run('nft', ['-s', 'list', 'table', 'inet', 'midonet'])
    // Without the command there is no table; who needs one is told so when it is written.
    if (result.code === undefined) return ''
    if (/No such file or directory/.test(result.stderr)) return ''
    return this.#nft(result, 'list')
  }

  #nft(result: CommandResult, what: string): string {
    if (result.code === 0) return result.stdout
    if (result.code === undefined)
      throw new GatewayError(
        'COMMAND_MISSING',
        'the command nft is not there; install nftables (on Debian: apt-get install nftables)',
      )
    const reason = result.stderr.trim().split('\n').slice(0, 3).join(' ')
    throw new GatewayError(
      'COMMAND_FAILED',
      `nft cannot ${what} the table inet midonet: ${reason}; the kernel needs nf_tables with NAT for inet`,
    )
  }
}

/** Whether a listing is our text as far as can be seen: nft may print a rule otherwise than it read it. */
function isEqual(text: string, listing: string): boolean {
  const digest = /comment "[0-9a-f]{32}"/
  return (
    digest.exec(text)?.[0] === digest.exec(listing)?.[0] && countLines(text) === countLines(listing)
  )
}

function countLines(text: string): number {
  return text.split('\n').filter((line) => line.trim() !== '').length
}
