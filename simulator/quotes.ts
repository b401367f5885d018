/** The id or quote of the ICMP message in hand: as received, and what translations make of it. */
import type { Words6 } from '../packet/address6.ts'
import { fragLater } from '../packet/flow-key.ts'
import { isIcmpErrorType } from '../packet/icmp.ts'
import { type IcmpQuote, readIcmpQuote, writeIcmpQuote } from '../packet/icmp-quote.ts'
import { type Icmpv6Quote, readIcmpv6Quote, writeIcmpv6Quote } from '../packet/icmpv6-quote.ts'
import type { AddressBook } from './address-book.ts'
import { isIp } from './condition.ts'
import { type Simulation, word } from './simulation.ts'

const ethertypeIpv6 = 0x86dd
const protocols = { icmp: 1, icmpv6: 58 } as const

export class Quotes {
  #isRead = false
  #quote: IcmpQuote | undefined
  /** As received; addresses of IPv6 are numbers in the book here as well. */
  #received: IcmpQuote | undefined
  #received6: Icmpv6Quote | undefined
  #book: AddressBook | undefined

  clear(): void {
    this.#isRead = false
    this.#quote = undefined
    this.#received = undefined
    this.#received6 = undefined
    this.#book = undefined
  }

  get current(): IcmpQuote | undefined {
    return this.#quote
  }

  /** Undefined when there is none or the bytes are not at hand. */
  read(packet: Uint8Array | undefined, isIpv6: boolean, book: AddressBook | undefined) {
    if (this.#isRead || packet === undefined) return this.#quote
    this.#isRead = true
    if (isIpv6) this.#read6(packet, book)
    else this.#received = readIcmpQuote(packet)
    this.#quote = this.#received && { ...this.#received }
    return this.#quote
  }

  #read6(packet: Uint8Array, book: AddressBook | undefined): void {
    const quote = readIcmpv6Quote(packet)
    this.#book = book
    this.#received6 = quote
    if (quote === undefined) return
    const [src, dst] = [quote.src, quote.dst].map((words) => book?.numberOf(...words) ?? 0)
    this.#received = { ...quote, src: src ?? 0, dst: dst ?? 0 }
  }

  /** What the id or quote has become; undefined when it is as received. */
  get changed(): IcmpQuote | undefined {
    const [now, then] = [this.#quote, this.#received]
    if (now === undefined || then === undefined) return undefined
    const isSame = now.src === then.src && now.dst === then.dst && now.ports === then.ports
    return isSame ? undefined : now
  }

  /** The packet with the id or quote that it has now. */
  rewrite(packet: Uint8Array): Uint8Array {
    const quote = this.changed
    if (quote === undefined) return packet
    const six = this.#received6
    if (six === undefined) return writeIcmpQuote(packet, quote)
    const { kind, protocol, isRequest, ports } = quote
    const src = this.wordsOf(quote.src) ?? six.src
    const dst = this.wordsOf(quote.dst) ?? six.dst
    return writeIcmpv6Quote(packet, { kind, protocol, isRequest, src, dst, ports })
  }

  /** The address of IPv6 that a number in the quote stands for. */
  wordsOf(number: number): Words6 | undefined {
    return this.#book?.wordsOf(number)
  }
}

/** Whether the packet is ICMP of its version of IP, and no later fragment. */
export function isIcmp(sim: Simulation): boolean {
  if (!isIp(sim)) return false
  sim.seeProtocol()
  const { work } = sim
  const expected = work[8] === ethertypeIpv6 ? protocols.icmpv6 : protocols.icmp
  if ((word(work, 9) & 0xff) !== expected) return false
  sim.seeFragment()
  return word(work, 9) >>> 24 !== fragLater
}

/** Whether the packet is an ICMP error. */
export function isIcmpError(sim: Simulation): boolean {
  if (!isIcmp(sim)) return false
  sim.seeTpSrc()
  const type = word(sim.work, 18) & 0xffff
  return sim.work[8] === ethertypeIpv6 ? type < 128 : isIcmpErrorType(type)
}
