/**
 * Network interfaces of this host, as the driver and the gateway need them. Addresses are text.
 * The real one speaks rtnetlink (`rtnetlink.ts`); tests use one in memory.
 */

export interface Link {
  readonly index: number
  readonly name: string
  readonly mac: string
  readonly mtu: number
  readonly up: boolean
  /** rtnetlink's IFLA_INFO_KIND, such as `veth`; undefined for physical devices. */
  readonly kind: string | undefined
  /** Of a veth: the other end's index, in that end's own network namespace. */
  readonly peerIndex: number | undefined
  /** Of a veth: whether the other end is in another network namespace. */
  readonly peerElsewhere: boolean
}

export interface VethRequest {
  readonly name: string
  readonly peerName: string
  readonly peerMac?: string
  readonly mac?: string
  readonly mtu: number
}

export interface HostRoute {
  /** `10.1.0.0/24`; `0.0.0.0/0` is the default route. */
  readonly dst: string
  readonly gateway: string | undefined
  readonly interface: string | undefined
}

export interface Links {
  list(): readonly Link[]
  find(name: string): Link | undefined
  /** Makes both ends; the end `name` is set up, the peer is left down. @throws LinkError `EEXIST` */
  createVeth(request: VethRequest): void
  /** Removes a link, and with a veth its peer. Unknown names are no error. */
  remove(name: string): void
  setUp(name: string): void
  setMtu(name: string, mtu: number): void
  /** Idempotent. */
  addAddress(name: string, cidr: string): void
  /** IPv4 addresses with prefix lengths, of all interfaces. */
  addresses(): readonly { readonly interface: string; readonly cidr: string }[]
  /** Adds or replaces a route of the main table. */
  setRoute(route: HostRoute): void
  /** Unknown routes are no error. */
  removeRoute(route: HostRoute): void
  /** IPv4 routes of the main table. */
  routes(): readonly HostRoute[]
}

/** The kernel refused; `code` is the errno's name. */
export class LinkError extends Error {
  override readonly name = 'LinkError'
  readonly code: string

  constructor(code: string, message: string, options?: ErrorOptions) {
    super(message, options)
    this.code = code
  }
}

/** Connections that the host's own connection tracking knows. */
export interface Connections {
  /** Forgets those of an IP protocol to any of `ports`, whatever the address; says how many. */
  forget(protocol: number, ports: ReadonlySet<number>): number
}
