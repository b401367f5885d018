/** A container's network namespace in memory, beside the host's links in memory. */
import {
  type ContainerLinks,
  type ContainerRoute,
  type Link,
  LinkError,
  type NamespaceFile,
} from '../../datapath/link.ts'
import type { FakeLinks } from './fake-links.ts'

interface Inside {
  readonly link: { -readonly [key in keyof Link]: Link[key] }
  readonly addresses: string[]
  readonly routes: string[]
}

export class FakeContainers {
  readonly #links: FakeLinks
  /** By the namespace's path, then by the interface's name. */
  readonly inside = new Map<string, Map<string, Inside>>()
  /** Names of calls that fail from now on. */
  readonly failing = new Set<keyof ContainerLinks>()
  opened = 0

  constructor(links: FakeLinks) {
    this.#links = links
  }

  readonly open = ({ path }: NamespaceFile): ContainerLinks => {
    if (!path.startsWith('/run/netns/')) throw new LinkError('ENOENT', `no namespace ${path}`)
    const interfaces = this.inside.get(path) ?? new Map<string, Inside>()
    this.inside.set(path, interfaces)
    this.opened++
    const must = (call: keyof ContainerLinks, name: string): Inside => {
      const found = interfaces.get(name)
      if (this.failing.has(call)) throw new LinkError('ENOBUFS', `${call} failed`)
      if (found === undefined) throw new LinkError('ENODEV', `no interface ${name}`)
      return found
    }
    return {
      find: (name) => interfaces.get(name)?.link,
      createVeth: ({ name, peerName, peerMac, mtu }) => {
        this.#links.createVeth({ name, peerName: `mp${name.slice(2)}`, mtu })
        this.#links.take(`mp${name.slice(2)}`)
        const base = { index: 2, mac: peerMac ?? '', mtu, up: false, kind: 'veth' }
        const link = { ...base, name: peerName, peerIndex: undefined, peerElsewhere: true }
        interfaces.set(peerName, { link, addresses: [], routes: [] })
      },
      setUp: (name) => {
        must('setUp', name).link.up = true
      },
      addAddress: (name, cidr) => {
        must('addAddress', name).addresses.push(cidr)
      },
      addresses: (name) => must('addresses', name).addresses,
      addRoute: (name, { dst }: ContainerRoute) => {
        must('addRoute', name).routes.push(dst)
        return true
      },
      routes: (name) => must('routes', name).routes,
      close: () => {
        this.opened--
      },
    }
  }
}
