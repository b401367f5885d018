/**
 * Docker sets the policy of iptables' FORWARD chain to DROP and keeps the chain DOCKER-USER for
 * others' rules. Ours there let uplinks through; what may pass them is decided by our own table.
 */
import createDebug from 'debug'
import { GatewayError } from './error.ts'
import type { Run, Settings } from './host.ts'

const log = createDebug('midonet:gateway')

const chains = ['DOCKER-USER', 'FORWARD'] as const
type Chain = (typeof chains)[number]

const ways = ['-i', '-o'] as const
type Way = (typeof ways)[number]

function rule(way: Way): readonly string[] {
  return [way, 'mu+', '-m', 'comment', '--comment', 'midonet', '-j', 'ACCEPT']
}

function isPresent(listing: string, chain: Chain, way: Way): boolean {
  return listing.split('\n').includes(`-A ${chain} ${rule(way).join(' ')}`)
}

/** Where our rules belong, given `iptables -S`; undefined when nobody drops what is forwarded. */
export function chainFor(listing: string): Chain | undefined {
  const lines = listing.split('\n')
  if (lines.includes('-N DOCKER-USER')) return 'DOCKER-USER'
  return lines.includes('-P FORWARD DROP') ? 'FORWARD' : undefined
}

/**
 * Lets the kernel forward; says whether it had to. Whoever turns forwarding on closes it for all
 * others, as Docker does, or this host would become a router for its neighbours.
 */
export async function enableForwarding(run: Run, settings: Settings): Promise<boolean> {
  const path = 'net/ipv4/ip_forward'
  if (settings.read(path) !== '0') return false
  const { code } = await run('iptables', ['-w', '5', '-P', 'FORWARD', 'DROP'])
  log('forwarding turned on, policy %s', code === 0 ? 'DROP' : 'unchanged')
  settings.write(path, '1')
  return true
}

/** Lets uplinks through where iptables would drop them; says whether it had to add a rule. */
export async function openForward(run: Run): Promise<boolean> {
  const listing = await listFilter(run)
  const chain = chainFor(listing)
  if (chain === undefined) return false
  const missing = ways.filter((way) => !isPresent(listing, chain, way))
  for (const way of missing) await iptables(run, ['-I', chain, '1', ...rule(way)])
  return missing.length > 0
}

/** Removes our rules wherever they are. */
export async function closeForward(run: Run): Promise<void> {
  const listing = await listFilter(run)
  for (const chain of chains)
    for (const way of ways)
      if (isPresent(listing, chain, way)) await iptables(run, ['-D', chain, ...rule(way)])
}

/** Without the command there are no rules of Docker's either. */
async function listFilter(run: Run): Promise<string> {
  const { code, stdout } = await run('iptables', ['-w', '5', '-S'])
  return code === 0 ? stdout : ''
}

async function iptables(run: Run, args: readonly string[]): Promise<void> {
  const { code, stderr } = await run('iptables', ['-w', '5', ...args])
  if (code !== 0)
    throw new GatewayError(
      'COMMAND_FAILED',
      `iptables ${args.join(' ')} failed: ${stderr.trim().slice(0, 200)}; way out and published ports may be cut off`,
    )
}
