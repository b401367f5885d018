/**
 * A router's routes in a path-compressed binary trie by destination.
 *
 * Choice: the longest destination prefix that holds a route whose source prefix matches (so a
 * longer prefix without a matching source falls back to the next shorter one), of its routes those
 * of least weight, of several equal ones the one that the packet's hash picks.
 *
 * Masks: a walk down the trie looks at the destination's bits up to the first that decides that no
 * longer prefix matches, as Open vSwitch's tries do; every address that shares these bits takes the
 * same walk. The count is rounded up to whole octets, for few masks make a fast datapath.
 *
 * Tags: a lookup leaves the tag of every prefix whose routes it looked at. A new prefix P changes
 * only lookups that would have met P on their way up; these have looked at P's nearest ancestor
 * with routes, or found nothing at all. So that tag alone must go.
 */
import { formatCidr, prefixMask } from '../packet/address.ts'
import type { VirtualRouterPort } from './router.ts'
import { routeTag, type Tag } from './tag.ts'

export interface RouteEntry {
  readonly id: string
  readonly dst: number
  readonly dstLength: number
  readonly src: number
  readonly srcLength: number
  readonly weight: number
  readonly action: 'port' | 'blackhole' | 'reject' | 'local'
  readonly port: VirtualRouterPort | undefined
  /** Next hop; undefined when the destination itself is on the link. */
  readonly gateway: number | undefined
}

/** Told what a lookup reads; a simulation, or a test. */
export interface RouteObserver {
  seeIpSrc(bits: number): void
  seeIpDst(bits: number): void
  tag(tag: Tag): void
  /** A number that is the same for all packets of one connection. */
  hash(): number
}

interface Node {
  readonly prefix: number
  readonly length: number
  readonly tag: Tag
  /** By weight, then id. */
  routes: readonly RouteEntry[]
  parent: Node | undefined
  zero: Node | undefined
  one: Node | undefined
}

export class RouteTable {
  readonly #router: string
  readonly #root: Node
  readonly #noneTag: Tag
  #size = 0

  constructor(router: string) {
    this.#router = router
    this.#noneTag = routeTag(router, 'none')
    this.#root = this.#node(0, 0)
  }

  get size(): number {
    return this.#size
  }

  /**
   * The route for a packet; undefined when there is none. Of equal routes one by a port of `via` is
   * taken, if there is one.
   */
  lookup(
    src: number,
    dst: number,
    observer: RouteObserver,
    via: readonly string[] = nowhere,
  ): RouteEntry | undefined {
    let node: Node | undefined = this.#descend(dst, observer)
    for (; node !== undefined; node = node.parent) {
      if (node.routes.length === 0) continue
      observer.tag(node.tag)
      const route = choose(node.routes, src, observer, via)
      if (route !== undefined) return route
    }
    observer.tag(this.#noneTag)
    return undefined
  }

  /** Adds a route; returns the tag of the lookups that it may change. */
  add(route: RouteEntry): Tag {
    const node = this.#place(route.dst, route.dstLength)
    const known = node.routes.length > 0 ? node : nearest(node.parent)
    node.routes = [...node.routes, route].sort(byWeight)
    this.#size++
    return known?.tag ?? this.#noneTag
  }

  /** Removes a route; returns the tag of the lookups that it may change. */
  remove(route: RouteEntry): Tag | undefined {
    const node = this.#find(route.dst, route.dstLength)
    if (node === undefined) return undefined
    const left = node.routes.filter(({ id }) => id !== route.id)
    this.#size -= node.routes.length - left.length
    node.routes = left
    this.#prune(node)
    return node.tag
  }

  #descend(dst: number, observer: RouteObserver): Node {
    let node = this.#root
    let bits = 0
    while (node.length < 32) {
      const child = (dst >>> (31 - node.length)) & 1 ? node.one : node.zero
      if (child === undefined) {
        if (node.zero !== undefined || node.one !== undefined) bits = node.length + 1
        break
      }
      const difference = (dst ^ child.prefix) & prefixMask(child.length)
      if (difference !== 0) {
        bits = Math.clz32(difference) + 1
        break
      }
      node = child
      bits = node.length
    }
    observer.seeIpDst((bits + 7) & ~7)
    return node
  }

