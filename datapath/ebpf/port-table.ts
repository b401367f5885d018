/** The vports: interfaces that run the port program. A vport's number is the interface's index. */
import { DatapathError, type Vport } from '../datapath.ts'
import { NetlinkError, type NetlinkSocket } from '../netlink.ts'
import { isPeerElsewhere, raiseLink, silenceIpv6 } from '../rtnetlink.ts'
import { errnoName, interfaceIndex, interfaceName } from '../syscall.ts'
import { removeFilter } from '../tc.ts'
import type { LeftPort } from './adopt.ts'
import type { BpfMap } from './bpf.ts'
import { attachPort, type Programs } from './load.ts'

interface Port {
  readonly vport: Vport
  /** Whether packets can go into the peer's network namespace directly, as found at `askedAt`. */
  straight: boolean
  askedAt: number
}

/** The kernel is asked again where a port's peer is, when that matters, but not all the time. */
const askAgainMs = 100

export class PortTable {
  readonly #links: NetlinkSocket
  readonly #name: string
  readonly #programs: Programs
  /** What limits each port's upcalls; a port that is not in there makes none. */
  readonly #limits: BpfMap
  readonly #ports = new Map<number, Port>()
  #moved = new Set<number>()

  constructor(parts: {
    readonly links: NetlinkSocket
    readonly name: string
    readonly programs: Programs
    readonly ports: BpfMap
  }) {
    this.#links = parts.links
    this.#name = parts.name
    this.#programs = parts.programs
    this.#limits = parts.ports
  }

  /** @throws DatapathError `ENODEV` */
  add(interfaceName: string): Vport {
    const index = interfaceIndex(interfaceName)
    if (index < 0)
      throw new DatapathError(errnoName(-index), `no interface ${interfaceName}: create it first`)
    const known = this.#ports.get(index)
    if (known !== undefined && known.vport.name === interfaceName) return known.vport
    try {
      return this.#take(index, interfaceName)
    } catch (error) {
      if (!(error instanceof NetlinkError)) throw error
      throw new DatapathError(error.code, error.message, { cause: error })
    }
  }

  /** Takes over a port of an agent before; one that runs the same program is left alone. */
  adopt({ index, name, isOurs, programTag }: LeftPort): void {
    if (isOurs && programTag === this.#programs.portTag) this.#remember(index, name)
    else this.#take(index, name)
  }

  remove(number: number): void {
    if (!this.#ports.delete(number)) return
    this.#moved.delete(number)
    removeFilter(this.#links, number, 'ingress')
    this.#limits.keyWords[0] = number
    this.#limits.remove()
  }

  /** Those that still exist: with an interface the kernel removes its program. */
  list(): readonly Vport[] {
    for (const number of this.#ports.keys())
      if (interfaceName(number) === undefined) this.remove(number)
    return [...this.#ports.values()].map(({ vport }) => vport)
  }

  isStraight(number: number): boolean {
    const port = this.#ports.get(number)
    if (port === undefined) return false
    const now = performance.now()
    if (now - port.askedAt < askAgainMs) return port.straight
    const straight = this.#ask(number)
    if (straight !== port.straight) this.#moved.add(number)
    port.straight = straight
    port.askedAt = now
    return straight
  }

  /** Ports that `isStraight` has found changed since the last call. */
  takeMoved(): ReadonlySet<number> {
    const moved = this.#moved
    if (moved.size > 0) this.#moved = new Set()
    return moved
  }

  #take(index: number, interfaceName: string): Vport {
    silenceIpv6(interfaceName)
    const vport = this.#remember(index, interfaceName)
    try {
      attachPort(this.#links, index, this.#name, this.#programs.port)
      raiseLink(this.#links, index)
    } catch (error) {
      this.remove(index)
      throw error
    }
    return vport
  }

  #remember(index: number, name: string): Vport {
    this.#limits.keyWords[0] = index
    this.#limits.valueView.setBigUint64(0, 0n, true)
    this.#limits.update()
    const vport = { number: index, name }
    const straight = this.#ask(index)
    this.#ports.set(index, { vport, straight, askedAt: performance.now() })
    return vport
  }

  #ask(index: number): boolean {
    try {
      return isPeerElsewhere(this.#links, index)
    } catch {
      // Gone meanwhile: `list` will see it.
      return false
    }
  }
}
