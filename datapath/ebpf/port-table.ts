/** The vports: interfaces that run the port program. A vport's number is the interface's index. */
import createDebug from 'debug'
import { isGroupMac } from '../../packet/address.ts'
import { DatapathError, type Vport } from '../datapath.ts'
import { borrow, giveBack } from '../lending.ts'
import { NetlinkError, type NetlinkSocket } from '../netlink.ts'
import { raiseLink, readLink, silenceIpv6 } from '../rtnetlink.ts'
import { errnoName, interfaceIndex, interfaceName } from '../syscall.ts'
import type { LeftPort } from './adopt.ts'
import { attach, detach, findAttached, type Loaded, promote } from './attach.ts'
import type { BpfMap } from './bpf.ts'
import type { Programs } from './load.ts'

const debug = createDebug('midonet:datapath')

interface Port {
  readonly vport: Vport
  /** Whether the peer is in another network namespace, as found at `askedAt`. */
  isPeerElsewhere: boolean
  askedAt: number
  /** The peer's MAC address, as heard from it at `learnedAt`. */
  peer: number | undefined
  learnedAt: number
}

/** From one port that goes over to tcx to the next: it takes 1 % of the time at most. */
const promotePauseMs = 1_000
/** The kernel is asked again where a port's peer is, when that matters, but not all the time. */
const askAgainMs = 100
/** A port whose packets come from ever new addresses must not keep the agent busy with it. */
const learnAgainMs = 10_000
/** Interfaces whose packets bring a tunnel header along, as rtnetlink calls their kind. */
const tunnelKinds: ReadonlySet<string> = new Set(['vxlan', 'geneve', 'gretap'])

export class PortTable {
  readonly #links: NetlinkSocket
  readonly #name: string
  readonly #programs: Programs
  /** What limits each port's upcalls; a port that is not in there makes none. */
  readonly #limits: BpfMap
  readonly #ports = new Map<number, Port>()
  #moved = new Set<number>()
  /** Ports that may run a filter still, oldest first, and since when they have been ports. */
  readonly #young = new Map<number, number>()
  readonly #promoteAfterMs: number
  #nextPromotionMs = 0

  constructor(parts: {
    readonly links: NetlinkSocket
    readonly name: string
    readonly promoteAfterMs: number
    readonly programs: Programs
    readonly ports: BpfMap
  }) {
    this.#links = parts.links
    this.#name = parts.name
    this.#promoteAfterMs = parts.promoteAfterMs
    this.#programs = parts.programs
    this.#limits = parts.ports
  }

