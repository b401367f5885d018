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
  /** Whether there is something at its other end; undefined where nobody said. */
  readonly carrier?: boolean
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
  setDown(name: string): void
  setMtu(name: string, mtu: number): void
  /** Of either family. Idempotent. */
  addAddress(name: string, cidr: string): void
  /** IPv4 addresses with prefix lengths, of all interfaces. */
  addresses(): readonly { readonly interface: string; readonly cidr: string }[]
  /** The same of IPv6. */
  addresses6(): readonly { readonly interface: string; readonly cidr: string }[]
  /** Adds or replaces a route of the main table. */
  setRoute(route: HostRoute): void
  /** Unknown routes are no error. */
  removeRoute(route: HostRoute): void
  /** IPv4 routes of the main table. */
  routes(): readonly HostRoute[]
}

/** A file that names a network namespace, as another process has it open. */
export interface NamespaceFile {
  readonly path: string
  /** That process, and its descriptor of the file: it may see other files than we do. */
  readonly pid: number
  readonly fd: number
  /** The file's own numbers, by which it is known again. */
  readonly device: number
  readonly inode: number
}

/** A route inside a network namespace, of either family. */
export interface ContainerRoute {
  /** `0.0.0.0/0` and `::/0` are the default routes. */
  readonly dst: string
  readonly gw?: string | undefined
  readonly mtu?: number | undefined
  readonly advmss?: number | undefined
  readonly priority?: number | undefined
  readonly table?: number | undefined
  readonly scope?: number | undefined
}

/** Interfaces of a container's network namespace. */
export interface ContainerLinks {
  find(name: string): Link | undefined
  /** Makes a veth pair: `name` here, set up, and `peerName` there. @throws LinkError `EEXIST` */
  createVeth(request: VethRequest): void
  setUp(name: string): void
  /** Of either family. Idempotent. */
  addAddress(name: string, cidr: string): void
  /** Addresses of an interface with their prefix lengths, of both families. */
  addresses(name: string): readonly string[]
  /** Adds a route by interface `name`; false when there is one to the same destination. */
  addRoute(name: string, route: ContainerRoute): boolean
  /** Destinations that interface `name` leads to, by the main table. */
  routes(name: string): readonly string[]
  close(): void
}

/** @throws LinkError code `ENOENT` when there is no such namespace */
export type OpenContainer = (file: NamespaceFile) => ContainerLinks

/** The kernel refused; `code` is the errno's name. */
export class LinkError extends Error {
  override readonly name = 'LinkError'
  readonly code: string

  constructor(code: string, message: string, options?: ErrorOptions) {
    super(message, options)
    this.code = code
  }
}

/** A route of the main table with all of its next hops. */
export interface KernelRoute {
  readonly dst: string
  /** Who made it: rtm_protocol of linux/rtnetlink.h, 186 is BGP. */
  readonly protocol: number
  readonly hops: readonly {
    readonly gateway: string | undefined
    /** Of the interface, in the route's own namespace. */
    readonly index: number
    /** Its interface is down, or has nothing at its other end. */
    readonly isDown: boolean
  }[]
}

/** The routes of another namespace, followed. */
export interface RouteMonitor {
  /** By destination. */
  readonly routes: ReadonlyMap<string, KernelRoute>
  /** Takes in what has changed since; whether anything has. Does not wait. */
  poll(): boolean
  /** Reads all anew. */
  readAll(): void
  close(): void
}

/** Connections that the host's own connection tracking knows. */
export interface Connections {
  /** Forgets those of an IP protocol to any of `ports`, whatever the address; says how many. */
  forget(protocol: number, ports: ReadonlySet<number>): number
}