  #node(prefix: number, length: number): Node {
    const text = formatCidr({ address: prefix, prefixLength: length })
    const tag = routeTag(this.#router, text)
    return { prefix, length, tag, routes: [], parent: undefined, zero: undefined, one: undefined }
  }

  #find(prefix: number, length: number): Node | undefined {
    let node: Node | undefined = this.#root
    while (node !== undefined && node.length < length) node = childOf(node, prefix)
    return node?.length === length && node.prefix === prefix ? node : undefined
  }

  /** The node of a prefix, made when it is not there. */
  #place(prefix: number, length: number): Node {
    let node = this.#root
    for (;;) {
      if (node.length === length) return node
      const child = childOf(node, prefix)
      if (child === undefined) return attach(node, this.#node(prefix, length))
      const common = Math.min(Math.clz32(prefix ^ child.prefix), length, child.length)
      if (common < child.length) {
        const shared = (prefix & prefixMask(common)) >>> 0
        const middle = attach(node, this.#node(shared, common))
        attach(middle, child)
        node = middle
      } else node = child
    }
  }

  /** Takes out a node that holds nothing and branches nowhere, and its parent if that is so then. */
  #prune(start: Node): void {
    let node = start
    while (node.routes.length === 0 && node.parent !== undefined) {
      if (node.zero !== undefined && node.one !== undefined) return
      const { parent } = node
      const child = node.zero ?? node.one
      if (child !== undefined) {
        attach(parent, child)
        return
      }
      if (parent.zero === node) parent.zero = undefined
      else parent.one = undefined
      node = parent
    }
  }
}

const nowhere: readonly string[] = []

function choose(
  routes: readonly RouteEntry[],
  src: number,
  observer: RouteObserver,
  via: readonly string[],
): RouteEntry | undefined {
  const asked = via.length === 0 ? undefined : chooseVia(routes, src, observer, via)
  if (asked !== undefined) return asked
  let first: RouteEntry | undefined
  let equal = 0
  for (const route of routes) {
    if (first !== undefined && !isEqual(route, first)) break
    if (!matchesSource(route, src, observer)) continue
    first ??= route
    equal++
  }
  if (equal < 2) return first
  let left = observer.hash() % equal
  for (const route of routes) {
    if (!matchesSource(route, src, observer)) continue
    if (left === 0) return route
    left--
  }
  return first
}

/** Of the routes of least weight, near or far, the one by a port of `via`. */
function chooseVia(
  routes: readonly RouteEntry[],
  src: number,
  observer: RouteObserver,
  via: readonly string[],
): RouteEntry | undefined {
  let first: RouteEntry | undefined
  for (const route of routes) {
    if (first !== undefined && route.weight !== first.weight) return undefined
    if (!matchesSource(route, src, observer)) continue
    first ??= route
    if (route.port !== undefined && via.includes(route.port.id)) return route
  }
  return undefined
}

function matchesSource(route: RouteEntry, src: number, observer: RouteObserver): boolean {
  if (route.srcLength === 0) return true
  observer.seeIpSrc(route.srcLength)
  return ((src ^ route.src) & prefixMask(route.srcLength)) === 0
}

function nearest(start: Node | undefined): Node | undefined {
  let node = start
  while (node !== undefined && node.routes.length === 0) node = node.parent
  return node
}

function childOf(node: Node, prefix: number): Node | undefined {
  return (prefix >>> (31 - node.length)) & 1 ? node.one : node.zero
}

function attach(parent: Node, child: Node): Node {
  if ((child.prefix >>> (31 - parent.length)) & 1) parent.one = child
  else parent.zero = child
  child.parent = parent
  return child
}

function byWeight(a: RouteEntry, b: RouteEntry): number {
  return a.weight - b.weight || farness(a) - farness(b) || (a.id < b.id ? -1 : 1)
}

/** Of equal routes those that leave by this host are preferred to those that leave by others. */
export function isEqual(a: Ranked, b: Ranked): boolean {
  return a.weight === b.weight && farness(a) === farness(b)
}

type Ranked = Pick<RouteEntry, 'weight' | 'port'>

/** 0 for a route of this host, 1 for another's. */
export function farness({ port }: Ranked): number {
  return port?.remote === undefined ? 0 : 1
}
