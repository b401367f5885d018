/** Links in memory: as the kernel would answer, with faults on demand. */
import { setTimeout } from 'node:timers/promises'
import {
  type HostRoute,
  type Link,
  LinkError,
  type Links,
  type VethRequest,
} from '../../datapath/link.ts'

interface FakeLink {
  index: number
  name: string
  mac: string
  mtu: number
  up: boolean
  peer: FakeLink | undefined
  /** Docker has taken it into a container's namespace. */
  elsewhere: boolean
}

export class FakeLinks implements Links {
  readonly #links: FakeLink[] = []
  readonly #addresses: { interface: string; cidr: string }[] = []
  readonly #routes: HostRoute[] = []
  #nextIndex = 2
  /** Names of calls that fail from now on. */
  readonly failing = new Set<keyof Links>()
  created = 0

  list(): readonly Link[] {
    this.#fail('list')
    return this.#links.filter(({ elsewhere }) => !elsewhere).map(describe)
  }

  find(name: string): Link | undefined {
    return this.list().find((link) => link.name === name)
  }

  createVeth({ name, peerName, mac, peerMac, mtu }: VethRequest): void {
    this.#fail('createVeth')
    if (this.find(name) !== undefined || this.find(peerName) !== undefined)
      throw new LinkError('EEXIST', `${name} or ${peerName} exists`)
    this.created++
    const make = (own: string, address: string | undefined, up: boolean): FakeLink => {
      const index = this.#nextIndex++
      return { index, name: own, mac: address ?? '', mtu, up, peer: undefined, elsewhere: false }
    }
    const host = make(name, mac, true)
    const peer = make(peerName, peerMac, false)
    host.peer = peer
    peer.peer = host
    this.#links.push(host, peer)
  }

  remove(name: string): void {
    this.#fail('remove')
    const link = this.#links.find((entry) => entry.name === name && !entry.elsewhere)
    for (const end of [link, link?.peer]) {
      const at = end === undefined ? -1 : this.#links.indexOf(end)
      if (at >= 0) this.#links.splice(at, 1)
    }
  }

  /** What Docker does after Join: the end is in the container now. */
  take(name: string): void {
    const link = this.#links.find((entry) => entry.name === name)
    if (link !== undefined) link.elsewhere = true
  }

  setDown(name: string): void {
    const link = this.#links.find((entry) => entry.name === name)
    if (link !== undefined) link.up = false
  }

  setUp(name: string): void {
    const link = this.#links.find((entry) => entry.name === name)
    if (link !== undefined) link.up = true
  }

  setMtu(name: string, mtu: number): void {
    const link = this.#links.find((entry) => entry.name === name)
    if (link !== undefined) link.mtu = mtu
  }

  addAddress(name: string, cidr: string): void {
    this.#addresses.push({ interface: name, cidr })
  }

  addresses6(): readonly never[] {
    return []
  }

  addresses(): readonly { readonly interface: string; readonly cidr: string }[] {
    this.#fail('addresses')
    return this.#addresses
  }

  setRoute(route: HostRoute): void {
    this.#routes.push(route)
  }

  removeRoute(route: HostRoute): void {
    const at = this.#routes.findIndex((entry) => entry.dst === route.dst)
    if (at >= 0) this.#routes.splice(at, 1)
  }

  routes(): readonly HostRoute[] {
    return this.#routes
  }

  #fail(call: keyof Links): void {
    if (this.failing.has(call)) throw new LinkError('ENOBUFS', `${call} failed`)
  }
}

function describe(link: FakeLink): Link {
  return {
    index: link.index,
    name: link.name,
    mac: link.mac,
    mtu: link.mtu,
    up: link.up,
    kind: 'veth',
    peerIndex: link.peer?.index,
    peerElsewhere: link.peer?.elsewhere === true,
  }
}

/** The names, once there are `count` of them: an endpoint's go a moment after its call is answered. */
export async function linksLeft(links: FakeLinks, count: number): Promise<readonly string[]> {
  const names = () => links.list().map(({ name }) => name)
  for (let turn = 0; turn < 1000 && names().length !== count; turn++) await setTimeout(1)
  return names()
}
