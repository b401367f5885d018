/** The vports: interfaces taken into the datapath, each with a socket for its upcalls. */
import { DatapathError, type Vport } from '../datapath.ts'
import { borrow, giveBack } from '../lending.ts'
import { NetlinkError, NetlinkSocket } from '../netlink.ts'
import { raiseLink, routeProtocol, silenceIpv6 } from '../rtnetlink.ts'
import { close, errnoName, interfaceIndex, interfaceName } from '../syscall.ts'
import { openUpcallSocket, portIdOf, type Receiver } from './channel.ts'
import type { Module } from './module.ts'
import { vportInternal, vportNetdev, vportsMax } from './protocol.ts'

interface Port {
  readonly vport: Vport
  readonly type: number
  readonly ifindex: number
  readonly fd: number
}

export class VportTable {
  /** The datapath's own port id: those of vports follow from it. */
  readonly #ownId: number
  readonly #module: Module
  readonly #receiver: Receiver
  readonly #links = new NetlinkSocket(routeProtocol)
  readonly #ports = new Map<number, Port>()
  /** Takes upcalls that belong to no vport; and while it is open, no other agent can start. */
  readonly #own: number

  /** @throws DatapathError `EBUSY` */
  constructor(name: string, module: Module, receiver: Receiver) {
    this.#ownId = portIdOf(name)
    this.#module = module
    this.#receiver = receiver
    this.#own = openUpcallSocket(this.#ownId)
    receiver.add(this.#own)
    silenceIpv6(name)
    for (const { number, type, name: interfaceName, ifindex } of module.vports()) {
      const fd = this.#openSocket(number)
      module.directVport(number, this.#ownId | number)
      this.#ports.set(number, { vport: { number, name: interfaceName }, type, ifindex, fd })
    }
  }

  /** @throws DatapathError `ENODEV` */
  add(name: string): Vport {
    const index = interfaceIndex(name)
    if (index < 0)
      throw new DatapathError(errnoName(-index), `no interface ${name}: create it first`)
    for (const port of this.#ports.values())
      if (port.ifindex === index && port.vport.name === name) return port.vport
    this.#borrow(index, name)
    silenceIpv6(name)
    const port = this.#take(name, index)
    this.#ports.set(port.vport.number, port)
    this.#raise(index)
    return port.vport
  }

  /** Makes an interface that ends here; it goes with its vport. @throws DatapathError `EEXIST` */
  addInternal(name: string): Vport {
    for (const { vport, ifindex } of this.#ports.values())
      if (vport.name === name && interfaceName(ifindex) === name) return vport
    if (interfaceIndex(name) >= 0)
      throw new DatapathError('EEXIST', `there is an interface ${name}: choose another name`)
    const port = this.#takeFree(name, this.#free(), vportInternal)
    this.#ports.set(port.vport.number, port)
    silenceIpv6(name)
    this.#raise(port.ifindex)
    return port.vport
  }

  remove(number: number): void {
    const port = this.#ports.get(number)
    if (port === undefined) return
    this.#ports.delete(number)
    this.#module.removeVport(number)
    giveBack(this.#links, port.ifindex)
    close(port.fd)
  }

  /** Those that still exist: with an interface the kernel removes its vport. */
  list(): readonly Vport[] {
    for (const [number, { ifindex, fd }] of this.#ports) {
      if (interfaceName(ifindex) !== undefined) continue
      this.#ports.delete(number)
      close(fd)
    }
    return [...this.#ports.values()].map(({ vport }) => vport)
  }

  /** The port id that packets of a vport are handed over to. */
  portId(number: number): number {
    return this.#ports.has(number) ? this.#ownId | number : this.#ownId
  }

  /** The index of the interface that a vport sends by; 0 when its frames end in the module. */
  wireOf(number: number): number {
    const port = this.#ports.get(number)
    return port?.type === vportNetdev ? port.ifindex : 0
  }

  close(): void {
    for (const { fd } of this.#ports.values()) close(fd)
    close(this.#own)
    this.#links.close()
  }

  /** The interface's own index as number, where it is small enough and free; else what is free. */
  #take(name: string, index: number): Port {
    return this.#takeFree(name, [index, ...this.#free()], vportNetdev)
  }

  #takeFree(name: string, numbers: Iterable<number>, type: number): Port {
    let refusal: DatapathError | undefined
    for (const number of numbers) {
      if (number >= vportsMax || this.#ports.has(number)) continue
      const fd = this.#openSocket(number)
      try {
        const made = this.#module.createVport(name, number, this.#ownId | number, type)
        return { vport: { number: made.number, name }, type, ifindex: made.ifindex, fd }
      } catch (error) {
        close(fd)
        // Another vport has this number, which only somebody else can have made.
        if (!(error instanceof DatapathError) || error.code !== 'EBUSY') throw error
        refusal = error
      }
    }
    throw refusal ?? new DatapathError('ENOSPC', `${name}: ${vportsMax} vports are in use`)
  }

  *#free(): Iterable<number> {
    let left = triesMax
    for (let number = vportsMax - 1; number > 0 && left > 0; number--)
      if (!this.#ports.has(number)) {
        left--
        yield number
      }
  }

  #openSocket(number: number): number {
    const fd = openUpcallSocket(this.#ownId | number)
    this.#receiver.add(fd)
    return fd
  }

  #borrow(index: number, name: string): void {
    try {
      borrow(this.#links, index, name, false)
    } catch (error) {
      if (!(error instanceof NetlinkError)) throw error
      throw new DatapathError(error.code, error.message, { cause: error })
    }
  }

  #raise(index: number): void {
    try {
      raiseLink(this.#links, index)
    } catch (error) {
      if (!(error instanceof NetlinkError)) throw error
      throw new DatapathError(error.code, error.message, { cause: error })
    }
  }
}

/** Numbers tried from the top when an interface's index cannot be its vport's number. */
const triesMax = 4