  /** @throws DatapathError `ENODEV` */
  add(interfaceName: string): Vport {
    const index = interfaceIndex(interfaceName)
    if (index < 0)
      throw new DatapathError(errnoName(-index), `no interface ${interfaceName}: create it first`)
    const known = this.#ports.get(index)
    try {
      // A port that someone has taken our program from is taken in anew.
      if (known?.vport.name === interfaceName && this.#isAttached(index)) return known.vport
      return this.#take(index, interfaceName)
    } catch (error) {
      if (!(error instanceof NetlinkError)) throw error
      throw new DatapathError(error.code, error.message, { cause: error })
    }
  }

  /** Takes over a port of an agent before; one that runs the same program is left alone. */
  adopt({ index, name, isOurs, programId }: LeftPort): void {
    try {
      if (isOurs && programId === this.#programOf(index).id) this.#remember(index, name)
      else this.#take(index, name)
    } catch (error) {
      // An interface can go at any time; one that stays and refuses will refuse `add` too.
      if (!(error instanceof NetlinkError || error instanceof DatapathError)) throw error
      debug('port %s is not taken over: %s', name, error.message)
    }
  }

  remove(number: number): void {
    if (!this.#ports.delete(number)) return
    this.#moved.delete(number)
    this.#young.delete(number)
    detach(this.#links, number, this.#name)
    giveBack(this.#links, number)
    this.#limits.keyWords[0] = number
    this.#limits.remove()
  }

  /** Those that still exist: with an interface the kernel removes its program. */
  list(): readonly Vport[] {
    for (const number of this.#ports.keys())
      if (interfaceName(number) === undefined) this.remove(number)
    return [...this.#ports.values()].map(({ vport }) => vport)
  }

  /**
   * Moves the oldest port that runs a filter to tcx, if its time has come. It takes about 10 ms, which
   * a container that starts does not wait for, and one that soon ends does not cost.
   */
  promoteOne(): void {
    if (this.#young.size === 0) return
    const now = performance.now()
    const [oldest] = this.#young
    if (oldest === undefined || now < this.#nextPromotionMs) return
    const [index, since] = oldest
    if (now - since < this.#promoteAfterMs) return
    this.#young.delete(index)
    const interfaceName = this.#ports.get(index)?.vport.name ?? ''
    const place = { index, interfaceName, direction: 'ingress' } as const
    try {
      const done = promote(this.#links, place, this.#name, this.#programOf(index))
      if (done) this.#nextPromotionMs = performance.now() + promotePauseMs
    } catch (error) {
      // It works as it is.
      if (!(error instanceof NetlinkError || error instanceof DatapathError)) throw error
      debug('port %s keeps to its filter: %s', interfaceName, error.message)
    }
  }

  /** The address of a port's peer if packets can go there directly. */
  peerOf(number: number): number | undefined {
    const port = this.#ports.get(number)
    if (port === undefined) return undefined
    const now = performance.now()
    if (now - port.askedAt >= askAgainMs) {
      const isElsewhere = this.#ask(number)
      if (isElsewhere !== port.isPeerElsewhere) this.#moved.add(number)
      port.isPeerElsewhere = isElsewhere
      port.askedAt = now
    }
    return port.isPeerElsewhere ? port.peer : undefined
  }

  /** Takes the source of a packet from a port for its peer's address: that is what it mostly is. */
  learn(number: number, mac: number): void {
    const port = this.#ports.get(number)
    if (port === undefined || port.peer === mac || isGroupMac(mac)) return
    const now = performance.now()
    if (port.peer !== undefined && now - port.learnedAt < learnAgainMs) return
    port.peer = mac
    port.learnedAt = now
    this.#moved.add(number)
  }

  /** Ports about whose peer something new was found since the last call. */
  takeMoved(): ReadonlySet<number> {
    const moved = this.#moved
    if (moved.size > 0) this.#moved = new Set()
    return moved
  }

  #take(index: number, interfaceName: string): Vport {
    borrow(this.#links, index, interfaceName, true)
    silenceIpv6(interfaceName)
    const vport = this.#remember(index, interfaceName)
    try {
      const place = { index, interfaceName, direction: 'ingress' } as const
      attach(this.#links, place, this.#name, this.#programOf(index))
      raiseLink(this.#links, index)
    } catch (error) {
      this.remove(index)
      throw error
    }
    return vport
  }

  /** Tunnels have one of their own. */
  #programOf(index: number): Loaded {
    const isTunnel = tunnelKinds.has(readLink(this.#links, index)?.kind ?? '')
    return isTunnel ? this.#programs.tunnel : this.#programs.port
  }

  #remember(index: number, name: string): Vport {
    this.#limits.keyWords[0] = index
    this.#limits.valueView.setBigUint64(0, 0n, true)
    this.#limits.update()
    const vport = { number: index, name }
    this.#young.delete(index)
    this.#young.set(index, performance.now())
    this.#ports.set(index, {
      vport,
      isPeerElsewhere: this.#ask(index),
      askedAt: performance.now(),
      peer: undefined,
      learnedAt: 0,
    })
    return vport
  }

  #isAttached(index: number): boolean {
    return findAttached(this.#links, index, this.#name) !== undefined
  }

  #ask(index: number): boolean {
    try {
      return readLink(this.#links, index)?.peerElsewhere === true
    } catch {
      // Gone meanwhile: `list` will see it.
      return false
    }
  }
}
