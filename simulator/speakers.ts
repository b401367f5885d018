/**
 * Which router ports of this host have a routing daemon: those of routers with an AS number that
 * are bound here and have a peer on their network. The daemon's link is bound like a port's.
 */
import { contains, parseIp } from '../packet/address.ts'
import { speakerInterface } from '../topology/bgp.ts'
import type { BgpPeer, Binding } from '../topology/model.ts'
import type { Change } from '../topology/store.ts'
import { Distinguisher } from './distinguisher.ts'
import type { VirtualPort } from './port.ts'
import type { VirtualRouterPort } from './router.ts'
import type { Speaker } from './speaker.ts'
import { type Tag, vportTag } from './tag.ts'

/** What bindings of speakers are called besides their port's id; no port's id has this form. */
const prefix = '/bgp/'

export interface SpeakerWorld {
  readonly ports: ReadonlyMap<string, VirtualPort>
  /** Those of this host; speakers' are kept here too. */
  readonly bindings: Map<string, Binding>
  readonly host: string
}

export class Speakers {
  /** Routers that have an AS number. */
  readonly #routers = new Set<string>()
  readonly #peers = new Map<string, BgpPeer>()
  /** What each speaking port was made of, and its vport, which outlives the port's object. */
  readonly #speaking = new Map<string, { port: VirtualRouterPort; text: string; vport: number }>()
  readonly #byVport = new Map<number, VirtualRouterPort>()

  /** The port that the daemon behind a vport speaks for. */
  portOf(vport: number): VirtualRouterPort | undefined {
    return this.#byVport.get(vport)
  }

  /** Follows a batch, after ports and bindings have. Pushes bindings that came or went. */
  apply(changes: readonly Change[], world: SpeakerWorld, tags: Tag[], bindings: string[]): void {
    let matters = false
    for (const { kind, id, value } of changes) {
      if (kind === 'router' && value?.asn !== undefined) this.#routers.add(id)
      else if (kind === 'router') this.#routers.delete(id)
      if (kind === 'bgpPeer' && value !== undefined) this.#peers.set(id, value)
      else if (kind === 'bgpPeer') this.#peers.delete(id)
      matters ||= kind === 'router' || kind === 'bgpPeer' || kind === 'port' || kind === 'binding'
    }
    if (!matters || (this.#peers.size === 0 && this.#speaking.size === 0)) return
    const wanted = this.#wanted(world)
    for (const [id, { port }] of this.#speaking)
      if (!wanted.has(id)) this.#silence(id, port, world, tags, bindings)
    for (const [id, one] of wanted) this.#let(id, one, world, tags, bindings)
  }

  /** Says which vport, 0 for none, the link of binding `id` has; undefined when it is no speaker's. */
  setVport(id: string, vport: number): readonly Tag[] | undefined {
    if (!id.startsWith(prefix)) return undefined
    const known = this.#speaking.get(id.slice(prefix.length))
    if (known === undefined || known.vport === vport) return []
    const old = known.vport
    known.vport = vport
    if (old !== 0) this.#byVport.delete(old)
    this.#plug(known)
    return [known.port.tag, vportTag(old), vportTag(vport)]
  }

  #wanted({ ports, bindings }: SpeakerWorld) {
    const wanted = new Map<string, { port: VirtualRouterPort; peers: number[] }>()
    const peers = [...this.#peers.values()].filter(({ router }) => this.#routers.has(router))
    for (const id of peers.length === 0 ? [] : bindings.keys()) {
      const port = ports.get(id)
      if (port?.kind !== 'router' || port.peer !== undefined) continue
      const near = peers.filter(({ router }) => router === port.router.id).flatMap(addressOf)
      const on = near.filter((address) => port.addresses.some((cidr) => contains(cidr, address)))
      if (on.length > 0) wanted.set(id, { port, peers: on })
    }
    return wanted
  }

  #let(
    id: string,
    { port, peers }: { readonly port: VirtualRouterPort; readonly peers: readonly number[] },
    { bindings, host }: SpeakerWorld,
    tags: Tag[],
    changed: string[],
  ): void {
    const text = peers.toSorted((a, b) => a - b).join()
    const known = this.#speaking.get(id)
    if (known?.port === port && known.text === text) return
    const one = { port, text, vport: known?.vport ?? 0 }
    this.#speaking.set(id, one)
    port.speaker = {
      peers: new Set(peers.map((address) => address | 0)),
      own: new Distinguisher(port.addresses.map(({ address }) => address)),
      vport: 0,
      output: undefined,
    }
    this.#plug(one)
    tags.push(port.tag)
    if (known !== undefined) return
    const name = prefix + id
    bindings.set(name, { id: name, host, interface: speakerInterface(id) })
    changed.push(name)
  }

  #silence(
    id: string,
    port: VirtualRouterPort,
    { bindings }: SpeakerWorld,
    tags: Tag[],
    changed: string[],
  ): void {
    const vport = this.#speaking.get(id)?.vport ?? 0
    this.#byVport.delete(vport)
    this.#speaking.delete(id)
    port.speaker = undefined
    tags.push(port.tag, vportTag(vport))
    bindings.delete(prefix + id)
    changed.push(prefix + id)
  }

  #plug({ port, vport }: { readonly port: VirtualRouterPort; readonly vport: number }): void {
    const speaker: Speaker | undefined = port.speaker
    if (speaker === undefined) return
    speaker.vport = vport
    speaker.output = vport === 0 ? undefined : Object.freeze({ kind: 'output', port: vport })
    if (vport !== 0) this.#byVport.set(vport, port)
  }
}

function addressOf({ address }: BgpPeer): readonly number[] {
  const number = parseIp(address)
  return number === undefined ? [] : [number]
}
