/** What other hosts have learned, as the store tells it. They forget it; here it does not age. */
import { parseIp, parseIpv6, parseMac } from '../packet/address.ts'
import { wordsOf6 } from '../packet/address6.ts'
import type { ObjectOf } from '../topology/model.ts'
import type { Change } from '../topology/store.ts'
import type { MacEntry } from './bridge.ts'
import { forgetMac, learnMac } from './facts.ts'
import { macLow, scopedHigh } from './mac-table.ts'
import type { VirtualPort } from './port.ts'
import type { VirtualRouterPort } from './router.ts'
import { neighborTag, type Tag } from './tag.ts'

type Fact =
  | { readonly kind: 'learnedMac'; readonly value: ObjectOf<'learnedMac'> }
  | { readonly kind: 'learnedNeighbor'; readonly value: ObjectOf<'learnedNeighbor'> }

interface Known {
  readonly fact: Fact
  /** Of a MAC address: what it has on its bridge. */
  entry: MacEntry | undefined
}

type Ports = ReadonlyMap<string, VirtualPort>

export class Foreign {
  readonly #host: string
  readonly #known = new Map<string, Known>()
  /** Names of facts by port: put again when their port is made anew. */
  readonly #byPort = new Map<string, Set<string>>()
  readonly #own = new Map<string, Fact>()

  constructor(host: string) {
    this.#host = host
  }

  /** What this host itself has told, perhaps by an agent before this one. */
  get own(): Iterable<Fact> {
    return this.#own.values()
  }

  /** Follows the store; `renewed` are ports that may have been made anew. */
  apply(changes: readonly Change[], renewed: Iterable<string>, ports: Ports, tags: Tag[]): void {
    for (const change of changes) {
      if (change.kind !== 'learnedMac' && change.kind !== 'learnedNeighbor') continue
      const name = `${change.kind} ${change.id}`
      this.#drop(name, ports, tags)
      this.#own.delete(name)
      if (change.value === undefined) continue
      // Kind and value are of one change; the type system loses that.
      const fact = { kind: change.kind, value: change.value } as Fact
      if (fact.value.host === this.#host) this.#own.set(name, fact)
      else this.#add(name, fact, ports, tags)
    }
    if (this.#known.size === 0) return
    for (const port of renewed)
      for (const name of this.#byPort.get(port) ?? []) {
        const known = this.#known.get(name)
        if (known !== undefined) place(known, ports, tags)
      }
  }

  #add(name: string, fact: Fact, ports: Ports, tags: Tag[]): void {
    const known: Known = { fact, entry: undefined }
    this.#known.set(name, known)
    const { port } = fact.value
    this.#byPort.set(port, (this.#byPort.get(port) ?? new Set()).add(name))
    place(known, ports, tags)
  }

  #drop(name: string, ports: Ports, tags: Tag[]): void {
    const known = this.#known.get(name)
    if (known === undefined) return
    this.#known.delete(name)
    const { fact, entry } = known
    const names = this.#byPort.get(fact.value.port)
    names?.delete(name)
    if (names?.size === 0) this.#byPort.delete(fact.value.port)
    if (fact.kind === 'learnedMac') {
      if (entry !== undefined && isCurrent(entry)) forgetMac(entry, tags)
      return
    }
    const port = ports.get(fact.value.port)
    if (port?.kind === 'router') setNeighbor(port, fact.value.address, undefined, tags)
  }
}

function place(known: Known, ports: Ports, tags: Tag[]): void {
  const { fact } = known
  const port = ports.get(fact.value.port)
  const mac = parseMac(fact.value.mac)
  if (port === undefined || mac === undefined) return
  if (fact.kind === 'learnedNeighbor') {
    if (port.kind === 'router' && port.router.id === fact.value.router)
      setNeighbor(port, fact.value.address, mac, tags)
  } else if (port.kind === 'bridge' && port.bridge.id === fact.value.bridge) {
    if (known.entry !== undefined && isCurrent(known.entry)) return
    known.entry = learnMac(port, { mac, vlan: fact.value.vlan }, 0, tags)
  }
}

function isCurrent(entry: MacEntry): boolean {
  const { mac, port } = entry
  return port.bridge.macs.find(scopedHigh(entry), macLow(mac)) === entry
}

/** Says who a router port's neighbour is, or that no other host knows. */
function setNeighbor(
  port: VirtualRouterPort,
  text: string,
  mac: number | undefined,
  tags: Tag[],
): void {
  const four = parseIp(text)
  if (four !== undefined) {
    if (mac === undefined) port.told.delete(four | 0)
    else port.told.set(four | 0, mac)
    port.nextHops.delete(four | 0)
    tags.push(neighborTag(port.id, four))
    return
  }
  const six = parseIpv6(text)
  if (six === undefined || port.six === undefined) return
  const words = wordsOf6(six)
  if (mac === undefined) port.six.told.delete(words)
  else port.six.told.set(words, mac)
  port.six.nextHops.delete(words)
  tags.push(neighborTag(port.id, words))
}
