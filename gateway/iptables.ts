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

const commands = ['iptables', 'ip6tables'] as const
type Command = (typeof commands)[number]

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

/**
 * The same for IPv6. A host that forwards takes no routes from router advertisements unless it is
 * told to (accept_ra 2), so it is, wherever it took them before.
 */
export async function enableForwarding6(
  run: Run,
  settings: Settings,
  interfaces: readonly string[],
): Promise<boolean> {
  const path = 'net/ipv6/conf/all/forwarding'
  if (settings.read(path) !== '0') return false
  for (const name of ['default', ...interfaces]) {
    const advertised = `net/ipv6/conf/${name}/accept_ra`
    if (settings.read(advertised) === '1') settings.write(advertised, '2')
  }
  const { code } = await run('ip6tables', ['-w', '5', '-P', 'FORWARD', 'DROP'])
  log('forwarding of IPv6 turned on, policy %s', code === 0 ? 'DROP' : 'unchanged')
  settings.write(path, '1')
  return true
}

/** Lets uplinks through where iptables would drop them; says whether it had to add a rule. */
export async function openForward(run: Run, command: Command = 'iptables'): Promise<boolean> {
  const listing = await listFilter(run, command)
  const chain = chainFor(listing)
  if (chain === undefined) return false
  const missing = ways.filter((way) => !isPresent(listing, chain, way))
  for (const way of missing) await change(run, command, ['-I', chain, '1', ...rule(way)])
  return missing.length > 0
}

/** Removes our rules wherever they are. */
export async function closeForward(run: Run): Promise<void> {
  for (const command of commands) {
    const listing = await listFilter(run, command)
    for (const chain of chains)
      for (const way of ways)
        if (isPresent(listing, chain, way)) await change(run, command, ['-D', chain, ...rule(way)])
  }
}

/** Without the command there are no rules of Docker's either. */
async function listFilter(run: Run, command: Command): Promise<string> {
  const { code, stdout } = await run(command, ['-w', '5', '-S'])
  return code === 0 ? stdout : ''
}

async function change(run: Run, command: Command, args: readonly string[]): Promise<void> {
  const { code, stderr } = await run(command, ['-w', '5', ...args])
  if (code !== 0)
    throw new GatewayError(
      'COMMAND_FAILED',
      `${command} ${args.join(' ')} failed: ${stderr.trim().slice(0, 200)}; way out and published ports may be cut off`,
    )
}
