/**
 * What translation has made of the first fragments of datagrams, for the later ones, which have no
 * ports to look a connection up by: they follow the first one.
 *
 * Bounded in number and time; as for whoever puts datagrams together (RFC 791, RFC 8200: a minute
 * at most), what comes too late is lost.
 */
import type { AddressBook } from './address-book.ts'
import { type Tuple, TupleTable } from './tuple-table.ts'

export const limits = {
  /** Datagrams remembered; further ones push out the oldest. */
  datagrams: 4096,
  /** As long as Linux waits for a datagram's fragments. */
  ageMs: 30_000,
} as const

/** A datagram as it came to a rule, `ports` its Identification, and the address it got there. */
export interface FragmentTrack extends Tuple {
  readonly isSource: boolean
  /** An IPv4 address, or a number in `book`. */
  readonly address: number
  /** Of IPv6. */
  readonly book: AddressBook | undefined
}

export class FragmentTable {
  readonly #tracks = new TupleTable<FragmentTrack>()
  /** In the order they came, each with its time. */
  readonly #ages = new Map<FragmentTrack, number>()

  get size(): number {
    return this.#ages.size
  }

  find(zone: number, src: number, dst: number, id: number): FragmentTrack | undefined {
    return this.#tracks.find(zone, src, dst, id)
  }

  /** An Identification comes again after a while: the newest datagram counts. */
  add(track: FragmentTrack, nowMs: number): void {
    const old = this.#tracks.find(track.zone, track.src, track.dst, track.ports)
    if (old !== undefined) this.#remove(old)
    const [oldest] = this.#ages.keys()
    if (oldest !== undefined && this.#ages.size >= limits.datagrams) this.#remove(oldest)
    this.#tracks.add(track)
    this.#ages.set(track, nowMs)
    for (const number of numbersOf(track)) track.book?.hold(number)
  }

  sweep(nowMs: number): void {
    for (const [track, sinceMs] of this.#ages) {
      if (nowMs - sinceMs < limits.ageMs) return
      this.#remove(track)
    }
  }

  #remove(track: FragmentTrack): void {
    this.#tracks.delete(track)
    this.#ages.delete(track)
    for (const number of numbersOf(track)) track.book?.release(number)
  }
}

function numbersOf({ src, dst, address }: FragmentTrack): readonly number[] {
  return [src, dst, address]
}
