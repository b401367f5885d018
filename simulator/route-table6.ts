/**
 * A router's IPv6 routes: the same trie, choice, masks and tags as for IPv4 (see route-table.ts),
 * over addresses of four words.
 */
import { formatWords6, type Words6 } from '../packet/address6.ts'
import type { FlowKey } from '../packet/flow-key.ts'
import { farness, isEqual } from './route-table.ts'
import type { VirtualRouterPort } from './router.ts'
import { routeTag, type Tag } from './tag.ts'

export interface RouteEntry6 {
  readonly id: string
  readonly dst: Words6
  readonly dstLength: number
  readonly src: Words6
  readonly srcLength: number
  readonly weight: number
  readonly action: 'port' | 'blackhole' | 'reject' | 'local'
  readonly port: VirtualRouterPort | undefined
  /** Next hop; undefined when the destination itself is on the link. */
  readonly gateway: Words6 | undefined
}

/** Told what a lookup reads; a simulation, or a test. */
export interface RouteObserver6 {
  seeIpv6Src(bits: number): void
  seeIpv6Dst(bits: number): void
  tag(tag: Tag): void
  /** A number that is the same for all packets of one connection. */
  hash(): number
}

/** Where source and destination stand in a flow key. */
const [srcAt, dstAt] = [10, 14]

interface Node {
  readonly prefix: Words6
  readonly length: number
  readonly tag: Tag
  /** By weight, then id. */
  routes: readonly RouteEntry6[]
  parent: Node | undefined
  zero: Node | undefined
  one: Node | undefined
}

export class RouteTable6 {
  readonly #router: string
  readonly #root: Node
  readonly #noneTag: Tag
  #size = 0

  constructor(router: string) {
    this.#router = router
    this.#noneTag = routeTag(router, 'none6')
    this.#root = this.#node([0, 0, 0, 0], 0)
  }

  get size(): number {
    return this.#size
  }

  /** The route for the packet of a key; undefined when there is none. */
  lookup(key: FlowKey, observer: RouteObserver6): RouteEntry6 | undefined {
    let node: Node | undefined = this.#descend(key, observer)
    for (; node !== undefined; node = node.parent) {
      if (node.routes.length === 0) continue
      observer.tag(node.tag)
      const route = choose(node.routes, key, observer)
      if (route !== undefined) return route
    }
    observer.tag(this.#noneTag)
    return undefined
  }

  /** Adds a route; returns the tag of the lookups that it may change. */
  add(route: RouteEntry6): Tag {
    const node = this.#place(route.dst, route.dstLength)
    const known = node.routes.length > 0 ? node : nearest(node.parent)
    node.routes = [...node.routes, route].sort(byWeight)
    this.#size++
    return known?.tag ?? this.#noneTag
  }

  /** Removes a route; returns the tag of the lookups that it may change. */
  remove(route: RouteEntry6): Tag | undefined {
    const node = this.#find(route.dst, route.dstLength)
    if (node === undefined) return undefined
    const left = node.routes.filter(({ id }) => id !== route.id)
    this.#size -= node.routes.length - left.length
    node.routes = left
    prune(node)
    return node.tag
  }

  #descend(key: FlowKey, observer: RouteObserver6): Node {
    let node = this.#root
    let bits = 0
    while (node.length < 128) {
      const bit = ((key[dstAt + (node.length >>> 5)] ?? 0) >>> (31 - (node.length & 31))) & 1
      const child = bit === 1 ? node.one : node.zero
      if (child === undefined) {
        if (node.zero !== undefined || node.one !== undefined) bits = node.length + 1
        break
      }
      const common = commonBits(key, dstAt, child.prefix)
      if (common < child.length) {
        bits = common + 1
        break
      }
      node = child
      bits = node.length
    }
    observer.seeIpv6Dst((bits + 7) & ~7)
    return node
  }

  #node(prefix: Words6, length: number): Node {
    const tag = routeTag(this.#router, `${formatWords6(prefix)}/${length}`)
    return { prefix, length, tag, routes: [], parent: undefined, zero: undefined, one: undefined }
  }

  #find(prefix: Words6, length: number): Node | undefined {
    let node: Node | undefined = this.#root
    while (node !== undefined && node.length < length) node = childOf(node, prefix)
    const isIt = node?.length === length && commonBits(prefix, 0, node.prefix) >= length
    return isIt ? node : undefined
  }

  /** The node of a prefix, made when it is not there. */
  #place(prefix: Words6, length: number): Node {
    let node = this.#root
    for (;;) {
      if (node.length === length) return node
      const child = childOf(node, prefix)
      if (child === undefined) return attach(node, this.#node(prefix, length))
      const common = Math.min(commonBits(prefix, 0, child.prefix), length, child.length)
      if (common < child.length) {
        const middle = attach(node, this.#node(cut6(prefix, common), common))
        attach(middle, child)
        node = middle
      } else node = child
    }
  }
}

/** Takes out a node that holds nothing and branches nowhere, and its parent if that is so then. */
function prune(start: Node): void {
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

function choose(
  routes: readonly RouteEntry6[],
  key: FlowKey,
  observer: RouteObserver6,
): RouteEntry6 | undefined {
  let first: RouteEntry6 | undefined
  let equal = 0
  for (const route of routes) {
    if (first !== undefined && !isEqual(route, first)) break
    if (!matchesSource(route, key, observer)) continue
    first ??= route
    equal++
  }
  if (equal < 2) return first
  let left = observer.hash() % equal
  for (const route of routes) {
    if (!matchesSource(route, key, observer)) continue
    if (left === 0) return route
    left--
  }
  return first
}

function matchesSource(route: RouteEntry6, key: FlowKey, observer: RouteObserver6): boolean {
  if (route.srcLength === 0) return true
  observer.seeIpv6Src(route.srcLength)
  return commonBits(key, srcAt, route.src) >= route.srcLength
}

/** How many bits from the left four words of `key` share with an address. */
export function commonBits(key: ArrayLike<number>, at: number, address: Words6): number {
  for (let index = 0; index < 4; index++) {
    const difference = (key[at + index] ?? 0) ^ (address[index] ?? 0)
    if (difference !== 0) return 32 * index + Math.clz32(difference)
  }
  return 128
}

/** The first address of the network that an address is in. */
export function cut6(words: Words6, length: number): Words6 {
  const word = (index: number) => {
    const bits = Math.min(32, Math.max(0, length - 32 * index))
    return bits === 0 ? 0 : ((words[index] ?? 0) & (0xffff_ffff << (32 - bits))) >>> 0
  }
  return [word(0), word(1), word(2), word(3)]
}

function nearest(start: Node | undefined): Node | undefined {
  let node = start
  while (node !== undefined && node.routes.length === 0) node = node.parent
  return node
}

function childOf(node: Node, prefix: Words6): Node | undefined {
  return bitAt(prefix, node.length) ? node.one : node.zero
}

function attach(parent: Node, child: Node): Node {
  if (bitAt(child.prefix, parent.length)) parent.one = child
  else parent.zero = child
  child.parent = parent
  return child
}

function bitAt(words: Words6, at: number): boolean {
  return (((words[at >>> 5] ?? 0) >>> (31 - (at & 31))) & 1) === 1
}

function byWeight(a: RouteEntry6, b: RouteEntry6): number {
  return a.weight - b.weight || farness(a) - farness(b) || (a.id < b.id ? -1 : 1)
}
