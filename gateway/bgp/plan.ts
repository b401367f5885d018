/** Which routers speak BGP on this host, through which ports and to whom. Pure. */
import { parseCidr, parseIp } from '../../packet/address.ts'
import { peersAt, shortHash, speakerInterface } from '../../topology/bgp.ts'
import type { BgpPeer, Router, RouterPort } from '../../topology/model.ts'
import type { Reader } from '../../topology/store.ts'

/** A router port with a peer on its network. */
export interface SpeakingPort {
  readonly id: string
  /** What the port is bound to. */
  readonly interface: string
  /** The datapath's end of the link to the daemon, and the daemon's. */
  readonly link: string
  readonly inner: string
  readonly mac: string
  readonly addresses: readonly string[]
  readonly peers: readonly BgpPeer[]
}

/** A router with a daemon on this host. */
export interface SpeakingRouter {
  readonly id: string
  /** Its name, or its id when it has none. */
  readonly name: string
  readonly asn: number
  /** Four octets that no other speaker of the AS should have: the lowest address of its ports. */
  readonly routerId: string
  readonly ports: readonly SpeakingPort[]
  readonly networks: readonly string[]
}

/** The routers that speak BGP on `host`, in order of their ids. */
export function planRouters(reader: Reader, host: string): readonly SpeakingRouter[] {
  const peers = reader.list('bgpPeer')
  if (peers.length === 0) return []
  const routers = reader.list('router').flatMap((router) => describe(reader, host, router, peers))
  return routers.toSorted((a, b) => (a.id < b.id ? -1 : 1))
}

/** Peers that no host speaks to: a sentence for each that says why. */
export function unspokenPeers(reader: Reader): readonly string[] {
  const ports = reader.list('port').filter((port) => port.kind === 'router')
  return reader.list('bgpPeer').flatMap((peer) => {
    const router = reader.get('router', peer.router)
    const what = `BGP peer ${peer.address} of router ${router?.name ?? peer.router}`
    if (router?.asn === undefined) return [`${what}: the router has no AS number; set asn`]
    const near = ports.filter((port) => peersAt(port, [peer]).length > 0)
    if (near.length === 0) return [`${what}: no port of the router is on its network; add one`]
    const isBound = near.some(({ id }) => reader.get('binding', id) !== undefined)
    return isBound ? [] : [`${what}: port ${near[0]?.id} is bound to no interface; add a binding`]
  })
}

function describe(
  reader: Reader,
  host: string,
  router: Router,
  all: readonly BgpPeer[],
): readonly SpeakingRouter[] {
  const { id, name = id, asn, adminUp } = router
  if (asn === undefined || !adminUp || !all.some((peer) => peer.router === id)) return []
  const ports = reader.list('port').flatMap((port) => {
    if (port.kind !== 'router' || port.router !== id || !port.adminUp) return []
    const binding = reader.get('binding', port.id)
    const peers = binding?.host === host ? peersAt(port, all) : []
    return binding === undefined || peers.length === 0
      ? []
      : [describePort(port, binding.interface, peers)]
  })
  if (ports.length === 0) return []
  const networks = reader.list('bgpNetwork').filter((network) => network.router === id)
  return [
    {
      id,
      name,
      asn,
      routerId: routerIdOf(ports),
      ports: ports.toSorted((a, b) => (a.id < b.id ? -1 : 1)),
      networks: networks.map(({ prefix }) => prefix).sort(),
    },
  ]
}

function describePort(
  { id, mac, addresses }: RouterPort,
  name: string,
  peers: readonly BgpPeer[],
): SpeakingPort {
  return {
    id,
    interface: name,
    link: speakerInterface(id),
    inner: `p${shortHash(id)}`,
    mac,
    addresses,
    peers: peers.toSorted((a, b) => (a.address < b.address ? -1 : 1)),
  }
}

function routerIdOf(ports: readonly SpeakingPort[]): string {
  const all = ports
    .flatMap(({ addresses }) => addresses)
    .flatMap((text) => (parseCidr(text) === undefined ? [] : (text.split('/')[0] ?? [])))
  const [lowest = '0.0.0.1'] = all.sort((a, b) => (parseIp(a) ?? 0) - (parseIp(b) ?? 0))
  return lowest
}
