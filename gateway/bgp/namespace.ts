/**
 * The network namespace of a router's daemon, and its links to the router's ports:
 *
 *   datapath: mb… ════ p… : the port's MAC and IP addresses
 *
 * A link is down while the port's interface is: the daemon learns at once that its peer is away.
 */
import { existsSync, readdirSync, rmSync, statfsSync } from 'node:fs'
import type { Links } from '../../datapath/link.ts'
import { shortHash } from '../../topology/bgp.ts'
import { GatewayError } from '../error.ts'
import type { Run } from '../host.ts'
import type { SpeakingPort } from './plan.ts'

const folder = '/run/netns'
const prefix = 'midonet-bgp-'
const ownDaemon = /^[0-9a-f]{6}-[0-9a-f]{11}$/
/** NSFS_MAGIC of linux/magic.h. */
const namespaceFileSystem = 0x6e736673
const ownName = /^mb[0-9a-f]{11}$/

/**
 * The name of what belongs to the daemon of a router on a host. Agents of several hosts may share
 * one folder of namespaces, and each then has one for the same router.
 */
export function speakerName(host: string, router: string): string {
  return `${hostPart(host)}${shortHash(router)}`
}

/** The file that names a daemon's namespace. */
export function namespaceOf(name: string): string {
  return `${folder}/${prefix}${name}`
}

/**
 * Names of daemons of which something is left: namespaces of `host`, and those with a folder in
 * `runDir`, from when the host had another id.
 */
export function namesLeft(host: string | undefined, runDir: string): readonly string[] {
  const inFolder = filesOf(runDir).filter((name) => ownDaemon.test(name))
  const own = filesOf(folder)
    .filter((file) => file.startsWith(prefix))
    .map((file) => file.slice(prefix.length))
    .filter((name) => host !== undefined && name.startsWith(hostPart(host)))
  return [...new Set([...inFolder, ...own])]
}

function hostPart(host: string): string {
  return `${shortHash(host).slice(0, 6)}-`
}

function filesOf(path: string): readonly string[] {
  return existsSync(path) ? readdirSync(path) : []
}

/** Whether an interface of the host is the datapath's end of a link to a daemon. */
export function isSpeakerLink(name: string): boolean {
  return ownName.test(name)
}

/**
 * Whether the namespace can be entered. Its name may be a mere file: a mount is not seen in other
 * mount namespaces, such as that of an agent before; then the daemon's process leads there.
 * @throws GatewayError
 */
export async function reachNamespace(
  run: Run,
  path: string,
  daemon: number | undefined,
): Promise<boolean> {
  if (!existsSync(path)) return false
  if (statfsSync(path).type === namespaceFileSystem) return true
  rmSync(path)
  if (daemon === undefined) return false
  await ip(run, 'netns', 'attach', nameOf(path), `${daemon}`)
  return true
}

/** Makes the namespace. @throws GatewayError */
export async function makeNamespace(run: Run, path: string): Promise<void> {
  await ip(run, 'netns', 'add', nameOf(path))
  await ip(run, '-n', nameOf(path), 'link', 'set', 'lo', 'up')
}

/** Removes it, and the links that lead into it. @throws GatewayError */
export async function removeNamespace(run: Run, path: string): Promise<void> {
  if (existsSync(path)) await ip(run, 'netns', 'del', nameOf(path))
}

/** Kernel settings of the namespace: it is a host that forwards nothing and speaks IPv4 only. */
export const namespaceSettings: readonly (readonly [string, string])[] = [
  ['net/ipv4/ip_forward', '0'],
  // The answer to a peer may leave by another port than the question came by.
  ['net/ipv4/conf/all/rp_filter', '0'],
  ['net/ipv4/conf/default/rp_filter', '0'],
  // Ports' networks may be alike: each address belongs to its own link.
  ['net/ipv4/conf/all/arp_ignore', '1'],
  ['net/ipv4/conf/all/arp_announce', '2'],
  ['net/ipv6/conf/all/disable_ipv6', '1'],
  ['net/ipv6/conf/default/disable_ipv6', '1'],
]

/** Both sides of the links, as they are seen from either namespace. */
export interface Sides {
  readonly run: Run
  readonly outer: Links
  readonly inner: Links
  readonly path: string
}

/** Makes the link of each port what it should be, and removes others; says what it did. */
export async function ensureLinks(
  sides: Sides,
  ports: readonly SpeakingPort[],
): Promise<readonly string[]> {
  const { inner } = sides
  const notes: string[] = []
  const wanted = new Set(ports.map((port) => port.inner))
  for (const { name } of inner.list())
    if (/^p[0-9a-f]{11}$/.test(name) && !wanted.has(name)) inner.remove(name)
  for (const port of ports) if (await ensureLink(sides, port)) notes.push(`link ${port.link} made`)
  return notes
}

/** Sets each link up or down as its port's interface is; says whether any changed. */
export function followCarrier(outer: Links, ports: readonly SpeakingPort[]): boolean {
  let changed = false
  for (const { interface: name, link } of ports) {
    const found = outer.find(name)
    const isUp = found?.up === true && found.carrier !== false
    const own = outer.find(link)
    if (own === undefined || own.up === isUp) continue
    if (isUp) outer.setUp(link)
    else outer.setDown(link)
    changed = true
  }
  return changed
}

async function ensureLink(sides: Sides, port: SpeakingPort): Promise<boolean> {
  const { run, outer, inner, path } = sides
  const mtu = outer.find(port.interface)?.mtu ?? 1500
  const [own, other] = [outer.find(port.link), inner.find(port.inner)]
  const held = inner
    .addresses()
    .filter((one) => one.interface === port.inner)
    .map(({ cidr }) => cidr)
  const isWhole =
    own !== undefined &&
    other?.mac === port.mac &&
    other.mtu === mtu &&
    held.toSorted().join() === port.addresses.toSorted().join()
  if (isWhole) return false
  outer.remove(port.link)
  inner.remove(port.inner)
  const end = ['name', port.inner, 'mtu', `${mtu}`, 'address', port.mac, 'netns', nameOf(path)]
  await ip(run, 'link', 'add', port.link, 'mtu', `${mtu}`, 'type', 'veth', 'peer', ...end)
  for (const cidr of port.addresses) inner.addAddress(port.inner, cidr)
  inner.setUp(port.inner)
  return true
}

function nameOf(path: string): string {
  return path.slice(folder.length + 1)
}

async function ip(run: Run, ...words: string[]): Promise<void> {
  const { code, stderr } = await run('ip', words)
  if (code === undefined) {
    const message = 'BGP needs the command ip; install it: apt-get install iproute2'
    throw new GatewayError('COMMAND_MISSING', message)
  }
  if (code !== 0)
    throw new GatewayError(
      'COMMAND_FAILED',
      `ip ${words.join(' ')}: ${stderr.trim().slice(0, 200)}`,
    )
}
