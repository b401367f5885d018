/**
 * Which other hosts are to know of a connection: those whose exterior port it leaves by, and those
 * of the ports that share a stateful group with the port it comes in by or leaves by.
 */
import type { Change } from '../topology/store.ts'

export class StatePeers {
  readonly #own: string
  /** Host of each bound port. */
  readonly #places = new Map<string, string>()
  /** Ports by tunnel key. */
  readonly #keys = new Map<number, string>()
  readonly #stateful = new Set<string>()
  readonly #groupsOf = new Map<string, readonly string[]>()
  readonly #membersOf = new Map<string, Set<string>>()
  /** Answers given before, until something changes. */
  readonly #known = new Map<string, readonly string[]>()

  constructor(own: string) {
    this.#own = own
  }

  hostOf(port: string): string | undefined {
    return this.#places.get(port)
  }

  /** The port, of any host, that a tunnel key names. */
  portOfKey(key: number): string | undefined {
    return this.#keys.get(key)
  }

  /** Follows the store. Returns ports that came to this host from another, and which that was. */
  apply(changes: readonly Change[]): readonly (readonly [port: string, from: string])[] {
    const moved: [string, string][] = []
    for (const change of changes) {
      const { id } = change
      if (change.kind === 'binding') {
        const before = this.#places.get(id)
        const now = change.value?.host
        this.#keys.delete(change.before?.tunnelKey ?? 0)
        if (change.value?.tunnelKey !== undefined) this.#keys.set(change.value.tunnelKey, id)
        if (before !== undefined && before !== now && now === this.#own) moved.push([id, before])
        if (now === undefined) this.#places.delete(id)
        else this.#places.set(id, now)
      } else if (change.kind === 'port') this.#join(id, change.value?.portGroups ?? none)
      else if (change.kind === 'portGroup') {
        if (change.value?.stateful === true) this.#stateful.add(id)
        else this.#stateful.delete(id)
      } else continue
      this.#known.clear()
    }
    return moved
  }

  /** The hosts, this one not among them, for packets that come in by a port and leave by others. */
  of(ingress: string, egress: readonly string[]): readonly string[] {
    const key = egress.length === 0 ? ingress : `${ingress} ${egress.join(' ')}`
    const known = this.#known.get(key)
    if (known !== undefined) return known
    const found = new Set<string>()
    for (const port of egress) this.#add(port, found)
    for (const port of [ingress, ...egress])
      for (const group of this.#groupsOf.get(port) ?? none)
        if (this.#stateful.has(group))
          for (const member of this.#membersOf.get(group) ?? none) this.#add(member, found)
    found.delete(this.#own)
    const hosts = [...found].sort()
    if (this.#known.size >= knownMax) this.#known.clear()
    this.#known.set(key, hosts)
    return hosts
  }

  #add(port: string, hosts: Set<string>): void {
    const host = this.#places.get(port)
    if (host !== undefined) hosts.add(host)
  }

  #join(port: string, groups: readonly string[]): void {
    for (const group of this.#groupsOf.get(port) ?? none) {
      const members = this.#membersOf.get(group)
      members?.delete(port)
      if (members?.size === 0) this.#membersOf.delete(group)
    }
    if (groups.length === 0) {
      this.#groupsOf.delete(port)
      return
    }
    this.#groupsOf.set(port, groups)
    for (const group of groups) {
      const members = this.#membersOf.get(group) ?? new Set()
      this.#membersOf.set(group, members.add(port))
    }
  }
}

const none: readonly string[] = []
/** Answers kept at once. */
const knownMax = 16_384
