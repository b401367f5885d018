/**
 * The configuration of FRR's bgpd: as a file for its start, and as the commands that lead from one
 * configuration to another without disturbing the sessions that stay as they are. Pure.
 */
import type { PeerConfig, SpeakerConfig } from './daemon.ts'

/** Where in the configuration a statement stands. */
type Place = 'top' | 'router' | 'family'

interface Statement {
  readonly place: Place
  /** What it says something about: one statement for each. */
  readonly key: string
  readonly set: string
  readonly unset: string
  /** The peer that it is about. */
  readonly peer?: string
}

/** Of as-path access lists and BFD profiles. */
const name = 'midonet'

/** What bfdd starts with: a peer is gone when it is silent for 600 ms. */
export const bfddFile = [
  'bfd',
  ` profile ${name}`,
  '  detect-multiplier 3',
  '  receive-interval 200',
  '  transmit-interval 200',
  ' exit',
  'exit',
  '',
].join('\n')

/** What bgpd starts with. It may hold passwords. */
export function renderFile(config: SpeakerConfig): string {
  const statements = statementsOf(config)
  const at = (place: Place) => statements.filter((one) => one.place === place)
  return [
    ...at('top').map(({ set }) => set),
    `router bgp ${config.asn}`,
    ...at('router').map(({ set }) => ` ${set}`),
    ' address-family ipv4 unicast',
    ...at('family').map(({ set }) => `  ${set}`),
    ' exit-address-family',
    'exit',
    '',
  ].join('\n')
}

/**
 * The commands that turn `have` into `want`, from `configure terminal` to `end`; none when there is
 * nothing to do, undefined when only a new start helps.
 */
export function changesBetween(
  have: SpeakerConfig,
  want: SpeakerConfig,
): readonly string[] | undefined {
  if (have.asn !== want.asn) return undefined
  const [before, after] = [statementsOf(have), statementsOf(want)]
  const known = new Map(before.map((one) => [one.key, one.set]))
  const kept = new Set(after.map(({ key }) => key))
  const gone = new Set(have.peers.map(({ address }) => address))
  for (const { address } of want.peers) gone.delete(address)
  const commands: string[] = [...gone].map((address) => ` no neighbor ${address}`)
  const unset = before.filter(
    ({ key, peer }) => !kept.has(key) && (peer === undefined || !gone.has(peer)),
  )
  const set = after.filter(({ key, set: text }) => known.get(key) !== text)
  if (commands.length + unset.length + set.length === 0) return []
  const router = `router bgp ${want.asn}`
  const family = 'address-family ipv4 unicast'
  const at = (list: readonly Statement[], place: Place) => list.filter((one) => one.place === place)
  const inner = [
    ...commands.map((text) => text.trim()),
    ...at(unset, 'router').map((one) => one.unset),
    ...at(set, 'router').map((one) => one.set),
  ]
  const inFamily = [
    ...at(unset, 'family').map((one) => one.unset),
    ...at(set, 'family').map((one) => one.set),
  ]
  return [
    'configure terminal',
    ...at(unset, 'top').map((one) => one.unset),
    ...at(set, 'top').map((one) => one.set),
    ...(inner.length + inFamily.length === 0 ? [] : [router, ...inner]),
    ...(inFamily.length === 0 ? [] : [family, ...inFamily, 'exit-address-family']),
    'end',
  ]
}

function statementsOf(config: SpeakerConfig): readonly Statement[] {
  return [
    // Paths that begin here: what one peer says is not passed on to another.
    always('top', `bgp as-path access-list ${name} seq 5 permit ^$`),
    plain('router', 'router-id', `bgp router-id ${config.routerId}`, 'no bgp router-id'),
    always('router', 'no bgp ebgp-requires-policy'),
    always('router', 'no bgp default ipv4-unicast'),
    // Networks are told whether or not the daemon's namespace has a route to them.
    always('router', 'no bgp network import-check'),
    always('router', 'bgp bestpath as-path multipath-relax'),
    always('family', 'maximum-paths 16'),
    always('family', 'maximum-paths ibgp 16'),
    ...config.networks.map((prefix) =>
      plain('family', `network ${prefix}`, `network ${prefix}`, `no network ${prefix}`),
    ),
    ...config.peers.flatMap((peer) => peerStatements(peer, config)),
  ]
}

function peerStatements(peer: PeerConfig, { prefixesMax }: SpeakerConfig): readonly Statement[] {
  const { address, asn, holdTime, keepAlive, connectRetry, password, bfd } = peer
  const about = (place: Place, key: string, value: string): Statement => {
    const text = `neighbor ${address} ${key}`
    const whole = value === '' ? text : `${text} ${value}`
    return { place, key: text, set: whole, unset: `no ${text}`, peer: address }
  }
  return [
    about('router', 'remote-as', `${asn}`),
    about('router', 'advertisement-interval', '0'),
    about('router', 'timers', `${keepAlive} ${holdTime}`),
    about('router', 'timers connect', `${connectRetry}`),
    ...(password === undefined ? [] : [about('router', 'password', password)]),
    ...(bfd ? [about('router', 'bfd', ''), about('router', 'bfd profile', name)] : []),
    about('family', 'activate', ''),
    about('family', `filter-list ${name} out`, ''),
    // A session that was ended by that is tried again after a minute.
    about('family', 'maximum-prefix', `${prefixesMax} restart 1`),
  ]
}

function always(place: Place, text: string): Statement {
  return plain(place, text, text, text.startsWith('no ') ? text.slice(3) : `no ${text}`)
}

function plain(place: Place, key: string, set: string, unset: string): Statement {
  return { place, key, set, unset }
}
